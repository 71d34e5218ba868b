"""The running PostgreSQL: created, started, asked and stopped as the supervisor's children."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Callable

from . import postgres, sql
from .account import Account
from .config import write_config
from .errors import LocalInstanceError
from .home import DATABASE, OLD_ROLE, ROLE, Home
from .log import Log
from .process import Child, Children, environment, finish

_SETTLING_PATIENCE = 120.0
# A fast shutdown, then an immediate one.
_STOP_STEPS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))
# Without the variables that change what psql connects to, and those that move its libraries.
_ENVIRONMENT = {**environment(), "LC_ALL": "C"}


class Server:
    """The PostgreSQL of one home.

    Args:
        home: whose server.
        children: where its processes belong.
        say: receives what is being done, in a few words.
    """

    def __init__(self, home: Home, children: Children, say: Callable[[str], None]) -> None:
        self._home = home
        self._children = children
        self._say = say
        self._install: postgres.Install
        self.child: Child | None = None

    async def start(self, account: Account) -> Child:
        """Create the database if there is none, and start the server.

        Args:
            account: who runs it.

        Raises:
            LocalInstanceError: it does not start; the text ends with the last lines of its log.
        """
        home = self._home
        self._install = install = postgres.install(home, account)
        if not postgres.check_data(home):
            self._say("creating the database")
            await self._create_data(account)
        write_config(home, install.extension, account)
        log = Log(home.log / "postgres.log")
        with log.open() as output:
            # If the supervisor is killed, an immediate shutdown: a fast one waits for a
            # checkpoint, and the next start would wait with it.
            child = self._children.spawn(
                "PostgreSQL",
                postgres.server_command(home, install),
                env=_ENVIRONMENT,
                log=output,
                account=account,
                dies_by=signal.SIGQUIT,
            )
        self.child = child
        await self.settle()
        if child.exited.done():
            raise LocalInstanceError(f"PostgreSQL did not start:{log.tail()}")
        await self._create_role()
        await self.create_database()
        return child

    async def create_database(self) -> None:
        """Create the database and the extension in it, as far as they are missing."""
        await self.sql("postgres", sql.CREATE_DATABASE)
        await self.sql(DATABASE, sql.CREATE_EXTENSION)

    async def _create_role(self) -> None:
        """Create the superuser in a data directory that an older pgml made."""
        if self._home.has_role.exists():
            return
        try:
            await self.sql("postgres", "")
        except LocalInstanceError:
            await self.sql("postgres", sql.CREATE_ROLE, role=OLD_ROLE)
        self._home.has_role.touch()

    async def settle(self) -> None:
        """Wait until PostgreSQL takes connections, or has ended.

        It does not while it starts, nor while it recovers from the loss of one of its processes.

        Raises:
            LocalInstanceError: neither happens.
        """
        deadline = time.monotonic() + _SETTLING_PATIENCE
        while self.child and not self.child.exited.done():
            probe = postgres.probe_command(self._home, self._install)
            with Log(self._home.log / "psql.log").open() as log:
                child = self._children.spawn("a probe", probe, env=_ENVIRONMENT, log=log)
            if await child.wait() == 0:
                return
            if time.monotonic() > deadline:
                raise LocalInstanceError(
                    f"PostgreSQL, process {self.child.pid}, takes no connections "
                    f"(its log: {self._home.log / 'postgres.log'})"
                )
            await asyncio.sleep(0.02)

    async def sql(self, database: str, script: str, *, role: str = ROLE, **variables: str) -> None:
        """Run one of the scripts of `sql.py` as the instance's superuser."""
        argv = postgres.psql_command(self._home, self._install, database, role)
        argv += [f"--set={name}={value}" for name, value in variables.items()]
        log = Log(self._home.log / "psql.log")
        with tempfile.TemporaryFile() as text, log.open() as output:
            text.write(script.encode())
            text.seek(0)
            child = self._children.spawn("psql", argv, env=_ENVIRONMENT, log=output, stdin=text)
        await finish(child, log)

    async def stop(self) -> None:
        """End the server in good order, or else in whatever way works."""
        if self.child:
            await self.child.stop(*_STOP_STEPS)

    async def _create_data(self, account: Account) -> None:
        """Create the data directory under another name, so that a half-made one never counts."""
        draft = self._home.draft
        draft.mkdir(mode=0o700)
        if account.separate:
            os.chown(draft, account.uid, account.gid)
        log = Log(self._home.log / "initdb.log")
        with log.open() as output:
            child = self._children.spawn(
                "initdb",
                postgres.initdb_command(self._install, draft),
                env=_ENVIRONMENT,
                log=output,
                account=account,
            )
        await finish(child, log)
        draft.rename(self._home.data)
        self._home.has_role.touch()
