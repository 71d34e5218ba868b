"""A stand-in for an engine: an HTTP server that does what a test's script says, step by step.

A script is a list of steps, and every request takes the next script that the test has given:

* bytes: send them,
* a `threading.Event`: wait until the test sets it (it must have been made by `Engine.gate`),
* `CLOSE` or `RESET`: close the connection in good order, or break it,
* `HANG`: do nothing more until the peer disconnects.

After its last step a script closes the connection. Nothing here waits for time to pass.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Union

CLOSE, RESET, HANG = "close", "reset", "hang"
PATIENCE = 60.0  # seconds after which a test that waits has failed

Step = Union[bytes, str, "Gate"]


class Gate:
    """Something that a script waits for, and that the test opens."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()

    def open(self) -> None:
        self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        await self._event.wait()


@dataclass(eq=False)
class Exchange:
    """One request, and what became of its connection.

    `gone` says that the peer, not the script, has ended the connection.
    """

    steps: list[Step]
    method: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    arrived: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)

    def wait_arrived(self) -> None:
        assert self.arrived.wait(PATIENCE), "the engine was not asked"

    def wait_gone(self) -> None:
        self.wait_arrived()
        assert self.gone.wait(PATIENCE), "the connection to the engine was not closed"


class Engine:
    """The server, and the scripts that it still has to perform."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stand-in engine")
        self._scripts: deque[Exchange] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._idle = threading.Event()
        self._idle.set()
        self.asked = 0
        self._usual: list[Step] | None = None
        self.unexpected: list[str] = []

    def start(self, tls: ssl.SSLContext | None = None) -> int:
        """Listen, and return the port."""
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=tls))
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self.port

    def stop(self) -> None:
        self._run(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def gate(self) -> Gate:
        async def make() -> Gate:
            return Gate(self._loop)

        return self._run(make())

    def expect(self, *steps: Step | Iterable[Step]) -> Exchange:
        """Perform these steps for the next request that has no script yet."""
        exchange = Exchange(_flat(steps))
        self._loop.call_soon_threadsafe(self._scripts.append, exchange)
        return exchange

    def always(self, *steps: Step | Iterable[Step]) -> None:
        """Perform these steps for every request that has no script of its own."""
        self._usual = _flat(steps)

    def wait_idle(self) -> None:
        """Wait until no connection is open."""
        assert self._idle.wait(PATIENCE), "a connection to the engine was not closed"

    @property
    def left(self) -> int:
        """How many scripts nobody has asked for."""
        return len(self._scripts)

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    async def _shut_down(self) -> None:
        self._server.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Taken before anything is awaited, so that scripts go to connections in their order.
        exchange = self._scripts.popleft() if self._scripts else None
        if exchange is None and self._usual is not None:
            exchange = Exchange(self._usual)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections.add(task)
        self._idle.clear()
        try:
            await self._serve(exchange, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
            # After what abort() has put off to the loop's next turn: closing the socket.
            self._loop.call_soon(self._closed, task)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        if not self._connections:
            self._idle.set()

    async def _serve(
        self,
        exchange: Exchange | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        known = exchange or Exchange([error(500, "the test expects no such request")])
        try:
            await _read(known, reader)
        except BaseException:
            known.arrived.set()
            known.gone.set()
            raise
        if exchange is None:
            self.unexpected.append(f"{known.method} {known.path}")
        self.asked += 1
        known.arrived.set()
        script = asyncio.create_task(_perform(known, writer))
        end = asyncio.create_task(_end(reader))
        self._tasks |= {script, end}
        try:
            await asyncio.wait({script, end}, return_when=asyncio.FIRST_COMPLETED)
            # A script ends by itself, or by an error: it writes to somebody who has gone.
            if not script.done() or script.exception():
                known.gone.set()
        finally:
            script.cancel()
            end.cancel()
            self._tasks -= {script, end}
            await asyncio.gather(script, end, return_exceptions=True)


def _flat(steps: Iterable[Step | Iterable[Step]]) -> list[Step]:
    flat: list[Step] = []
    for step in steps:
        if isinstance(step, bytes | str | Gate):
            flat.append(step)
        else:
            flat.extend(step)
    return flat


async def _read(exchange: Exchange, reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    exchange.method, exchange.path, _ = first.split(" ")
    pairs = (line.split(":", 1) for line in lines)
    exchange.headers = {name.strip().lower(): value.strip() for name, value in pairs}
    body = await reader.readexactly(int(exchange.headers.get("content-length", 0)))
    exchange.body = json.loads(body) if body else None


async def _perform(exchange: Exchange, writer: asyncio.StreamWriter) -> None:
    for step in exchange.steps:
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
        elif isinstance(step, Gate):
            await step.wait()
        elif step == HANG:
            await asyncio.Event().wait()
        elif step == RESET:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            return
        elif step == CLOSE:
            break
    writer.close()
    await writer.wait_closed()


async def _end(reader: asyncio.StreamReader) -> None:
    """Return when the peer has closed or broken the connection."""
    try:
        while await reader.read(65536):
            pass
    except ConnectionError:
        pass


# What engines say ------------------------------------------------------------------------------


def head(status: int = 200, content_type: str = "text/event-stream", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def event(data: object) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return f"data: {text}\n\n".encode()


def chunk(content: str | None = None, finish_reason: str | None = None, **more: Any) -> bytes:
    """An event as llama.cpp sends it, under a name and an id of its own."""
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return event(
        {
            "id": "chatcmpl-engine",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "/models/engine-model.gguf",
            "system_fingerprint": "fp_engine",
            "choices": [choice],
            **more,
        }
    )


ROLE = event(
    {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}],
    }
)
DONE = event("[DONE]")


def usage(prompt: int, completion: int) -> bytes:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion}
    return event({"choices": [], "usage": {**counts, "total_tokens": prompt + completion}})


def ending(finish_reason: str = "stop", prompt: int = 7, completion: int = 2) -> list[Step]:
    return [chunk(finish_reason=finish_reason), usage(prompt, completion), DONE]


def answer(*contents: str, **last: Any) -> list[Step]:
    """A whole stream: these contents, one event each."""
    return [head(), ROLE, *(chunk(content) for content in contents), *ending(**last)]


def error(status: int, message: str, **headers: str) -> bytes:
    body = json.dumps({"error": {"message": message, "code": status, "type": "an_error"}})
    return (
        head(status, "application/json", Content_Length=str(len(body)), **headers) + body.encode()
    )
