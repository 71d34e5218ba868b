"""Poolers between a client and a Postgres of the tests.

PgBouncer is the real one, see `tests/setup-pgbouncer`. Of pgcat and PgDog, which no package has,
there is what they do to a stream: `HoldingPooler`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from engine import PATIENCE
from pgml.local import account
from proxy import Proxy

FOLDER = Path(__file__).parent.parent / "target" / "pgbouncer"


def versions() -> list[str]:
    """Those that there are, the oldest first."""
    found = [path.parent.name for path in FOLDER.glob("*/pgbouncer")]
    # A missing pooler is an error, not a reason to test less.
    assert found, "there is no PgBouncer to test with: make setup-pgbouncer"
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")])


def newest() -> str:
    return versions()[-1]


class PgBouncer:
    """A pooler on 127.0.0.1 for the server at `upstream`, a URL over a Unix socket."""

    def __init__(self, version: str, upstream: str, **settings: object) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pgml-pgbouncer-", dir="/tmp"))
        self.folder.chmod(0o755)
        self._version = version
        # The account that the server lets in over its socket.
        self._account = account.resolve()
        url = urlsplit(upstream)
        assert url.hostname is not None
        # urlsplit lowers the case of a host name, and this one is a path.
        where = unquote(url.netloc.rpartition("@")[2].rpartition(":")[0])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._settings: dict[str, object] = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": self.file("users", b'"postgres" ""\n"app" "hunter2"\n'),
            "admin_users": "postgres",
            "ignore_startup_parameters": "extra_float_digits",
            **settings,
        }
        self._databases = f"[databases]\n* = host={where} port={url.port}\n"

    def __enter__(self) -> PgBouncer:
        lines = [f"{name} = {value}" for name, value in self._settings.items()]
        text = "\n".join([self._databases, "[pgbouncer]", *lines, ""])
        config = self.file("pgbouncer.ini", text.encode())
        self.log = self.folder / "log"
        self._process = subprocess.Popen(
            [FOLDER / self._version / "pgbouncer", config],
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            **self._account.credentials(),
        )
        assert self._process.stderr is not None
        said: list[str] = []
        for line in self._process.stderr:
            said.append(line)
            if "process up" in line:
                break
        else:
            raise AssertionError("".join(said))
        with self.log.open("w") as log:
            log.writelines(said)
            # What it says from here on is copied by a process that ends with it.
            self._copier = subprocess.Popen(["cat"], stdin=self._process.stderr, stdout=log)
        self._process.stderr.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(PATIENCE)
        self._copier.wait(PATIENCE)
        shutil.rmtree(self.folder)

    def url(
        self, role: str = "postgres", password: str = "", host: str = "127.0.0.1", **options: Any
    ) -> str:
        who = quote(role, safe="") + (f":{quote(password, safe='')}" if password else "")
        query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in options.items())
        return f"postgresql://{who}@{host}:{self.port}/pgml?{query}"

    def file(self, name: str, content: bytes) -> Path:
        """A file that the pooler can read, and nobody else."""
        path = self.folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        os.chown(path, self._account.uid, self._account.gid)
        return path


class HoldingPooler(Proxy):
    """Passes on what the server says when the server is ready for another query, not before."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self._held = 0
        self._more = threading.Condition()

    def wait_held(self, rows: int) -> None:
        """Wait until so many rows of the running statement are here, and no further."""
        with self._more:
            assert self._more.wait_for(lambda: self._held >= rows, PATIENCE)

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held = b""
        while True:
            try:
                head = await reader.readexactly(5)
                body = await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
            except asyncio.IncompleteReadError:
                return
            held += head + body
            with self._more:
                self._held += head[:1] == b"D"
                self._more.notify_all()
            # ReadyForQuery; and what a client must see before it can go on at all.
            if head[:1] in b"ZR":
                writer.write(held)
                await writer.drain()
                held = b""
                with self._more:
                    self._held = 0
