"""Errors: each provoked for real, of the right class, and saying what to do about it."""

from __future__ import annotations

import contextlib
import pickle
import re
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pgml
import psycopg
import pydantic
import pytest
from conftest import QUESTION, Call
from engine import Engine, answer
from pgml import errors, local
from test_engine_errors import FAILURES


@dataclass
class World:
    """What a provocation may use."""

    call: Call
    engine: Engine
    url: str
    admin: psycopg.Connection[Any]
    role: Callable[..., str]
    passwords: Callable[[str], contextlib.AbstractContextManager[None]]

    async def ask(self, url: str, model: str = "scripted", **options: Any) -> None:
        """Make a completion with a client for another URL."""
        client = pgml.OpenSourceAI(url, max_retries=0, **options)
        await self.call.of(client).create(model, QUESTION)


@dataclass
class Case:
    """An error, and how to get it."""

    name: str
    raised: type[pgml.APIError]
    sqlstate: str | None
    words: list[str]
    provoke: Callable[[World], Awaitable[Any]]
    param: str | None = None


def request(param: str, words: list[str], sqlstate: str = "22023", **arguments: Any) -> Case:
    """A request that is refused, because of `param`."""
    arguments = {"model": "scripted", "messages": QUESTION, **arguments}

    async def provoke(world: World) -> None:
        await world.call.create(**arguments)

    refused = pgml.NotFoundError if sqlstate == "42704" else pgml.BadRequestError
    name = f"{param}: {' '.join(words)}"
    return Case(name, refused, sqlstate, [param, *words], provoke, param)


FOREVER = """\
{% for i in range(99999) %}{% for j in range(99999) %}{{ j }}{% endfor %}{% endfor %}"""

REQUESTS = [
    request("messages", ["at least one message"], messages=[]),
    request("messages", ["an array of objects with `role` and `content`"], messages="hi"),
    request("messages", ["is required"], messages=None),
    request("messages[0]", ["`role` and `content`"], messages=["hi"]),
    request("messages[1].role", ["is required"], messages=[*QUESTION, {"content": "hi"}]),
    request("messages[0].content", ["is required"], messages=[{"role": "user"}]),
    request("messages[0].content", ["a string"], messages=[{"role": "user", "content": 1}]),
    request("max_tokens", ["at least 1", "-1"], max_tokens=-1),
    request("max_tokens", ["at least 1", "0"], max_tokens=0),
    request("n", ["at least 1", "0"], n=0),
    request("n", ["at most 128"], n=129),
    request("temperature", ["from 0 to 2"], temperature=2.1),
    request("top_p", ["from 0 to 1"], top_p=-1),
    request("model", ["is required"], model=None),
    request("model", ["must not be empty"], model=""),
    request("model", ["a model's name, or an object"], model=7),
    request("model.model", ["is required", "under the key `model`"], model={"revision": "main"}),
    request("chat_template", ["is not a Jinja template", "line 2"], chat_template="a\n{% for %}"),
    request("chat_template", ["does not end"], chat_template=FOREVER),
    request(
        "chat_template",
        ["cannot be applied", "no system role"],
        chat_template="{{ raise_exception('no system role') }}",
    ),
    # The models that there are, are named.
    request("model", ['"no such"', "'scripted'", local.DEFAULT_MODEL], "42704", model="no such"),
]


async def refused_connection(world: World) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        await world.ask(f"postgresql://app:hunter2@127.0.0.1:{bound.getsockname()[1]}/pgml")


async def unknown_host(world: World) -> None:
    await world.ask("postgresql://app:hunter2@no-such-host.invalid/pgml")


async def silent_database(world: World) -> None:
    # It takes the connection, and then says nothing.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        await world.ask(f"postgresql://app:hunter2@127.0.0.1:{port}/pgml", connect_timeout=0.2)


async def wrong_password(world: World) -> None:
    url = world.role("careful", options="LOGIN PASSWORD 'right'")
    with world.passwords("careful"):
        await world.ask(url.replace("careful@", "careful:hunter2@"))


async def unknown_role(world: World) -> None:
    await world.ask(world.url.replace("//postgres@", "//nobody:hunter2@"))


