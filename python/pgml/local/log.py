"""Log files, and how they get into error messages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

_LIMIT = 1_000_000


class Log:
    """A log file, and where in it the present run began."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Kept from run to run, as the reason why the last one ended, but not for ever.
        with path.open("ab") as file:
            if file.tell() > _LIMIT:
                file.truncate(0)
            self._start = file.seek(0, os.SEEK_END)

    def open(self) -> IO[bytes]:
        """Open it for a child to write to."""
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
