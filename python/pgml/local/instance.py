"""What the supervisor supervises: one PostgreSQL, and the engines that it routes to."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import account, models, postgres, sql
from .errors import LocalInstanceError
from .home import DATABASE, Home
from .log import Log
from .models import Model
from .process import Child, Children, environment, read_line
from .server import Server

_ENGINE_STEPS = ((signal.SIGTERM, 5.0),)
# What Python, the loader and the libraries for processors of all kinds listen to.
_ENGINE_VARIABLES = (
    *("PYTHON", "LD_", "GGML_", "LLAMA_", "OMP_", "CUDA_", "NVIDIA_"),
    *("HIP_", "ROCR_", "HSA_", "VK_", "ONEAPI_", "SYCL_", "ZE_"),
)


@dataclass(eq=False)
class _Engine:
    """A process that serves one file, under as many names as there are."""

    path: Path
    version: tuple[int, ...]
    name: str
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
        self._children = Children()
        self._server = Server(home, self._children, say)
        self._engines: set[_Engine] = set()
        self._served: dict[str, tuple[Model, _Engine]] = {}
        self._unserved: dict[str, tuple[Model, str]] = {}
        self._count = itertools.count()
        self._failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Start PostgreSQL and the engines, and make them known to each other.

        A model that was added, and that cannot be loaded any more, does not keep the others from
        being served; `status` tells why it is not.

        Raises:
            LocalInstanceError: PostgreSQL or the default model cannot be started.
        """
        home = self._home
        postgres.end_leftovers(home)
        self._account = account.resolve()
        self._account.grant(home)
        wanted = {self._default.name: self._default}
        wanted.update((model.name, model) for model in models.load_registry(home.registry))
        # The model is read from disk while the database is created.
        parts = [asyncio.create_task(self._start_server())]
        parts.append(asyncio.create_task(self._load_all(wanted.values())))
        try:
            await asyncio.gather(*parts)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
        await self._register_all()

    async def repair(self) -> None:
        """Create again what somebody dropped: the database, the extension, its models."""
        await self._server.create_database()
        await self._register_all()

    async def _register_all(self) -> None:
        for model, engine in self._served.values():
            await self._register(model, engine, replace=False)

    async def add(self, model: Model) -> None:
        """Serve one more model, or another file under a name that is taken.

        Raises:
            LocalInstanceError: the engine cannot load it; then nothing has changed.
        """
        engine = await self._load(model)
        try:
            await self._register(model, engine, replace=True)
            self._served[model.name] = (model, engine)
            self._unserved.pop(model.name, None)
            added = {known.name: known for known in models.load_registry(self._home.registry)}
            added[model.name] = model
            models.save_registry(self._home.registry, added.values())
        finally:
            for idle in self._engines - {used for _, used in self._served.values()}:
                self._engines.discard(idle)
                await idle.child.stop(*_ENGINE_STEPS)

    def has_failed(self) -> bool:
        """Whether a child has ended, at this very moment, that nobody told to."""
        self._children.reap()
        return any(child.exited.done() for child in self._needed())

    async def settle(self) -> None:
        """Wait until PostgreSQL takes connections, or has ended."""
        await self._server.settle()

    async def failure(self) -> str:
        """Wait until a child ends that nobody told to, and say which."""
        return await self._failed

    async def stop(self) -> None:
        """End all children, PostgreSQL in good order."""
        stops = [engine.child.stop(*_ENGINE_STEPS) for engine in self._engines]
        await asyncio.gather(self._server.stop(), *stops)

    def status(self) -> dict[str, Any]:
        """What runs, in the terms of `pgml.local.Status`."""
        served = [
            {**_describe(model), "pid": engine.child.pid, "socket": str(engine.socket)}
            for model, engine in self._served.values()
        ]
        unserved = [
            {**_describe(model), "failure": reason} for model, reason in self._unserved.values()
        ]
        return {
            "supervisor_pid": os.getpid(),
            "postgres_pid": self._server.child.pid if self._server.child else None,
            "models": served + unserved,
            "versions": {"postgres": postgres.version(), "engine": _engine_version()},
        }

    def _needed(self) -> list[Child]:
        servers = [self._server.child] if self._server.child else []
        return servers + [engine.child for engine in self._engines]

    def _watch(self, child: Child) -> None:
        """Take the end of a child for a failure, unless it has been dismissed by then."""

        def ended(future: asyncio.Future[int]) -> None:
            if child in self._needed() and not self._failed.done():
                self._failed.set_result(f"{child.name} ended with status {future.result()}")

        child.exited.add_done_callback(ended)

    async def _start_server(self) -> None:
        self._watch(await self._server.start(self._account))

    async def _load_all(self, wanted: Iterable[Model]) -> None:
        # One after another: each engine uses all cores while it loads.
        for model in wanted:
            try:
                self._served[model.name] = (model, await self._load(model))
            except LocalInstanceError as error:
                if model.name == self._default.name:
                    raise
                self._unserved[model.name] = (model, str(error))
                self._say(f"{model.name} is not served: {error}")

    async def _load(self, model: Model) -> _Engine:
        """An engine for the model: one that has its file already, or a new one."""
        models.check_gguf(model.path)
        status = model.path.stat()
        version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        for engine in self._engines:
            if (engine.path, engine.version) == (model.path, version):
                return engine
        self._say(f"loading {model.name} ({model.size})")
        # Named after the file: should the model not be served after some later start, the address
        # that its foreign server still has must not be another model's.
        digest = hashlib.sha256(os.fsencode(model.path)).hexdigest()[:16]
        socket = self._home.run / f"{digest}-{next(self._count)}.sock"
        log = Log(self._home.log / f"engine-{digest}.log")
        argv = [sys.executable, "-m", "pgml.local.engine", "--parent", str(os.getpid())]
        argv += ["--model", str(model.path), "--name", model.name, "--socket", str(socket)]
        if self._account.separate:
            argv += ["--uid", str(self._account.uid), "--gid", str(self._account.gid)]
            argv += ["--scratch", str(self._home.path)]
        read_end, write_end = os.pipe()
        with log.open() as output:
            child = self._children.spawn(
                f"the engine of {model.name}",
                argv,
                env=environment(*_ENGINE_VARIABLES),
                log=output,
                stdout=write_end,
            )
        os.close(write_end)
        engine = _Engine(model.path, version, model.name, child, socket)
        try:
            ready = await read_line(read_end) == b"ready\n"
        except asyncio.CancelledError:
            child.process.kill()
            raise
        if not ready:
            await child.stop()
            raise LocalInstanceError(f"the engine cannot load {model.path}:{log.tail()}")
        self._engines.add(engine)
        self._watch(child)
        return engine

    async def _register(self, model: Model, engine: _Engine, *, replace: bool) -> None:
        """Tell the database where the model is served."""
        await self._server.sql(
            DATABASE,
            sql.REGISTER_MODEL,
            model=model.name,
            engine_model=engine.name,
            server=sql.foreign_server(model.name),
            socket=str(engine.socket),
            replace=str(replace).lower(),
        )


def _engine_version() -> str:
    return importlib.metadata.version("xllamacpp")


def _describe(model: Model) -> dict[str, str]:
    return {"name": model.name, "path": str(model.path), "source": model.source}
