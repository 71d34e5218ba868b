"""One real Postgres with our extension and a real model, and what tests use to look at it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import inspect
import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pgml
import psycopg
import pytest
import server
from engine import HANG, PATIENCE, Engine, Exchange, chunk, head
from hypothesis import HealthCheck, settings
from leaks import Leaks, leaks
from pgml import local
from psycopg import sql

__all__ = ["leaks"]  # a fixture

# The fixtures `directory` and `fresh`.
pytest_plugins = ["instances"]

QUESTION = [{"role": "user", "content": "How many helicopters can a human eat in one sitting?"}]
COUNT = [{"role": "user", "content": "Count from one to one hundred."}]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak", action="store_true", help="run the long forms of tests that have one"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Property tests: the same examples each time in `make test`, new and more ones in soak."""
    shared: dict[str, Any] = {
        "deadline": None,  # This machine may be busy.
        "database": None,
        "suppress_health_check": list(HealthCheck),  # Fixtures are a test's, not an example's.
    }
    settings.register_profile("short", max_examples=100, derandomize=True, **shared)
    settings.register_profile("soak", max_examples=2000, **shared)
    settings.load_profile("soak" if config.getoption("--soak") else "short")


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether to run the long form: `make soak` does, `make test` the short one."""
    return bool(request.config.getoption("--soak"))


@contextlib.contextmanager
def instance_home(path: Path) -> Iterator[None]:
    """Let `pgml.local` mean this home, and only here: other tests have homes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGML_HOME", str(path))
        yield


@pytest.fixture(scope="session")
def instance(leaks: Leaks) -> Iterator[local.Status]:
    # Not under pytest's directories, which the account of root's Postgres cannot enter.
    path = Path(tempfile.mkdtemp(prefix="pgml-suite-", dir="/tmp"))
    path.chmod(0o755)
    with instance_home(path / "home"):
        local.start()
        status = local.status()
    assert status is not None
    yield status
    with instance_home(path / "home"):
        assert local.stop()
    leaks.look_in_files(path / "home" / "log", "*")
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def database_url(instance: local.Status) -> str:
    return instance.url


@pytest.fixture(scope="module")
def own_server(leaks: Leaks) -> Iterator[server.Server]:
    """A second Postgres, for tests that change how one logs in, what is logged, or TLS."""
    made = server.make()
    yield made
    made.stop()
    leaks.look_in_files(made.path, "*.log")
    made.remove()


@pytest.fixture(scope="session")
def model() -> str:
    """The real model's name."""
    return local.DEFAULT_MODEL


@pytest.fixture(autouse=True)
def no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests leads to no database."""
    for name in ("DATABASE_URL", "PGML_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def deadline() -> Iterator[None]:
    """Fail a test that hangs, in a blocking call too."""

    def fail(*_: object) -> None:
        raise TimeoutError("the test hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(int(2 * PATIENCE))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def admin(database_url: str, deadline: None, leaks: Leaks) -> Iterator[psycopg.Connection[Any]]:
    """A connection as superuser."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection
        leaks.look_at_activity(connection)


@pytest.fixture
def client(database_url: str, deadline: None) -> pgml.OpenSourceAI:
    # Tests of retries ask for them: all others count requests.
    return pgml.OpenSourceAI(database_url, max_retries=0)


@pytest.fixture
def engine(admin: psycopg.Connection[Any]) -> Iterator[Engine]:
    """A stand-in for an engine, which serves the model `scripted` as foreign server `standin`."""
    stand_in = Engine()
    port = stand_in.start()
    admin.execute(
        "CREATE SERVER standin FOREIGN DATA WRAPPER pgml "
        f"OPTIONS (base_url 'http://127.0.0.1:{port}/v1')"
    )
    admin.execute("INSERT INTO pgml.models VALUES ('scripted', 'standin', 'engine-model')")
    yield stand_in
    admin.execute("DELETE FROM pgml.models WHERE server = 'standin'")
    admin.execute("DROP SERVER standin CASCADE")
    stand_in.stop()
    assert stand_in.unexpected == []
    assert stand_in.left == 0, "a script was not asked for"


@pytest.fixture
def endless(engine: Engine) -> Exchange:
    """An answer that does not end by itself."""
    return engine.expect(head(), chunk("a"), HANG)


@pytest.fixture
def role(admin: psycopg.Connection[Any], database_url: str) -> Iterator[Callable[..., str]]:
    """Make a role by the name given, and return the URL that logs in as it."""
    names: list[str] = []

    def make(name: str, *, options: str = "LOGIN") -> str:
        admin.execute(sql.SQL("CREATE ROLE {} " + options).format(sql.Identifier(name)))
        names.append(name)
        return database_url.replace("//postgres@", f"//{name}@")

    yield make
    for name in names:
        admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


