"""What is made of the measurements: figures beside those of peers, a table, and a JSON file."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from runs import Result
from world import ROUND_TRIP


def _rate(result: Result) -> float:
    return result["chunks"] / result["seconds"]


def _completions(result: Result) -> float:
    return result["completions"] / result["seconds"]


def _cpu(result: Result) -> float:
    return result["cpu_seconds"] / result["chunks"] * 1e6


@dataclass(frozen=True)
class Measure:
    """A number out of a result."""

    of: Callable[[Result], float]
    unit: str
    higher_is_better: bool = False


RATE = Measure(_rate, "chunks/s", True)
COMPLETIONS = Measure(_completions, "/s", True)
CPU = Measure(_cpu, "µs/chunk")
SECONDS = Measure(lambda result: result["seconds"], "s")
FIRST = Measure(lambda result: result["first_seconds"] * 1e3, "ms")
IMPORT = Measure(lambda result: result["seconds"] * 1e3, "ms")
MANY = Measure(lambda result: _rate(result["many"]), "chunks/s", True)
FEW = Measure(lambda result: _rate(result["few"]), "chunks/s", True)
PACED = Measure(lambda result: result["paced_seconds"], "s")
MEMORY = Measure(lambda result: result["bytes_per_stream"] / 1024, "KiB")
FULL = Measure(lambda result: result["full"] * 1e6, "µs/token")
PUSHED = Measure(lambda result: result["paced"] * 1e6, "µs/token")

# The measures of each run; compare.py compares ours.
MEASURES: dict[str, dict[str, Measure]] = {
    "stream": {"rate": RATE, "cpu": CPU},
    "stream-block": {"rate": RATE, "cpu": CPU},
    "attributes": {"rate": RATE},
    "stream-async": {"rate": RATE, "cpu": CPU},
    "far": {"total": SECONDS, "cpu": CPU},
    "first": {"first": FIRST},
    "first-far": {"first": FIRST},
    "round-trip": {"first": FIRST},
    "complete": {"rate": COMPLETIONS},
    "complete-64": {"rate": COMPLETIONS},
    "complete-1-async": {"rate": COMPLETIONS},
    "many": {"rate": MANY, "few": FEW, "paced": PACED, "memory": MEMORY},
    "import": {"time": IMPORT},
    "backend": {"full": FULL, "pushed": PUSHED},
    "real": {"rate": RATE},
}


@dataclass(frozen=True)
class Row:
    """A line of the table: ours, beside a peer's.

    Args:
        figure: what it is about.
        run: where the numbers come from.
        measure: which of them.
        peer: whom to compare with; None: nobody.
        sign: ">=" or "<="; None if nothing has to be reached.
        target: what the ratio has to reach; without a peer, ours itself.
        ours: who we are.
        difference: compare by the difference and not by the ratio.
        peer_measure: what is compared with, if it is something else.
        allowed: another run of psycopg's, whose measure is taken off the difference.
    """

    figure: str
    run: str
    measure: str
    peer: str | None = None
    sign: str | None = None
    target: float = math.nan
    ours: str = "pgml"
    difference: bool = False
    peer_measure: str | None = None
    allowed: str | None = None


ROWS = [
    Row("streamed, sync", "stream", "rate", "pgml 1.1.1", ">=", 15),
    Row("", "stream", "rate", "openai", ">=", 12),
    Row("", "stream", "rate", "psycopg", ">=", 0.8),
    Row("  every text read as an attribute", "attributes", "rate", "openai"),
    Row("streamed, async", "stream-async", "rate", "pgml 1.1.1", ">=", 12),
    Row("", "stream-async", "rate", "openai", ">=", 10),
    Row("", "stream-async", "rate", "psycopg"),
    Row("", "stream-async", "rate", "asyncpg"),
    Row("CPU of Python's process, sync", "stream", "cpu", "openai", "<=", 1 / 12),
    Row("", "stream", "cpu", "pgml 1.1.1"),
    Row("", "stream", "cpu", "psycopg"),
    Row("  async", "stream-async", "cpu", "openai", "<=", 1 / 12),
    Row("  tokens 10 ms apart", "far", "cpu", "openai"),
    Row(f"over {ROUND_TRIP} ms, tokens 10 ms apart", "far", "total", "engine", "<=", 1.05),
    Row("", "far", "total", "pgml 1.1.1"),
    Row("", "far", "total", "openai"),
    Row("", "far", "total", "psycopg"),
    Row("first token, here", "first", "first", "engine", "<=", 1, difference=True),
    Row("", "first", "first", "psycopg", difference=True),
    Row("", "first", "first", "openai", difference=True),
    Row(
        f"first token, over {ROUND_TRIP} ms, less a round trip",
        "first-far", "first", "engine", "<=", 1, difference=True, allowed="round-trip",
    ),
    Row("", "first-far", "first", "psycopg", difference=True),
    Row("  the round trip", "round-trip", "first", ours="psycopg"),
    Row("completions, sync, one connection", "complete", "rate", "psycopg", ">=", 1),
    Row("", "complete", "rate", "openai"),
    Row("completions, async, one connection", "complete-1-async", "rate", "psycopg", ">=", 1),
    Row("", "complete-1-async", "rate", "asyncpg", ">=", 1),
    Row("completions, async, 64 at a time", "complete-64", "rate", "psycopg", ">=", 1),
    Row("", "complete-64", "rate", "asyncpg", ">=", 1),
    Row("", "complete-64", "rate", "openai"),
    Row("1,000 streams (peer: 16)", "many", "rate", "pgml", ">=", 0.9, peer_measure="few"),
    Row("  at 20 tokens/s each, 1.95 s", "many", "paced"),
    Row("  memory for each", "many", "memory"),
    Row("import", "import", "time", None, "<=", 25),
    Row("", "import", "time", "openai", "<=", 1 / 20),
    Row("", "import", "time", "pgml 1.1.1"),
    Row("CPU of the backend, all at once", "backend", "full", ours="psycopg"),
    Row("  pushed one by one", "backend", "pushed", ours="psycopg"),
    Row("real model, 8 streams", "real", "rate", "engine", ">=", 0.98),
    Row("", "real", "rate", "openai"),
    Row("openai, HTTP chunks of 64 kB", "stream-block", "rate", ours="openai"),
]  # fmt: skip


@dataclass
class Results:
    """The results of each run, by peer, one for each round; None where one failed."""

    of: dict[str, dict[str, list[Result | None]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def series(self, run: str, peer: str, measure: str) -> list[float | None]:
        """A number of each round."""
        of = MEASURES[run][measure].of
        results = self.of.get(run, {}).get(peer, [])
        return [None if result is None else of(result) for result in results]


@dataclass(frozen=True)
class Summary:
    """Several rounds in one line."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Summary | None:
        """Sum up; None where there is nothing."""
        known = [value for value in values if value is not None]
        return cls(statistics.median(known), min(known), max(known)) if known else None


