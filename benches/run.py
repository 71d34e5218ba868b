"""`make bench`: how fast we are, beside others, measured in the same run on the same machine.

    .venv/bin/python benches/run.py [--rounds N] [--only NAME]… [--quick] [--json PATH]

Everything is measured in several rounds: in each, every peer has its turn, in a process of its
own, which first checks that the text it gets is the engine's. Prints one table; the JSON file has
every measurement, for compare.py.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path

from figures import ROWS, Line, Results, report, table
from runs import QUICK, Result, Run, Size, runs
from world import PEER, FailedError, World, measure, world


def gather(world: World, chosen: dict[str, Run], size: Size) -> Results:
    """Measure everything, round by round."""
    results = Results()
    for number in range(size.rounds):
        for name, run in chosen.items():
            # Nobody is always the first, or always comes after the same one.
            turn = number % len(run.peers)
            for peer in [*run.peers[turn:], *run.peers[:turn]]:
                began = time.perf_counter()
                result = None
                try:
                    result = _measure(world, name, run, peer, size)
                except FailedError as error:
                    results.failures.append(f"{name}: {error}")
                    print(results.failures[-1], file=sys.stderr)
                results.of.setdefault(name, {}).setdefault(peer, []).append(result)
                took = time.perf_counter() - began
                print(f"round {number + 1}: {name}, {peer}: {took:.1f} s", file=sys.stderr)
    return results


def _measure(world: World, name: str, run: Run, peer: str, size: Size) -> Result:
    if name != "import":
        return measure(peer, run.job(world, peer), run.program)
    # A single import is soon done and varies much.
    times = [measure(peer, run.job(world, peer), run.program) for _ in range(size.imports)]
    return {"seconds": statistics.median(result["seconds"] for result in times)}


def main() -> int:
    parser = argparse.ArgumentParser(description="How fast we are, beside others.")
    parser.add_argument("--rounds", type=int, help=f"default: {Size().rounds}")
    parser.add_argument("--only", action="append", metavar="NAME", help="a measurement; repeatable")
    parser.add_argument("--quick", action="store_true", help="a rough answer, soon")
    latest = Path(__file__).parent / "results" / "latest.json"
    parser.add_argument("--json", type=Path, default=latest, metavar="PATH")
    parser.add_argument("--profile", metavar="PATH", help="record the backend by perf: PATH-….data")
    args = parser.parse_args()
    size = QUICK if args.quick else Size()
    if args.rounds:
        size = Size(**{**asdict(size), "rounds": args.rounds})
    chosen = runs(size, args.profile)
    if args.only:
        if unknown := set(args.only) - set(chosen):
            parser.error(f"{', '.join(unknown)}: choose among {', '.join(chosen)}")
        chosen = {name: run for name, run in chosen.items() if name in args.only}
    for peer in {peer for run in chosen.values() for peer in run.peers}:
        PEER[peer].prepare()
    # Whoever ends us wants everything to end that we have started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.time()
    with world() as surroundings:
        results = gather(surroundings, chosen, size)
    lines = [Line.of(row, results) for row in ROWS if row.run in chosen]
    about = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(began)),
        "took_seconds": round(time.time() - began, 1),
        "size": asdict(size),
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "versions": surroundings.versions,
        "peers": [peer.requirement for peer in PEER.values() if peer.requirement],
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report(results, lines, about), indent=1) + "\n")
    print(table(lines))
    print(f"\n{about['machine']}; {size.rounds} rounds; all of it in {args.json}")
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
