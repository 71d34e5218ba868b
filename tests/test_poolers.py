"""Poolers: PgBouncer in session and transaction mode, and one that holds rows back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pgml
import psycopg
import pytest
from conftest import QUESTION, Call
from engine import HANG, ROLE, Engine, answer, chunk, ending, head
from pooler import PgBouncer, versions
from server import Server

MODES = ["session", "transaction"]


@pytest.fixture
def admin(own_server: Server, deadline: None) -> Iterator[psycopg.Connection[Any]]:
    """`engine` and the tests here are about a server that is reached over TCP."""
    with own_server.connect() as connection:
        yield connection


@dataclass
class Pooled:
    """A pooler, and whether it follows prepared statements from connection to connection."""

    pooler: PgBouncer
    tracks: bool


@pytest.fixture(
    scope="module",
    params=[(version, mode) for version in versions() for mode in MODES],
    ids=lambda param: "-".join(param),
)
def pooled(own_server: Server, request: pytest.FixtureRequest) -> Iterator[Pooled]:
    version, mode = request.param
    settings: dict[str, object] = {"pool_mode": mode, "default_pool_size": 2}
    tracks = [int(part) for part in version.split(".")] >= [1, 21]
    if tracks:
        settings["max_prepared_statements"] = 100
    with PgBouncer(version, own_server.admin_url, **settings) as pooler:
        yield Pooled(pooler, tracks or mode == "session")


def client_of(pooled: Pooled, **options: Any) -> pgml.OpenSourceAI:
    return pgml.OpenSourceAI(pooled.pooler.url(), max_retries=0, **options)


@pytest.fixture
def client(pooled: Pooled, deadline: None) -> pgml.OpenSourceAI:
    return client_of(pooled)


@pytest.fixture(params=["push", "cursor"])
def streaming(call: Call, pooled: Pooled, request: pytest.FixtureRequest) -> Call:
    return call.of(client_of(pooled, streaming=request.param))


async def test_completions(call: Call, engine: Engine) -> None:
    for text in ("one", "two"):
        engine.expect(answer(text))
        completion = await call.create("scripted", QUESTION)
        assert completion.choices[0].message.content == text


async def test_rows_come_as_they_are_made(streaming: Call, engine: Engine) -> None:
    gates = [engine.gate() for _ in range(3)]
    steps = [(gate, chunk(str(index))) for index, gate in enumerate(gates)]
    engine.expect(head(), ROLE, chunk("first"), *steps, ending())
    stream = await streaming.stream("scripted", QUESTION)
    assert (await stream.next()).choices[0].delta.content == "first"
    for index, gate in enumerate(gates):
        gate.open()
        assert (await stream.next()).choices[0].delta.content == str(index)
    assert [c.choices[0].finish_reason for c in await stream.rest()] == ["stop"]


async def test_a_stream_that_is_left_frees_the_engine(streaming: Call, engine: Engine) -> None:
    for _ in range(5):
        exchange = engine.expect(head(), ROLE, chunk("first"), HANG)
        stream = await streaming.stream("scripted", QUESTION)
        await stream.next()
        await stream.close()
        exchange.wait_gone()
    engine.expect(answer("next"))
    assert len(await (await streaming.stream("scripted", QUESTION)).rest()) == 2


async def test_errors_keep_their_sqlstate(streaming: Call, engine: Engine) -> None:
    with pytest.raises(pgml.NotFoundError) as caught:
        await streaming.stream("no such model", QUESTION)
    assert (caught.value.sqlstate, caught.value.param) == ("42704", "model")
    engine.expect(head(), ROLE, chunk("first"))
    stream = await streaming.stream("scripted", QUESTION)
    await stream.next()
    with pytest.raises(pgml.APIConnectionError) as lost:
        await stream.rest()
    assert lost.value.sqlstate == "08006"
    engine.expect(answer("next"))
    await (await streaming.stream("scripted", QUESTION)).rest()