@dataclass(frozen=True)
class Line:
    """A row with its numbers."""

    row: Row
    unit: str
    ours: Summary | None
    peer: Summary | None
    ratio: Summary | None
    met: bool | None

    @classmethod
    def of(cls, row: Row, results: Results) -> Line:
        """Compare round by round, so that what slows down both counts for neither."""
        ours = results.series(row.run, row.ours, row.measure)
        peer: list[float | None] = []
        ratio: list[float | None] = []
        if row.peer:
            peer = results.series(row.run, row.peer, row.peer_measure or row.measure)
            allowed: Sequence[float | None] = [0.0] * len(ours)
            if row.allowed:
                allowed = results.series(row.allowed, "psycopg", row.measure) or allowed
            for own, other, off in zip(ours, peer, allowed, strict=True):
                if own is not None and other is not None and off is not None:
                    ratio.append(own - other - off if row.difference else own / other)
        decisive = Summary.of(ratio if row.peer else ours)
        met = None
        if row.sign and decisive:
            reached = decisive.median >= row.target
            met = reached if row.sign == ">=" else decisive.median <= row.target
        unit = MEASURES[row.run][row.measure].unit
        return cls(row, unit, Summary.of(ours), Summary.of(peer), Summary.of(ratio), met)


# How it is shown --------------------------------------------------------------------------------


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _spread(summary: Summary | None) -> str:
    if summary is None:
        return ""
    if summary.low == summary.high:
        return _number(summary.median)
    return f"{_number(summary.median)} ({_number(summary.low)}-{_number(summary.high)})"


def _cells(line: Line) -> list[str]:
    row = line.row
    unit = f" {line.unit}" if row.difference else " x"
    target = ""
    if row.sign:
        shown = f"1/{1 / row.target:.0f}" if row.target < 0.5 else f"{row.target:g}"
        of_unit = unit if row.peer else f" {line.unit}"
        target = f"{'≥' if row.sign == '>=' else '≤'} {shown}{of_unit}"
    ratio = _spread(line.ratio)
    return [
        row.figure,
        f"{_spread(line.ours)} {line.unit}" if line.ours else "",
        row.peer or "",
        _spread(line.peer),
        f"{'+' if row.difference and line.ratio and line.ratio.median > 0 else ''}{ratio}{unit}"
        if ratio
        else "",
        target,
        {None: "", True: "yes", False: "MISSED"}[line.met],
    ]


def table(lines: Sequence[Line]) -> str:
    """All lines under one another."""
    head = ["figure", "ours: median (low-high)", "peer", "peer's", "compared", "target", "met"]
    cells = [head, *map(_cells, lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    texts = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    return "\n".join([texts[0], "-" * len(texts[0]), *texts[1:]])


def report(results: Results, lines: Sequence[Line], about: dict[str, Any]) -> dict[str, Any]:
    """What the JSON file holds."""
    measures = {}
    for run, of_peers in results.of.items():
        for peer in of_peers:
            for name, one in MEASURES[run].items():
                values = results.series(run, peer, name)
                summary = Summary.of(values)
                if summary:
                    measures[f"{run}/{name}/{peer}"] = {
                        "unit": one.unit,
                        "higher_is_better": one.higher_is_better,
                        "values": values,
                        **asdict(summary),
                    }
    rows = [
        {
            **{key: value for key, value in asdict(line.row).items() if value == value},  # no NaN
            "unit": line.unit,
            "ours_value": line.ours and asdict(line.ours),
            "peer_value": line.peer and asdict(line.peer),
            "compared": line.ratio and asdict(line.ratio),
            "met": line.met,
        }
        for line in lines
    ]
    return {**about, "rows": rows, "measures": measures, "failures": results.failures}
