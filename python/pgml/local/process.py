"""Child processes that never outlive the supervisor.

The supervisor stays single-threaded: a child is forked from its main thread, which is the thread
whose death the kernel watches for PR_SET_PDEATHSIG, and the hook that runs between fork and exec
cannot meet a lock that another thread held.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO

from .account import Account, Credentials
from .errors import LocalInstanceError
from .log import Log

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int, with_signal: signal.Signals) -> None:
    """Ask the kernel to send this process `with_signal` when its parent dies.

    A change of user id undoes it, so it belongs after one.

    Args:
        parent: the process id the parent had at the fork; another one now means that it has died
            in between, when the kernel would no longer tell.
        with_signal: what to send.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def environment(*more: str) -> dict[str, str]:
    """The variables for a child: few, for it runs longer than the shell whose secrets they are.

    Args:
        more: beginnings of the names to keep besides the usual.
    """
    kept = ("PATH", "HOME", "TZ", *more)
    return {name: value for name, value in os.environ.items() if name.startswith(kept)}


class Child:
    """A running child: its process, and a future for its exit status."""

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.process = process
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def wait(self) -> int:
        """Wait for its exit status."""
        # Shielded: who gives up waiting must not cancel the future itself.
        return await asyncio.shield(self.exited)

    async def stop(self, *steps: tuple[signal.Signals, float]) -> None:
        """Send the signals one after another, each with its time to work; SIGKILL is the last."""
        for step, patience in (*steps, (signal.SIGKILL, 60.0)):
            if self.exited.done():
                return
            self.process.send_signal(step)
            await asyncio.wait({self.exited}, timeout=patience)


class Children:
    """All children of this process; needs a running event loop in the main thread."""

    def __init__(self) -> None:
        self._alive: set[Child] = set()
        # Not asyncio's own child watchers: up to Python 3.11 they start a thread for every child.
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap)

    def reap(self) -> None:
        """Take note of the children that have ended; happens by itself, if a moment later."""
        for child in list(self._alive):
            status = child.process.poll()
            if status is not None:
                self._alive.discard(child)
                child.exited.set_result(status)

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: IO[bytes],
        account: Account | None = None,
        dies_by: signal.Signals = signal.SIGKILL,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
    ) -> Child:
        """Start a child.

        Args:
            name: what to call it in messages.
            argv: the program and its arguments.
            env: its environment.
            log: receives its standard error, and its standard output unless `stdout` is given.
            account: whose rights it gets; the supervisor's own if none.
            dies_by: the signal that it gets if the supervisor dies.
            stdin: its standard input.
            stdout: its standard output.
        """
        parent = os.getpid()
        credentials: Credentials = account.credentials() if account else {}
        process = subprocess.Popen(
            argv,
            env=env,
            cwd="/",
            stdin=stdin,
            stdout=log if stdout is None else stdout,
            stderr=log,
            # Runs after the change of user id, which would undo it.
            preexec_fn=lambda: die_with_parent(parent, dies_by),
            # A Ctrl-C in some terminal must reach neither Postgres nor an engine.
            start_new_session=True,
            **credentials,
        )
        child = Child(name, process)
        self._alive.add(child)
        return child


async def finish(child: Child, log: Log) -> None:
    """Wait for a child that has a job to do; end it if the wait is given up.

    Raises:
        LocalInstanceError: it failed.
    """
    try:
        status = await child.wait()
    except asyncio.CancelledError:
        child.process.kill()
        raise
    if status != 0:
        raise LocalInstanceError(f"{child.name} ended with status {status}:{log.tail()}")


async def read_line(descriptor: int) -> bytes:
    """Read a line from a pipe, and close it; empty if the other end has died."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    try:
        return await reader.readline()
    finally:
        transport.close()
