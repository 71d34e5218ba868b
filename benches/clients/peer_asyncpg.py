"""asyncpg, with the same SQL written by hand. It streams by fetching through a cursor."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
from common import Job, main
from peer_sql import body, count, text

STREAM = "SELECT pgml.chat_completion_stream($1::json, true)"
COMPLETION = "SELECT pgml.chat_completion($1::json)"


class Async:
    text = staticmethod(text)
    count = staticmethod(count)

    def __init__(self, job: Job) -> None:
        self._job = job

    async def connect(self) -> None:
        self._connections: list[Any] = []
        for _ in range(self._job.get("concurrent", 1)):
            self._connections.append(await asyncpg.connect(self._job["url"]))

    async def stream(self, model: str) -> AsyncIterator[Any]:
        return self._rows(model)

    async def _rows(self, model: str) -> AsyncIterator[Any]:
        connection = self._connections[0]
        async with connection.transaction():
            async for row in connection.cursor(STREAM, body(model), prefetch=50):
                yield row

    async def complete(self, model: str, worker: int) -> str:
        answer = await self._connections[worker].fetchval(COMPLETION, body(model))
        return json.loads(answer)["choices"][0]["message"]["content"]


if __name__ == "__main__":
    main(None, Async)
