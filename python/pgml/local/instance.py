"""What the supervisor supervises: one PostgreSQL and one engine per model."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import account, models, postgres
from .errors import LocalInstanceError
from .home import DATABASE, Home
from .models import Model
from .process import Child, Children, Log

_START_PATIENCE = 120.0
# PostgreSQL's fast shutdown, then its immediate one.
_POSTGRES_STEPS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))
_ENGINE_STEPS = ((signal.SIGTERM, 5.0),)


@dataclass
class _Engine:
    model: Model
    child: Child
    socket: Path


class Instance:
    """The children of one supervisor.

    Args:
        home: whose instance.
        default: the model without which there is no instance.
        say: receives what is being done, in a few words.
    """

    def __init__(self, home: Home, default: Model, say: Callable[[str], None]) -> None:
        self._home = home
        self._default = default
        self._say = say
        self._account: account.Account
        self._install: postgres.Install
        self._children: Children
        self._postgres: Child | None = None
        self._engines: dict[str, _Engine] = {}
        self._failures: dict[str, str] = {}
        self._count = itertools.count()
        self._failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Start PostgreSQL and the engines, and make them known to each other.

        A model that was added, and that cannot be loaded any more, does not keep the others from
        being served; `status` tells why it is not.

        Raises:
            LocalInstanceError: PostgreSQL or the default model cannot be started.
        """
        self._children = Children()
        postgres.end_leftovers(self._home)
        self._account = account.resolve()
        self._account.grant(self._home)
        self._install = postgres.install(self._home, self._account)
        added = models.load_registry(self._home.registry)
        wanted = {model.name: model for model in (self._default, *added)}
        # The model is read from disk while the database is created.
        parts = [asyncio.create_task(self._start_postgres())]
        parts.append(asyncio.create_task(self._load_all(list(wanted.values()))))
        try:
            await asyncio.gather(*parts)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
        for engine in self._engines.values():
            await self._register(engine, replace=False)

    async def add(self, model: Model) -> None:
        """Load one more model, or another file under a name that is taken.

        Raises:
            LocalInstanceError: the engine cannot load it; then nothing has changed.
        """
        before = self._engines.get(model.name)
        if before and before.model == model:
            return
        engine = await self._load(model)
        await self._register(engine, replace=True)
        self._engines[model.name] = engine
        self._failures.pop(model.name, None)
        registered = {known.name: known for known in models.load_registry(self._home.registry)}
        registered[model.name] = model
        models.save_registry(self._home.registry, registered.values())
        if before:
            await before.child.stop(*_ENGINE_STEPS)

    async def failure(self) -> str:
        """Wait until a child ends that nobody told to, and say which."""
        return await self._failed

    async def stop(self) -> None:
        """End all children, PostgreSQL in good order."""
        stops = [engine.child.stop(*_ENGINE_STEPS) for engine in self._engines.values()]
        if self._postgres:
            stops.append(self._postgres.stop(*_POSTGRES_STEPS))
        await asyncio.gather(*stops)

    def status(self, *, ready: bool) -> dict[str, Any]:
        """What runs, as `pgml.local.Status` takes it."""
        return {
            "ready": ready,
            "supervisor_pid": os.getpid(),
            "postgres_pid": self._postgres.pid if self._postgres else None,
            "models": [
                {
                    "name": name,
                    "path": str(engine.model.path),
                    "source": engine.model.source,
                    "pid": engine.child.pid,
                    "socket": str(engine.socket),
                    "failure": None,
                }
                for name, engine in self._engines.items()
            ]
            + [
                {"name": name, "failure": why, "path": "", "source": "", "pid": None, "socket": ""}
                for name, why in self._failures.items()
            ],
            "versions": {"postgres": postgres.version()},
        }

    def _watch(self, child: Child) -> None:
        def ended(future: asyncio.Future[int]) -> None:
            expected = child is not self._postgres and all(
                engine.child is not child for engine in self._engines.values()
            )
            if not expected and not self._failed.done():
                self._failed.set_result(f"{child.name} ended with status {future.result()}")

        child.exited.add_done_callback(ended)

    async def _start_postgres(self) -> None:
        home, install = self._home, self._install
        if not postgres.check_data(home):
            self._say("creating the database")
            await self._create_data()
        postgres.write_config(home, install, self._account)
        log = Log(home.log / "postgres.log")
        with log.open() as output:
            # An immediate shutdown if the supervisor is killed: a fast one could wait for a
            # checkpoint, and the next start with it.
            child = self._children.spawn(
                "PostgreSQL",
                postgres.server_command(home, install),
                env=postgres.environment(),
                log=output,
                account=self._account,
                dies_by=signal.SIGQUIT,
            )
        self._postgres = child
        self._watch(child)
        await self._wait_ready(child, log)
        await self._sql("postgres", postgres.CREATE_DATABASE)
        await self._sql(DATABASE, postgres.CREATE_EXTENSION)

    async def _create_data(self) -> None:
        """Create the data directory under another name, so that a half-made one never counts."""
        draft = self._home.path / "data-new"
        if draft.exists():
            shutil.rmtree(draft)
        draft.mkdir(mode=0o700)
        if self._account.separate:
            os.chown(draft, self._account.uid, self._account.gid)
        log = Log(self._home.log / "initdb.log")
        with log.open() as output:
            child = self._children.spawn(
                "initdb",
                postgres.initdb_command(self._install, draft),
                env=postgres.environment(),
                log=output,
                account=self._account,
            )
        await self._finish(child, log)
        draft.rename(self._home.data)

    async def _finish(self, child: Child, log: Log) -> None:
        """Wait for a child that has a job to do; end it if the wait is given up."""
        try:
            status = await child.exited
        except asyncio.CancelledError:
            child.process.kill()
            raise
        if status != 0:
            raise LocalInstanceError(f"{child.name} ended with status {status}:{log.tail()}")

    async def _wait_ready(self, child: Child, log: Log) -> None:
        """Wait until PostgreSQL takes connections; pg_ctl also has nothing better than to look."""
        patience = _START_PATIENCE
        while not postgres.is_ready(self._home, child.pid):
            if child.exited.done():
                raise LocalInstanceError(f"PostgreSQL did not start:{log.tail()}")
            if patience <= 0:
                raise LocalInstanceError(
                    f"PostgreSQL was not ready after {_START_PATIENCE:.0f} seconds:{log.tail()}"
                )
            await asyncio.sleep(0.02)
            patience -= 0.02

    async def _sql(self, database: str, script: str, **variables: str) -> None:
        """Run a script as the instance's superuser; psql quotes the variables where it uses them."""
        argv = postgres.psql_command(self._home, self._install, database)
        argv += [f"--set={name}={value}" for name, value in variables.items()]
        log = Log(self._home.log / "psql.log")
        with tempfile.TemporaryFile() as text, log.open() as output:
            text.write(script.encode())
            text.seek(0)
            child = self._children.spawn(
                "psql", argv, env=postgres.environment(), log=output, stdin=text
            )
        await self._finish(child, log)

    async def _load_all(self, wanted: Sequence[Model]) -> None:
        # One after another: each engine uses all cores while it loads, and the sum of what they
        # need while loading may be more than the machine has.
        for model in wanted:
            try:
                self._engines[model.name] = await self._load(model)
            except LocalInstanceError as error:
                if model.name == self._default.name:
                    raise
                self._failures[model.name] = str(error)
                self._say(f"warning: {model.name} is not served: {error}")

    async def _load(self, model: Model) -> _Engine:
        models.check_gguf(model.path)
        self._say(f"loading {model.name} ({model.size})")
        number = next(self._count)
        path = self._home.run / f"engine-{number}.sock"
        log = Log(self._home.log / f"engine-{number}.log")
        argv = [sys.executable, "-m", "pgml.local.engine", "--parent", str(os.getpid())]
        argv += ["--model", str(model.path), "--name", model.name, "--socket", str(path)]
        if self._account.separate:
            argv += ["--uid", str(self._account.uid), "--gid", str(self._account.gid)]
        read_end, write_end = os.pipe()
        env = {**os.environ, "PGML_SCRATCH": str(self._home.path)}
        with log.open() as output:
            child = self._children.spawn(
                f"the engine of {model.name}", argv, env=env, log=output, stdout=write_end
            )
        os.close(write_end)
        try:
            said = await _read_line(read_end)
        except asyncio.CancelledError:
            child.process.kill()
            raise
        if said != b"ready\n":
            await child.stop()
            raise LocalInstanceError(f"the engine cannot load {model.path}:{log.tail()}")
        self._watch(child)
        return _Engine(model, child, path)

    async def _register(self, engine: _Engine, *, replace: bool) -> None:
        await self._sql(
            DATABASE,
            postgres.REGISTER_MODEL,
            model=engine.model.name,
            server=postgres.foreign_server(engine.model.name),
            socket=str(engine.socket),
            replace=str(replace).lower(),
        )


async def _read_line(descriptor: int) -> bytes:
    """Read a line from a pipe, which is closed afterwards; empty if the other end has died."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    try:
        return await reader.readline()
    finally:
        transport.close()
