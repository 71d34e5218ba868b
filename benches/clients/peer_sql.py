"""What those who write the SQL by hand share: the request, and what the rows hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from common import MESSAGES


def body(model: str) -> str:
    return json.dumps({"model": model, "messages": MESSAGES})


def text(row: Sequence[Any]) -> str:
    """The text of a row, which is a chunk or an array of chunks."""
    chunks = json.loads(row[0])
    if isinstance(chunks, dict):
        chunks = [chunks]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


def count(row: Sequence[Any]) -> int:
    """The chunks in a row, without building anything."""
    value = row[0]
    return value.count(b'"delta":' if isinstance(value, bytes) else '"delta":')
