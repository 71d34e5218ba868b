"""Says what of ours got slower, or faster, between two results of run.py.

    compare.py OLD.json NEW.json

Something changed if the two rounds' values do not overlap, and the medians are more than 3 % apart.
Exits with 1 if something got slower.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OURS = ("/pgml", "backend/full/psycopg", "backend/pushed/psycopg")
NOTEWORTHY = 0.03


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    old, new = (json.loads(Path(path).read_text()) for path in sys.argv[1:])
    if old["machine"].rpartition(", load")[0] != new["machine"].rpartition(", load")[0]:
        print(f"two machines: {old['machine']} and {new['machine']}")
    worse = 0
    for name, before in old["measures"].items():
        after = new["measures"].get(name)
        if after is None or not name.endswith(OURS):
            continue
        change = after["median"] / before["median"] - 1
        direction = _direction(before, after)
        worse += direction < 0
        word = {-1: "slower", 0: "", 1: "faster"}[direction]
        unit = before["unit"]
        numbers = f"{before['median']:12,.4g} → {after['median']:12,.4g} {unit:9}"
        print(f"{name.removesuffix('/pgml'):24} {numbers} {change:+7.1%}  {word}")
    return 1 if worse else 0


def _direction(before: dict[str, Any], after: dict[str, Any]) -> int:
    """1 if it got better, -1 if it got worse, 0 if that cannot be said."""
    if abs(after["median"] / before["median"] - 1) < NOTEWORTHY:
        return 0
    more = after["low"] > before["high"]
    less = after["high"] < before["low"]
    if not (more or less):
        return 0
    return 1 if more == before["higher_is_better"] else -1


if __name__ == "__main__":
    sys.exit(main())
