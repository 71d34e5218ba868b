"""What the benchmark needs around it: peers, a database with our extension, engines, a long way."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from pgml import local

BENCHES = Path(__file__).resolve().parent
PEERS = BENCHES.parent / ".venv" / "peers"
CLIENTS = BENCHES / "clients"

# Enough for 1,000 streams, and for those who look on.
MAX_CONNECTIONS = 1100
# Milliseconds that the long way takes, there and back.
ROUND_TRIP = 20


@dataclass(frozen=True)
class Peer:
    """Somebody to compare with.

    Args:
        program: its program in clients/.
        requirement: what to install for it; None for our own environment.
    """

    program: str
    requirement: str | None = None

    def python(self) -> str:
        """Its interpreter."""
        return str(self._environment() / "bin" / "python") if self.requirement else sys.executable

    def prepare(self) -> None:
        """Make its environment, unless that was done before."""
        if self.requirement is None:
            return
        environment = self._environment()
        stamp = environment / self.requirement
        if not stamp.exists():
            print(f"installing {self.requirement}", file=sys.stderr)
            venv.create(environment, with_pip=True, clear=True)
            pip = [self.python(), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            subprocess.run([*pip, self.requirement], check=True)
            stamp.touch()

    def _environment(self) -> Path:
        assert self.requirement
        return PEERS / self.requirement.partition("==")[0].partition("[")[0]


PEER = {
    "pgml": Peer("peer_pgml"),
    "pgml 1.1.1": Peer("peer_pgml", "pgml==1.1.1"),
    "openai": Peer("peer_openai", "openai==3.54.0"),
    "psycopg": Peer("peer_psycopg", "psycopg[binary]==3.3.9"),
    "asyncpg": Peer("peer_asyncpg", "asyncpg==0.32.0"),
    "engine": Peer("peer_direct"),
}


class FailedError(Exception):
    """A measurement that came to nothing."""


def measure(peer: str, job: dict[str, Any], program: str | None = None) -> dict[str, Any]:
    """Run a peer's program in a fresh process, and return what it measured."""
    path = CLIENTS / f"{program or PEER[peer].program}.py"
    command = [PEER[peer].python(), str(path), json.dumps(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired as error:
        raise FailedError(f"{peer}: {path.name} does not end") from error
    if done.returncode:
        raise FailedError(f"{peer}: {path.name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


@dataclass(frozen=True)
class World:
    """Where everything is.

    Args:
        url: the database.
        base_url: the scripted engine.
        far_url: the database, a round trip away.
        far_base_url: the scripted engine, a round trip away.
        socket: the real engine's Unix socket.
        versions: of the programs.
    """

    url: str
    base_url: str
    far_url: str
    far_base_url: str
    socket: str
    versions: dict[str, str]


@contextlib.contextmanager
def world() -> Iterator[World]:
    """Start everything, and stop it in the end."""
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(_program("engine.py"))
        status = stack.enter_context(_instance())
        with psycopg.connect(status.url, autocommit=True) as connection:
            connection.execute(
                "CREATE SERVER scripted FOREIGN DATA WRAPPER pgml "
                f"OPTIONS (base_url 'http://127.0.0.1:{engine}/v1')"
            )
            connection.execute("ALTER DATABASE pgml SET pgml.default_server = 'scripted'")
            socket = connection.execute(
                "SELECT current_setting('unix_socket_directories') || '/.s.PGSQL.5432'"
            ).fetchone()
        assert socket
        each_way = str(ROUND_TRIP / 2)
        database = stack.enter_context(_program("proxy.py", each_way, socket[0].replace('"', "")))
        far_engine = stack.enter_context(_program("proxy.py", each_way, str(engine)))
        model_socket = status.models[0].socket
        assert model_socket
        yield World(
            url=status.url,
            base_url=f"http://127.0.0.1:{engine}/v1",
            far_url=f"postgresql://postgres@127.0.0.1:{database}/pgml?sslmode=disable",
            far_base_url=f"http://127.0.0.1:{far_engine}/v1",
            socket=model_socket,
            versions=status.versions,
        )


@contextlib.contextmanager
def _instance() -> Iterator[local.Status]:
    """A local instance of our own, with room for a thousand connections."""
    # Not in a directory that only root can enter: Postgres runs as somebody else then.
    home = Path(tempfile.mkdtemp(prefix="pgml-bench-", dir="/tmp"))
    home.chmod(0o755)
    os.environ["PGML_HOME"] = str(home / "home")
    try:
        with psycopg.connect(local.start(), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET max_connections = {MAX_CONNECTIONS}")
        local.stop()
        local.start()
        status = local.status()
        assert status
        yield status
    finally:
        local.stop()
        del os.environ["PGML_HOME"]
        shutil.rmtree(home)


@contextlib.contextmanager
def _program(name: str, *arguments: str) -> Iterator[int]:
    """A program of ours that prints the port it listens on."""
    command = [sys.executable, str(BENCHES / name), *arguments]
    # It ends when its standard input does, and so with us, however we end.
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        yield int(process.stdout.readline())
