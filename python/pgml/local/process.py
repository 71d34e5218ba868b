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
from pathlib import Path
from typing import IO

from .account import Account

_PR_SET_PDEATHSIG = 1
_LOG_LIMIT = 1_000_000
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


class Log:
    """A log file, and where in it the present run began."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Kept from run to run, as the reason why the last one ended, but not for ever.
        with path.open("ab") as file:
            if file.tell() > _LOG_LIMIT:
                file.truncate(0)
            self._start = file.seek(0, os.SEEK_END)

    def open(self) -> IO[bytes]:
        return self.path.open("ab")

    def tail(self, lines: int = 8) -> str:
        """The last lines of this run, indented, to close an error message with."""
        with self.path.open("rb") as file:
            file.seek(self._start)
            text = file.read().decode(errors="replace")
        last = [line for line in text.splitlines() if line.strip()][-lines:]
        if not last:
            return f"\n({self.path} is empty)"
        return "\n" + "\n".join(f"  {line}" for line in last) + f"\n(from {self.path})"


class Child:
    """A running child: its process, and a future for its exit status."""

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.process = process
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int:
        return self.process.pid

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
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def _reap(self) -> None:
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
            **(account.credentials() if account else {}),
        )
        child = Child(name, process)
        self._alive.add(child)
        return child
