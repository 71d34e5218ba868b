"""A TCP proxy that holds every byte back for a while, as a long way would.

    proxy.py MS TARGET    prints its port, and serves until its standard input ends

MS is the delay each way; TARGET is the path of a Unix socket, or a port of this machine. Nothing is
ever held back for other bytes: what came together goes on together, MS later.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections import deque
from typing import Any


class End(asyncio.Protocol):
    """One end of a connection through the proxy."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._late: deque[tuple[float, bytes | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.other: End
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._hold(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._hold(None)

    def _hold(self, data: bytes | None) -> None:
        self._late.append((self._loop.time() + self._delay, data))
        if self._timer is None:
            self._timer = self._loop.call_at(self._late[0][0], self._pass_on)

    def _pass_on(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._late and self._late[0][0] <= now:
            _, data = self._late.popleft()
            if data is None:
                self.other.transport.close()
            else:
                self.other.transport.write(data)
        if self._late:
            self._timer = self._loop.call_at(self._late[0][0], self._pass_on)


class Near(End):
    """The client's end; it makes the other one."""

    def __init__(self, delay: float, target: str) -> None:
        super().__init__(delay)
        self._target = target

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        self.transport.pause_reading()
        self.other = End(self._delay)
        self.other.other = self
        if self._target.isdecimal():
            port = int(self._target)
            await self._loop.create_connection(lambda: self.other, "127.0.0.1", port)
        else:
            await self._loop.create_unix_connection(lambda: self.other, self._target)
        self.transport.resume_reading()


async def main(delay: float, target: str) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Near(delay, target), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    # select() waits to the microsecond; epoll would be up to a millisecond late each way.
    precise = asyncio.SelectorEventLoop(selectors.SelectSelector())
    precise.run_until_complete(main(float(sys.argv[1]) / 1000, sys.argv[2]))
