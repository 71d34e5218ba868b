"""What those who write the SQL by hand share: the request, and what the rows hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from common import MESSAGES


def body(model: str) -> str:
    return json.dumps({"model": model, "messages": MESSAGES})


def text(row: Sequence[Any]) -> str:
    """The text of a row: a chunk, which may have the choices of several."""
    choices = json.loads(row[0])["choices"]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def count(row: Sequence[Any]) -> int:
    """The chunks in a row, without building anything."""
    value = row[0]
    return value.count(b'"delta":' if isinstance(value, bytes) else '"delta":')
