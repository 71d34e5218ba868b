"""A proxy of the tests' own, on loopback: a network between two peers that can be made to fail.

What comes from the server may be trickled or cut; everything may be stalled, reset or refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from typing import Any

from engine import PATIENCE

Address = str | tuple[str, int]  # a Unix socket, or host and port


class Proxy:
    """Listens on a port of 127.0.0.1, and connects to `target` for each connection it gets."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing: asyncio.Event
        self._step: int | None = None
        self._left: int | None = None
        self._last_words: bytes | None = None
        self.passed = 0
        """How many bytes have been passed on from the server."""

    def start(self) -> int:
        """Listen, and return the port."""
        self._thread.start()
        self.port: int = self._run(self._listen())
        return self.port

    def stop(self) -> None:
        self._run(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def stall(self) -> None:
        """Pass nothing on, in either direction, not even that a peer has closed."""
        self._call(lambda: self._flowing.clear())

    def stall_at(self, words: bytes) -> None:
        """Stall when these words come from the client, before they are passed on."""
        self._last_words = words

    def resume(self) -> None:
        self._last_words = None
        self._call(lambda: self._flowing.set())

    def trickle(self) -> None:
        """From now on pass one byte at a time on from the server."""
        self._step = 1

    def cut_after(self, count: int | None) -> None:
        """Break each connection once so many bytes, over all, have come from the server."""
        self._left = count

    def reset(self) -> None:
        """Break all connections that there are."""
        self._call(lambda: [_break(writer) for writer in [*self._writers]])

    def _call(self, function: Any) -> None:
        async def call() -> None:
            function()

        self._run(call())

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    async def _listen(self) -> int:
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def _shut_down(self) -> None:
        self._server.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = {writer}
        try:
            if isinstance(self._target, str):
                far_reader, far = await asyncio.open_unix_connection(self._target)
            else:
                far_reader, far = await asyncio.open_connection(*self._target)
            writers.add(far)
            self._writers |= writers
            requests = asyncio.create_task(self._pass_on(reader, far))
            answers = asyncio.create_task(self._pass_back(far_reader, writer))
            try:
                await asyncio.wait({requests, answers}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in (requests, answers):
                    direction.cancel()
                await asyncio.gather(requests, answers, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers -= writers
            self._tasks.discard(task)
            for each in writers:
                each.close()
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await each.wait_closed()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self._last_words and self._last_words in data:
                self._flowing.clear()
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        await self._flowing.wait()

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            step = self._step or len(data)
            for start in range(0, len(data), step):
                await self._flowing.wait()
                part = data[start : start + step]
                if self._left is not None:
                    part = part[: self._left]
                    self._left -= len(part)
                writer.write(part)
                await writer.drain()
                self.passed += len(part)
                if self._left == 0:
                    _break(writer)
                    return
        await self._flowing.wait()


def _break(writer: asyncio.StreamWriter) -> None:
    """Close a connection as a broken one is closed, by a reset where there is such a thing."""
    raw = writer.get_extra_info("socket")
    if raw.family != socket.AF_UNIX:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
