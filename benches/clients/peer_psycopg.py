"""psycopg, with the same SQL written by hand. A stream's rows stay bytes: nothing is built."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
from common import Job, main
from peer_sql import body, count, text
from psycopg.types.string import ByteaBinaryLoader

STREAM = "SELECT pgml.chat_completion_stream(%s::json, true)"
COMPLETION = "SELECT pgml.chat_completion(%s::json)"


class Sync:
    text = staticmethod(text)
    count = staticmethod(count)

    def __init__(self, job: Job) -> None:
        self._connection = psycopg.connect(job["url"], autocommit=True)
        self._connection.prepare_threshold = 0
        self.pid = self._connection.info.backend_pid

    def stream(self, model: str) -> Iterator[tuple[bytes]]:
        with self._connection.cursor() as cursor:
            cursor.adapters.register_loader("json", ByteaBinaryLoader)
            yield from cursor.stream(STREAM, [body(model)], binary=True)

    def ping(self) -> None:
        self._connection.execute("SELECT 1")

    def complete(self, model: str, _: int) -> str:
        row = self._connection.execute(COMPLETION, [body(model)]).fetchone()
        return row[0]["choices"][0]["message"]["content"]


class Async:
    text = staticmethod(text)
    count = staticmethod(count)

    def __init__(self, job: Job) -> None:
        self._job = job

    async def connect(self) -> None:
        self._connections: list[Any] = []
        for _ in range(self._job.get("concurrent", 1)):
            connection = await psycopg.AsyncConnection.connect(self._job["url"], autocommit=True)
            connection.prepare_threshold = 0
            self._connections.append(connection)

    async def stream(self, model: str) -> AsyncIterator[tuple[bytes]]:
        cursor = self._connections[0].cursor()
        cursor.adapters.register_loader("json", ByteaBinaryLoader)
        return cursor.stream(STREAM, [body(model)], binary=True)

    async def complete(self, model: str, worker: int) -> str:
        cursor = await self._connections[worker].execute(COMPLETION, [body(model)])
        row = await cursor.fetchone()
        return row[0]["choices"][0]["message"]["content"]


if __name__ == "__main__":
    main(Sync, Async)