class Slots:
    """The real engine's slots: who is being served."""

    def __init__(self, path: str) -> None:
        self._path = path

    def get(self, path: str) -> Any:
        """Ask llama.cpp over its own socket, past the database."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: object) -> Any:
        return self._ask("POST", path, json.dumps(body))

    def _ask(self, method: str, path: str, body: str | None) -> Any:
        connection = http.client.HTTPConnection("localhost")
        with socket.socket(socket.AF_UNIX) as connection.sock:
            connection.sock.connect(self._path)
            headers = {"Content-Type": "application/json", "Connection": "close"}
            connection.request(method, path, body, headers)
            return json.load(connection.getresponse())

    def busy(self) -> int:
        return sum(slot["is_processing"] for slot in self.get("/slots"))

    def newest_length(self) -> int:
        """How many tokens, the prompt's among them, the latest generation came to."""
        used = (slot for slot in self.get("/slots") if "id_task" in slot)
        return max(used, key=lambda slot: slot["id_task"])["n_prompt_tokens"]

    def wait_busy(self, count: int = 1) -> None:
        self._look_until(lambda: self.busy() >= count)

    def wait_idle(self) -> None:
        self._look_until(lambda: self.busy() == 0)

    def _look_until(self, condition: Callable[[], bool]) -> None:
        # llama.cpp tells nobody of a change: one can only look. `deadline` ends a vain wait.
        while not condition():
            pass


@pytest.fixture
def slots(instance: local.Status, deadline: None) -> Slots:
    path = instance.models[0].socket
    assert path is not None
    slots = Slots(path)
    slots.wait_idle()
    return slots


class Backends:
    """The backends that serve pgml's clients, as far as they came after this was made."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._before: set[int] = set()
        self._before = set(self.all())

    def all(self) -> dict[int, str]:
        """Their process ids, and what state they are in."""
        rows = self._connection.execute(
            "SELECT pid, state FROM pg_stat_activity WHERE application_name = 'pgml'"
        )
        return {pid: state for pid, state in rows if pid not in self._before}

    def wait(self, *states: str) -> None:
        """Wait until these are their states, and there are no more."""
        # Postgres tells nobody of a change: one can only look. `deadline` ends a vain wait.
        while sorted(self.all().values()) != sorted(states):
            pass


@pytest.fixture
def backends(database_url: str, deadline: None) -> Iterator[Backends]:
    # Over a connection of its own, which `deadline` may find in the middle of a statement.
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield Backends(connection)


# The two faces ---------------------------------------------------------------------------------


class Stream:
    """A sync or an async stream, with the face of an async one."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self.raw)
        except StopIteration:
            raise StopAsyncIteration from None

    async def next(self) -> Any:
        return await self.__anext__()

    async def rest(self) -> list[Any]:
        return [chunk async for chunk in self]

    async def close(self) -> None:
        self.raw.close()

    async def __aenter__(self) -> Stream:
        assert self.raw.__enter__() is self.raw
        return self

    async def __aexit__(self, *exception: Any) -> None:
        assert not self.raw.__exit__(*exception)


class AsyncStream(Stream):
    async def __anext__(self) -> Any:
        return await self.raw.__anext__()

    async def close(self) -> None:
        assert await self.raw.aclose() is None

    async def __aenter__(self) -> Stream:
        assert await self.raw.__aenter__() is self.raw
        return self

    async def __aexit__(self, *exception: Any) -> None:
        assert not await self.raw.__aexit__(*exception)


class Call:
    """One face of a client: `create` and `stream` take what the four methods take."""

    def __init__(self, client: pgml.OpenSourceAI, face: str) -> None:
        self.client = client
        self.face = face

    def of(self, client: pgml.OpenSourceAI) -> Call:
        """The same face of another client."""
        return Call(client, self.face)

    async def create(self, *args: Any, **kwargs: Any) -> Any:
        if self.face == "sync":
            return self.client.chat_completions_create(*args, **kwargs)
        return await asyncio.wait_for(
            self.client.chat_completions_create_async(*args, **kwargs), PATIENCE
        )

    async def stream(self, *args: Any, **kwargs: Any) -> Stream:
        if self.face == "sync":
            return Stream(self.client.chat_completions_create_stream(*args, **kwargs))
        return AsyncStream(
            await asyncio.wait_for(
                self.client.chat_completions_create_stream_async(*args, **kwargs), PATIENCE
            )
        )


@pytest.fixture(params=["sync", "async"])
def call(client: pgml.OpenSourceAI, request: pytest.FixtureRequest) -> Call:
    return Call(client, request.param)


class Face:
    """`OpenSourceAI` or `AsyncOpenSourceAI`, both awaited."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def with_options(self, **options: Any) -> Face:
        return Face(self.client.with_options(**options))

    async def _wait(self, result: Any) -> Any:
        if inspect.isawaitable(result):
            return await asyncio.wait_for(result, PATIENCE)
        return result

    async def create(self, **asked: Any) -> Any:
        return await self._wait(self.client.chat.completions.create(**asked))

    async def parse(self, **asked: Any) -> Any:
        return await self._wait(self.client.chat.completions.parse(**asked))

    async def stream(self, **asked: Any) -> Stream:
        raw = await self.create(stream=True, **asked)
        wrap = AsyncStream if isinstance(self.client, pgml.AsyncOpenSourceAI) else Stream
        return wrap(raw)

    async def models(self) -> Any:
        return await self._wait(self.client.models.list())

    async def retrieve(self, name: str) -> Any:
        return await self._wait(self.client.models.retrieve(name))


@pytest.fixture(params=[pgml.OpenSourceAI, pgml.AsyncOpenSourceAI], ids=["sync", "async"])
def face(database_url: str, deadline: None, request: pytest.FixtureRequest) -> Face:
    return Face(request.param(database_url, max_retries=0))


def text(chunks: list[Any], index: int = 0) -> str:
    """The text of one choice of a stream."""
    deltas = (
        choice["delta"].get("content") or ""
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["index"] == index
    )
    return "".join(deltas)


def environment(**variables: str) -> dict[str, str]:
    """This process's environment with changes, for a subprocess."""
    return {**os.environ, **variables}
