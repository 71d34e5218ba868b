"""A Postgres of a test's own, on the network as a server of yours is: TCP, TLS and passwords.

It is the server of `pgml[local]` with our extension, without a supervisor and without a model.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from engine import PATIENCE
from pgml.local import account, config, postgres
from pgml.local.home import ROLE, Home
from psycopg import sql


class Server:
    """One cluster, with a database `pgml` that has the extension. Listens on 127.0.0.1 too."""

    def __init__(self) -> None:
        # Not under pytest's directories, which the account of root's Postgres cannot enter.
        self.path = Path(tempfile.mkdtemp(prefix="pgml-server-", dir="/tmp"))
        self.path.chmod(0o755)
        self._home = Home(self.path / "home", self.path / "home")
        self._account = account.resolve()
        self._home.prepare()
        self._account.grant(self._home)
        self._install = postgres.install(self._home, self._account)
        config.write_config(self._home, self._install.extension, self._account)
        self._hba = self._home.config / "pg_hba.conf"
        self._hba.write_text(self._hba.read_text() + "host all all 127.0.0.1/32 scram-sha-256\n")
        # A pooler runs under the server's own account, where that is not the tests'.
        ident = self._home.config / "pg_ident.conf"
        name = pwd.getpwuid(self._account.uid).pw_name
        ident.write_text(f'{ident.read_text()}{ROLE} "{name}" all\n')
        self._run(*postgres.initdb_command(self._install, self._data()))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = self.path / "server.log"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = postgres.server_command(self._home, self._install)
        settings = {"listen_addresses": "127.0.0.1", "logging_collector": "off"}
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        # The port names the socket too; `url` has it in both places.
        command += ["-c", f"port={self.port}"]
        self._process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=self.path, **self._account.credentials()
        )
        assert self._process.stderr is not None
        log = self.log.open("a")
        for line in self._process.stderr:
            log.write(line)
            if "ready to accept connections" in line:
                break
        else:
            raise AssertionError(self.log.read_text())
        # From here on the server's log is copied by a process that ends with it.
        self._copier = subprocess.Popen(["cat"], stdin=self._process.stderr, stdout=log)
        self._process.stderr.close()
        log.close()

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            assert self._process.wait(PATIENCE) == 0
            self._copier.wait(PATIENCE)
            self._process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.path)

    @property
    def socket(self) -> str:
        return str(self._home.run / f".s.PGSQL.{self.port}")

    @property
    def admin_url(self) -> str:
        """Over the socket, as superuser."""
        return f"postgresql://{ROLE}@{quote(str(self._home.run), safe='')}:{self.port}/pgml"

    def url(self, role: str, password: str, host: str = "127.0.0.1", **options: object) -> str:
        """Over TCP. Everything is percent-encoded that may not stand in a URL as it is."""
        who = f"{quote(role, safe='')}:{quote(password, safe='')}"
        query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in options.items())
        return f"postgresql://{who}@{host}:{self.port}/pgml?{query}"

    def connect(self, database: str = "pgml") -> psycopg.Connection[Any]:
        url = self.admin_url.removesuffix("pgml") + database
        return psycopg.connect(url, autocommit=True)

    def set(self, **settings: object) -> None:
        """Change settings that a reload changes, and wait until new sessions have them."""
        with self.connect() as connection:
            for name, value in settings.items():
                statement = sql.SQL("ALTER SYSTEM SET {} = {}")
                connection.execute(statement.format(sql.Identifier(name), sql.Literal(str(value))))
            connection.execute("SELECT pg_reload_conf()")
        # The postmaster reloads when it gets to it, and tells nobody: one can only look.
        for name, value in settings.items():
            while True:
                with self.connect() as connection:
                    row = connection.execute(f"SHOW {name}").fetchone()
                if row == (str(value),):
                    break

    def allow(self, *rules: str) -> None:
        """Put these lines before those of pg_hba.conf."""
        self._hba.write_text("\n".join([*rules, self._hba.read_text()]))
        with self.connect() as connection:
            connection.execute("SELECT pg_reload_conf()")

    def file(self, name: str, content: bytes) -> Path:
        """A file that the server can read, and nobody else."""
        path = self.path / name
        path.write_bytes(content)
        path.chmod(0o600)
        os.chown(path, self._account.uid, self._account.gid)
        return path

    def _data(self) -> Path:
        data = self._home.data
        data.mkdir(mode=0o700)
        os.chown(data, self._account.uid, self._account.gid)
        return data

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command, cwd=self.path, capture_output=True, text=True, **self._account.credentials()
        )
        assert done.returncode == 0, done.stderr


def make() -> Server:
    """Create a cluster, start it, and install the extension."""
    server = Server()
    server.start()
    with server.connect("postgres") as connection:
        connection.execute("CREATE DATABASE pgml")
    with server.connect() as connection:
        connection.execute("CREATE EXTENSION pgml")
    return server
