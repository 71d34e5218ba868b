"""Where a local instance keeps its files and its sockets, and who may enter there.

One home is one instance. All that other users could follow, replace or guess lies in directories
that only the instance's owner can enter. For an ordinary user that owner is the user. For root it
is root, with a group that lets the server's own account pass through (see `account.py`): root
itself never writes in a directory that the server's account can write to, because a symbolic link
planted there would make root overwrite any file of the machine.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from .errors import LocalInstanceError

DATABASE = "pgml"
ROLE = "postgres"
# The superuser of homes that pgml 2.0 made. It has the name of the extension's schema, so that
# search_path, which begins with "$user", led a user's own tables there.
OLD_ROLE = "pgml"
PORT = 5432

# A Unix socket's address holds 108 bytes, the last of which is a NUL. The longest of our socket
# names decides whether a home is short enough to hold them.
_ADDRESS_LIMIT = 107
_LONGEST_SOCKET = "run/0123456789abcdef-0000.sock"

_ROOT_HOME = Path("/var/lib/pgml")


@dataclass(frozen=True)
class Home:
    """The files of one local instance.

    Args:
        path: the directory that holds everything that must last.
        sockets: the directory of the sockets; `path` itself unless that is too long.
    """

    path: Path
    sockets: Path

    @property
    def lock(self) -> Path:
        """Held (flock) by the supervisor for as long as it lives; also marks a home as ours."""
        return self.path / "lock"

    @property
    def log(self) -> Path:
        """The directory of the log files."""
        return self.path / "log"

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.path / "data"

    @property
    def draft(self) -> Path:
        """A data directory that is still being made; never used as it is."""
        return self.path / "data-new"

    @property
    def has_role(self) -> Path:
        """An empty file, once the data directory is known to have `ROLE`."""
        return self.path / "role-postgres"

    @property
    def config(self) -> Path:
        """The directory of PostgreSQL's configuration."""
        return self.path / "config"

    @property
    def registry(self) -> Path:
        """The models that were added, as JSON."""
        return self.path / "models.json"

    @property
    def control(self) -> Path:
        """The supervisor's socket."""
        return self.sockets / "control.sock"

    @property
    def run(self) -> Path:
        """Where PostgreSQL and the engines, and nobody else, create their sockets."""
        return self.sockets / "run"

    def url(self, database: str = DATABASE, role: str = ROLE) -> str:
        """A URL that every client reads alike.

        The directory is percent-encoded in the host's place, which keeps the host from being
        empty; the port is spelled out so that a PGPORT in the environment does not change it.
        """
        host = quote(str(self.run), safe="")
        return f"postgresql://{role}@{host}:{PORT}/{database}"

    def exists(self) -> bool:
        """Whether there is a home here; checks that nobody else made it.

        Raises:
            LocalInstanceError: a directory of that name belongs to somebody else.
        """
        try:
            if not self.path.exists():
                return False
            _require_own(self.path)
            if self.sockets != self.path and self.sockets.exists():
                _require_own(self.sockets)
            return self.lock.exists()
        except OSError as error:
            raise LocalInstanceError(
                f"cannot look into the local instance's home {self.path}: {error.strerror or error}"
            ) from error

    def prepare(self) -> None:
        """Create the directories that are missing.

        Raises:
            LocalInstanceError: a directory cannot be created, or is not ours to use.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _claim(self.path, self.lock)
            self.log.mkdir(mode=0o700, exist_ok=True)
            if self.sockets != self.path:
                _claim(self.sockets, self.sockets / "lock")
        except OSError as error:
            raise LocalInstanceError(
                f"cannot create the local instance's home {self.path}: {error.strerror or error}"
                " (set PGML_HOME to a directory that you can write to)"
            ) from error


def locate() -> Home:
    """Find the home that this user's environment names, without touching the disk's contents.

    Raises:
        LocalInstanceError: not on Linux, or there is no home directory to put it in.
    """
    if sys.platform != "linux":
        raise LocalInstanceError(
            f"the local instance runs on Linux only, not on {sys.platform}: "
            "pass the URL of a Postgres database that has the pgml extension, or set DATABASE_URL"
        )
    # Links are resolved so that two spellings of one directory are one instance.
    path = Path(os.path.realpath(_configured()))
    longest = os.fsencode(path / _LONGEST_SOCKET)
    if len(longest) <= _ADDRESS_LIMIT:
        return Home(path, path)
    # Not under XDG_RUNTIME_DIR: a cron job has none, and would look elsewhere than a login shell.
    # That the name can be guessed is why `_claim` and `exists` look at who made the directory.
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Home(path, Path(f"/tmp/pgml-{os.geteuid()}-{digest}"))  # noqa: S108


def _configured() -> Path:
    chosen = os.environ.get("PGML_HOME")
    if chosen:
        return Path(chosen).expanduser()
    if os.geteuid() == 0:
        return _ROOT_HOME
    data = os.environ.get("XDG_DATA_HOME")
    # The XDG specification says to ignore a value that is not absolute.
    if data and os.path.isabs(data):
        return Path(data) / "pgml"
    try:
        return Path.home() / ".local" / "share" / "pgml"
    except RuntimeError as error:
        raise LocalInstanceError(
            "this user has no home directory: set PGML_HOME to a directory of its own"
        ) from error


def _claim(directory: Path, mark: Path) -> None:
    """Make `directory` ours: create it, or take it if it is empty or bears our mark."""
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        _require_own(directory)
        if not mark.exists() and any(entry.name != mark.name for entry in directory.iterdir()):
            raise LocalInstanceError(
                f"{directory} is not empty and holds no local instance of pgml: "
                "set PGML_HOME to a new directory"
            ) from None
        if stat.S_IMODE(directory.stat().st_mode) & ~_allowed():
            directory.chmod(0o700)
    # The mark comes first of all contents, so that whoever is interrupted leaves a directory that
    # is either empty or marked.
    mark.touch(mode=0o600)


def _allowed() -> int:
    """The permission bits that a directory of ours may have."""
    return 0o710 if os.geteuid() == 0 else 0o700


def _require_own(directory: Path) -> None:
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise LocalInstanceError(
            f"{directory} was not made by this user (uid {os.geteuid()}), so it is not used: "
            "set PGML_HOME to a directory of your own"
        )
