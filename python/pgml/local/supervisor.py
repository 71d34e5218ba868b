"""The supervisor: starts PostgreSQL and the engines of one home, and ends with them.

Run as `python -m pgml.local.supervisor`, by `control.launch` only. One process, one thread, one
event loop; whatever it starts dies with it. It does not restart what dies: it stops everything,
and the next `start()` puts things right from a clean slate.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import control
from .errors import LocalInstanceError
from .home import Home
from .instance import Instance
from .models import Model

# How long a request, or the wait for one, may hold up the end.
_ANSWER_PATIENCE = 2.0


class Supervisor:
    """Answers requests on the control socket for as long as the instance lives."""

    def __init__(self, home: Home, default: Model) -> None:
        self._home = home
        self._instance = Instance(home, default, self._say)
        self._started: asyncio.Task[None]
        self._stop = asyncio.Event()
        self._heard = asyncio.Event()
        # Held while the database is changed.
        self._changing = asyncio.Lock()
        self._answering: set[asyncio.Task[None]] = set()
        # Who gets to hear what is being done, and what has been said during the start.
        self._listeners: set[asyncio.StreamWriter] = set()
        self._said: list[str] = []
        # Never closed: whoever asked for the stop reads until the process is gone.
        self._farewells: list[asyncio.StreamWriter] = []

    async def run(self, announce: Callable[[bytes], None]) -> None:
        """Start everything; serve until told to stop, or until a child dies; stop everything."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        self._started = asyncio.create_task(self._start())
        self._home.control.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._accept, self._home.control, backlog=1000)
        announce(b"listening")
        try:
            await self._serve()
        finally:
            # From here on a start() finds nobody, and waits for the lock.
            server.close()
            self._home.control.unlink(missing_ok=True)
            self._started.cancel()
            await self._instance.stop()
            if self._answering:
                await asyncio.wait(self._answering, timeout=_ANSWER_PATIENCE)
            for writer in self._farewells:
                _send(writer, ok={})
                await _flush(writer)

    async def _start(self) -> None:
        with _operating_system_errors():
            await self._instance.start()

    async def _serve(self) -> None:
        """Return when there is a reason to stop, having logged it."""
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait({self._started, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if self._started.done() and (error := self._started.exception()):
            print(f"cannot start: {error}", file=sys.stderr)
            # The starter may not have asked yet, and would learn nothing from a closed door.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._heard.wait(), _ANSWER_PATIENCE)
            if not isinstance(error, LocalInstanceError):
                raise error
            return
        failed = asyncio.create_task(self._instance.failure())
        await asyncio.wait({failed, stopped}, return_when=asyncio.FIRST_COMPLETED)
        reason = failed.result() if failed.done() else "told to"
        print(f"stopping: {reason}", file=sys.stderr)

    def _say(self, text: str) -> None:
        if not self._started.done():
            self._said.append(text)
        for writer in self._listeners:
            _send(writer, progress=text)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, uid = control.peer(writer.get_extra_info("socket"))
        if uid not in (0, os.geteuid()):
            writer.close()
            return
        try:
            _send(writer, hello=os.getpid())
            request = json.loads(await reader.readline())
            if request["command"] == "stop":
                self._farewells.append(writer)
                self._stop.set()
                return
        except (ValueError, KeyError, ConnectionError):
            writer.close()  # who connects and says nothing, or nonsense, gets nothing
            return
        self._heard.set()
        task = asyncio.create_task(self._answer(request, writer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, request: dict[str, str], writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._obey(request, writer)
            # No answer says what is true by then: there is no instance.
            if not self._instance.has_failed():
                _send(writer, ok=answer)
        except LocalInstanceError as error:
            _send(writer, error=str(error))
        finally:
            self._listeners.discard(writer)
            await _flush(writer)
            writer.close()

    async def _obey(self, request: dict[str, str], writer: asyncio.StreamWriter) -> dict[str, Any]:
        if request["command"] == "status":
            return {**self._instance.status(), "ready": self._started.done()}
        if not self._started.done():
            for text in self._said:
                _send(writer, progress=text)
        self._listeners.add(writer)
        # Waited for, not awaited: an answer that is given up must not end everybody's start.
        await asyncio.wait({self._started})
        if self._started.cancelled():
            raise LocalInstanceError("the local instance was stopped while it was starting")
        self._started.result()
        with _operating_system_errors():
            await self._instance.settle()
            if request["command"] == "repair":
                async with self._changing:
                    await self._instance.repair()
            if request["command"] == "add":
                model = Model(request["name"], Path(request["path"]), request["source"])
                async with self._changing:
                    await self._instance.add(model)
        return {**self._instance.status(), "ready": True}


@contextlib.contextmanager
def _operating_system_errors() -> Generator[None]:
    """Let a full disk, say, reach the caller as a message rather than as silence."""
    try:
        yield
    except OSError as error:
        raise LocalInstanceError(f"the operating system refused: {error}") from error


def _send(writer: asyncio.StreamWriter, **answer: object) -> None:
    if not writer.is_closing():
        writer.write(json.dumps(answer).encode() + b"\n")


async def _flush(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):  # the sender has left
        await writer.drain()


def main(argv: Sequence[str] | None = None) -> int:
    """Take the home's lock, announce what came of it, and supervise."""
    parser = argparse.ArgumentParser(prog="pgml.local.supervisor")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--sockets", type=Path, required=True)
    parser.add_argument("--announce", type=int, required=True, help="a file descriptor")
    parser.add_argument("--name", required=True, help="of the default model")
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--source", required=True)
    args = parser.parse_args(argv)
    home = Home(args.home, args.sockets)

    # The starter's child ends at once, so that nobody has to wait for the supervisor's own end.
    if os.fork():
        os._exit(0)
    os.umask(0o077)
    os.set_inheritable(args.announce, False)

    def announce(word: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # the starter has died; others will find us
            os.write(args.announce, word)
        os.close(args.announce)

    lock = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        announce(b"busy")
        return 0
    asyncio.run(_supervise(home, Model(args.name, args.path, args.source), announce))
    return 0


async def _supervise(home: Home, model: Model, announce: Callable[[bytes], None]) -> NoReturn:
    supervisor = Supervisor(home, model)
    await supervisor.run(announce)
    sys.stderr.flush()
    # At once, with the connections of those who asked for the stop still open: they take a closed
    # one for the end of the process, and Python would tidy up first.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