async def unknown_database(world: World) -> None:
    await world.ask(world.url.replace("5432/pgml", "5432/nowhere"))


async def too_many_connections(world: World) -> None:
    await world.ask(world.role("crowded", options="LOGIN CONNECTION LIMIT 0"))


@contextlib.contextmanager
def empty_database(world: World) -> Iterator[str]:
    world.admin.execute("CREATE DATABASE empty TEMPLATE template0")
    try:
        yield world.url.replace("5432/pgml", "5432/empty")
    finally:
        world.admin.execute("DROP DATABASE empty WITH (FORCE)")


async def no_extension(world: World) -> None:
    with empty_database(world) as url:
        await world.ask(url)


async def no_schema(world: World) -> None:
    with empty_database(world) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION pgml")
            connection.execute("REVOKE USAGE ON SCHEMA pgml FROM PUBLIC")
        await world.ask(world.role("outsider").replace("5432/pgml", "5432/empty"))


async def no_usage(world: World) -> None:
    await world.ask(world.role("guest one"))


async def no_server(world: World) -> None:
    world.admin.execute("INSERT INTO pgml.models VALUES ('stray', 'gone', 'x')")
    try:
        await world.call.create("stray", QUESTION)
    finally:
        world.admin.execute("DELETE FROM pgml.models WHERE name = 'stray'")


async def no_engine(world: World) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}/v1"
        world.admin.execute(f"ALTER SERVER standin OPTIONS (SET base_url '{address}')")
        await world.call.create("scripted", QUESTION)


async def no_url(world: World) -> None:
    pgml.OpenSourceAI("db.example/pgml:hunter2")


async def no_model_of_that_name_for_a_guest(world: World) -> None:
    await world.ask(world.role("guest"), "no such")


class Answer(pydantic.BaseModel):
    text: str


async def filtered(world: World) -> None:
    # The one model that there is here has no filter.
    world.engine.expect(answer('{"text": "', finish_reason="content_filter"))
    pgml.OpenSourceAI(world.url).chat.completions.parse(
        model="scripted", messages=QUESTION, response_format=Answer
    )


async def cut_off(world: World) -> None:
    pgml.OpenSourceAI(world.url).chat.completions.parse(
        model=local.DEFAULT_MODEL, messages=QUESTION, response_format=Answer, max_tokens=1
    )


CASES = [
    *REQUESTS,
    Case("refused", pgml.APIConnectionError, "08001", ["127.0.0.1", "Is Postgres running"],
         refused_connection),
    Case("host", pgml.APIConnectionError, "08001", ["no-such-host.invalid", "database URL"],
         unknown_host),
    Case("silent", pgml.APITimeoutError, "08001", ["127.0.0.1", "did not answer within 200ms"],
         silent_database),
    Case("password", pgml.AuthenticationError, "28P01", ['database "pgml"', "careful"],
         wrong_password),
    Case("role", pgml.AuthenticationError, "28000", ["nobody"], unknown_role),
    Case("database", pgml.NotFoundError, "3D000", ['"nowhere" does not exist'], unknown_database),
    Case("crowded", pgml.RateLimitError, "53300", ["too many connections"], too_many_connections),
    Case("extension", pgml.NotFoundError, "42883",
         ['database "empty"', "make install-extension", "CREATE EXTENSION pgml"], no_extension),
    Case("schema", pgml.PermissionDeniedError, "42501", ["GRANT USAGE ON SCHEMA pgml"], no_schema),
    Case("usage", pgml.PermissionDeniedError, "42501",
         ['GRANT USAGE ON FOREIGN SERVER standin TO "guest one"'], no_usage),
    Case("server", pgml.NotFoundError, "42704", ['"gone"', "CREATE SERVER"], no_server),
    Case("engine", pgml.APIConnectionError, "08001", ['engine "standin"', "Is the engine running"],
         no_engine),
    Case("url", pgml.APIConnectionError, None, ["postgresql://user:password@host"], no_url),
    Case("guest", pgml.NotFoundError, "42704", ["no model that you can call"],
         no_model_of_that_name_for_a_guest, "model"),
    Case("cut off", pgml.LengthFinishReasonError, None, ["max_tokens"], cut_off),
    Case("filtered", pgml.ContentFilterFinishReasonError, None, ["content filter"], filtered),
]  # fmt: skip


