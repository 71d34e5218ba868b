"""The engine asked directly, over a bare socket: the least that any client can do."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

from common import MESSAGES, Job, main


def request(job: Job, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    url = urlsplit(job["base_url"])
    head = (
        f"POST {url.path}/chat/completions HTTP/1.1\r\nHost: {url.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def text(line: bytes) -> str:
    """The text of an event. Each is one line, since none is cut by an HTTP chunk."""
    choices = json.loads(line[6:])["choices"]
    return (choices[0]["delta"].get("content") or "") if choices else ""


class Sync:
    text = staticmethod(text)
    count = None

    def __init__(self, job: Job) -> None:
        self._job = job
        url = urlsplit(job["base_url"])
        self._socket = socket.create_connection((url.hostname, url.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def stream(self, model: str) -> Iterator[bytes]:
        body = {"model": model, "messages": MESSAGES, "stream": True}
        self._socket.sendall(request(self._job, body))
        for line in self._file:
            if line.startswith(b"data: {"):
                yield line
            elif line == b"0\r\n":
                self._file.readline()
                return


class Async:
    text = staticmethod(text)
    count = None

    def __init__(self, job: Job) -> None:
        self._job = job

    async def stream(self, model: str, extra_body: Any = None, **body: Any) -> AsyncIterator[bytes]:
        body |= {"model": model, "stream": True, **(extra_body or {})}
        return self._lines(body)

    async def _lines(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        reader, writer = await asyncio.open_unix_connection(self._job["socket"])
        writer.write(request(self._job, body))
        async for line in reader:
            if line.startswith(b"data: {"):
                yield line
            elif line == b"0\r\n":
                break
        writer.close()


if __name__ == "__main__":
    main(Sync, Async)
