"""Poolers: PgBouncer in session and transaction mode, and one that holds rows back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pgml
import psycopg
import pytest
from conftest import QUESTION, Call
from engine import HANG, ROLE, Engine, answer, chunk, ending, head
from pooler import HoldingPooler, PgBouncer, versions
from server import Server

MODES = ["session", "transaction"]


@pytest.fixture
def admin(own_server: Server, deadline: None) -> Iterator[psycopg.Connection[Any]]:
    """`engine` and the tests here are about a server that is reached over TCP."""
    with own_server.connect() as connection:
        yield connection


def knows_prepared_statements(version: str, mode: str) -> bool:
    """Whether what docs/your-own-server.md says of such a pooler is that it works."""
    return mode == "session" or [int(part) for part in version.split(".")] >= [1, 21]


def pgbouncer(server: Server, version: str, mode: str) -> PgBouncer:
    # In session mode a client keeps its connection; in the other, four clients meet on two.
    size = {"session": 50, "transaction": 2}[mode]
    settings: dict[str, object] = {"pool_mode": mode, "default_pool_size": size}
    if knows_prepared_statements(version, "transaction"):
        settings["max_prepared_statements"] = 100
    return PgBouncer(version, server.admin_url, **settings)


@pytest.fixture(
    scope="module",
    params=[
        (version, mode)
        for version in versions()
        for mode in MODES
        if knows_prepared_statements(version, mode)
    ],
    ids=lambda param: "-".join(param),
)
def pooler(own_server: Server, request: pytest.FixtureRequest) -> Iterator[PgBouncer]:
    with pgbouncer(own_server, *request.param) as pooler:
        yield pooler


@pytest.fixture
def client(pooler: PgBouncer, deadline: None) -> pgml.OpenSourceAI:
    return pgml.OpenSourceAI(pooler.url(), max_retries=0)


@pytest.fixture(params=["push", "cursor"])
def streaming(call: Call, pooler: PgBouncer, request: pytest.FixtureRequest) -> Call:
    return call.of(pgml.OpenSourceAI(pooler.url(), max_retries=0, streaming=request.param))


async def test_completions(call: Call, pooler: PgBouncer, engine: Engine) -> None:
    clients = [pgml.OpenSourceAI(pooler.url(), max_retries=0) for _ in range(4)]
    for text in ("one", "two"):
        for client in clients:
            engine.expect(answer(text))
            completion = await call.of(client).create("scripted", QUESTION)
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


OLD = [version for version in versions() if not knows_prepared_statements(version, "transaction")]


@pytest.mark.parametrize("version", OLD)
def test_transaction_mode_of_an_old_one_is_explained(
    version: str, own_server: Server, engine: Engine
) -> None:
    with pgbouncer(own_server, version, "transaction") as pooler:
        engine.expect(answer("one"))
        first = pgml.OpenSourceAI(pooler.url(), max_retries=0)
        first.chat_completions_create("scripted", QUESTION)
        second = pgml.OpenSourceAI(pooler.url(), max_retries=0)
        with pytest.raises(pgml.BadRequestError) as caught:
            second.chat_completions_create("scripted", QUESTION)
    assert caught.value.sqlstate == "42P05"
    assert "max_prepared_statements" in str(caught.value.hint)


# One that holds rows back ----------------------------------------------------------------------


@pytest.fixture
def holding(own_server: Server, deadline: None) -> Iterator[HoldingPooler]:
    pooler = HoldingPooler(own_server.socket)
    pooler.start()
    yield pooler
    pooler.stop()


def url_of(port: int) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/pgml?sslmode=disable"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "pgml"]


def test_a_cursor_gets_rows_past_it(
    holding: HoldingPooler, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pgml")
    client = pgml.OpenSourceAI(url_of(holding.port), max_retries=0, streaming="cursor")
    gates = [engine.gate() for _ in range(20)]
    engine.expect(head(), chunk("first"), *((gate, chunk("x")) for gate in gates), ending())
    stream = client.chat_completions_create_stream("scripted", QUESTION)
    assert next(stream).choices[0].delta.content == "first"
    for gate in gates:
        gate.open()
        assert next(stream).choices[0].delta.content == "x"
    assert next(stream).choices[0].finish_reason == "stop"
    assert list(stream) == []
    assert warnings(caplog) == []
    # Errors and cancellation, too.
    with pytest.raises(pgml.NotFoundError):
        client.chat_completions_create_stream("no such model", QUESTION)
    exchange = engine.expect(head(), chunk("first"), HANG)
    with client.chat_completions_create_stream("scripted", QUESTION) as left:
        next(left)
    exchange.wait_gone()


def test_rows_that_were_held_back_are_noticed(
    holding: HoldingPooler, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pgml")
    client = pgml.OpenSourceAI(url_of(holding.port), max_retries=0)
    gates = [engine.gate() for _ in range(40)]
    exchange = engine.expect(
        head(), chunk("first"), *((gate, chunk("x")) for gate in gates), ending()
    )
    chunks: list[object] = []
    reader = threading.Thread(
        target=lambda: chunks.extend(client.chat_completions_create_stream("scripted", QUESTION)),
        daemon=True,
    )
    reader.start()
    exchange.wait_arrived()
    # The stream has to last: one of less than half a second might be a fast engine's.
    threading.Event().wait(0.5)
    for held, gate in enumerate(gates, 1):
        holding.wait_held(held)
        assert chunks == []
        gate.open()
    reader.join()
    assert len(chunks) == len(gates) + 2
    (warning,) = warnings(caplog)
    assert 'streaming="cursor"' in warning