@pytest.fixture
def world(
    call: Call,
    engine: Engine,
    database_url: str,
    admin: psycopg.Connection[Any],
    role: Callable[..., str],
    instance: local.Status,
) -> World:
    rules = instance.home / "config" / "pg_hba.conf"

    @contextlib.contextmanager
    def passwords(name: str) -> Iterator[None]:
        """Ask for the role's password, as a server on the network does."""
        before = rules.read_text()
        url = database_url.replace("//postgres@", f"//{name}@")
        try:
            rules.write_text(f"local all {name} scram-sha-256\n{before}")
            admin.execute("SELECT pg_reload_conf()")
            # The postmaster does that when it gets to it.
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    psycopg.connect(url).close()
            yield
        finally:
            rules.write_text(before)
            admin.execute("SELECT pg_reload_conf()")

    return World(call, engine, database_url, admin, role, passwords)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_error(case: Case, world: World) -> None:
    with pytest.raises(pgml.APIError) as caught:
        await case.provoke(world)
    raised = caught.value
    assert type(raised) is case.raised, raised
    assert raised.sqlstate == case.sqlstate
    assert raised.param == case.param
    for word in case.words:
        assert word in str(raised)
    assert "hunter2" not in str(raised) + repr(raised)
    again = pickle.loads(pickle.dumps(raised))
    assert (type(again), str(again), vars(again)) == (type(raised), str(raised), vars(raised))


def test_no_url_and_no_local_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    # As if the package were not installed.
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(pgml.APIConnectionError) as caught:
        pgml.OpenSourceAI()
    for word in ("database_url", "DATABASE_URL", "PGML_DATABASE_URL", "pip install 'pgml[local]'"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        ({"messages": [{"role": "user", "content": object()}]}, TypeError, "messages[0].content"),
        ({"messages": [{(1,): "user"}]}, TypeError, "messages[0]: has a key that is not a str"),
        ({"temperature": float("nan")}, ValueError, "temperature: must be a finite number"),
        ({"messages": [{"role": "a", "content": "\ud800"}]}, ValueError, "messages[0].content"),
        ({"model": {"model": "scripted", "token": 1}}, TypeError, "model.token"),
        ({"top_q": 1}, TypeError, "extra_body"),
    ],
)
async def test_what_json_cannot_say(
    call: Call, arguments: dict[str, Any], expected: type[Exception], words: str
) -> None:
    with pytest.raises(expected) as caught:
        await call.create(**{"model": "scripted", "messages": QUESTION, **arguments})
    assert words in str(caught.value)


@pytest.mark.parametrize("setting", ["max_connections", "connect_timeout", "acquire_timeout"])
def test_settings_out_of_range(setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        pgml.OpenSourceAI("postgresql://app@host/db", **{setting: 0})
    with pytest.raises(ValueError, match="streaming"):
        pgml.OpenSourceAI("postgresql://app@host/db", streaming="pull")


def test_every_class_has_a_test() -> None:
    classes = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    tested = {case.raised for case in CASES} | {failure.raised for failure in FAILURES}
    # The two that only gather others.
    assert tested == classes - {pgml.APIError, pgml.APIStatusError}
    assert all(getattr(pgml, cls.__name__) is cls for cls in classes)


PROTOCOL = Path(__file__).parents[1] / "protocol/src/error.rs"


def test_every_kind_of_the_extension_has_a_test() -> None:
    source = PROTOCOL.read_text()
    kinds = re.findall(r"^    (\w+),$", source[: source.index("impl Kind")], re.MULTILINE)
    constants = dict(re.findall(r'pub const (\w+): &str = "(\w{5})"', source))
    named = re.findall(r"Kind::(\w+) => sqlstate::(\w+)", source)
    sqlstates = {kind: constants[name] for kind, name in named}
    assert list(sqlstates) == kinds
    tested = {case.sqlstate for case in CASES} | {failure.sqlstate for failure in FAILURES}
    assert set(sqlstates.values()) - tested == set()
