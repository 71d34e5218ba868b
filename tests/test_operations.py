"""What an operator sees: request ids in every log, requests in flight, the client's own log."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pgml
import psycopg
import pytest
from conftest import QUESTION, Call, environment
from engine import CLOSE, HANG, PATIENCE, Engine, Step, answer, chunk, ending, error, head
from pgml import local
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from test_engine_errors import run

REQUEST = {"model": "scripted", "messages": QUESTION}


@pytest.fixture
def server_log(instance: local.Status, admin: psycopg.Connection[Any]) -> Callable[[], str]:
    """What the server has logged since the test began."""
    (data,) = admin.execute("SHOW data_directory").fetchone() or ("",)
    logs = sorted((Path(data).parent / "log").glob("postgres*"))
    assert logs
    before = [log.stat().st_size for log in logs]

    def read() -> str:
        return "".join(
            log.read_bytes()[size:].decode() for log, size in zip(logs, before, strict=True)
        )

    return read


# One id ----------------------------------------------------------------------------------------

BROKEN: list[tuple[str, list[Step]]] = [
    ("refused", [error(400, "no")]),
    ("cut", [head(), chunk("a"), CLOSE]),
]


@pytest.mark.parametrize(("name", "steps"), BROKEN)
@pytest.mark.parametrize("verb", ["create", "stream"])
async def test_an_errors_id_is_in_the_logs_of_the_server_and_the_engine(
    call: Call, engine: Engine, server_log: Callable[[], str], verb: str, name: str, steps: Any
) -> None:
    exchange = engine.expect(steps)
    with pytest.raises(pgml.APIError) as caught:
        await run(call, verb)
    request_id = caught.value.request_id
    assert request_id
    assert request_id.startswith("chatcmpl-")
    assert exchange.headers["x-request-id"] == request_id
    assert f"Request: {request_id}" in server_log()
    # It is an attribute, and not part of what the error says.
    assert request_id not in str(caught.value)


async def test_a_completion_goes_by_one_id(call: Call, engine: Engine) -> None:
    exchange = engine.expect(answer("hello"))
    completion = await call.create("scripted", QUESTION)
    assert completion.id == exchange.headers["x-request-id"]
    exchange = engine.expect(answer("hel", "lo"))
    chunks = await (await call.stream("scripted", QUESTION)).rest()
    assert {chunk.id for chunk in chunks} == {exchange.headers["x-request-id"]}


async def test_ids_differ(call: Call, engine: Engine) -> None:
    ids = set()
    for _ in range(3):
        engine.expect(answer("hello"))
        ids.add((await call.create("scripted", QUESTION)).id)
    assert len(ids) == 3


async def test_an_error_without_a_server_has_an_id(call: Call) -> None:
    nowhere = pgml.OpenSourceAI("postgresql://app@127.0.0.1:1/nowhere", max_retries=0)
    with pytest.raises(pgml.APIConnectionError) as caught:
        await call.of(nowhere).create("scripted", QUESTION)
    assert (caught.value.request_id or "").startswith("chatcmpl-")


def test_a_cancelled_statement_names_its_request(
    engine: Engine, admin: psycopg.Connection[Any]
) -> None:
    engine.expect(HANG)
    admin.execute("SET statement_timeout = '200ms'")
    with pytest.raises(psycopg.errors.QueryCanceled) as caught:
        admin.execute("SELECT pgml.chat_completion(%s, request_id => 'mine')", [Jsonb(REQUEST)])
    assert caught.value.diag.message_detail == "Request: mine"


def test_an_id_of_ones_own(engine: Engine, admin: psycopg.Connection[Any]) -> None:
    exchange = engine.expect(answer("hello"))
    row = admin.execute(
        "SELECT pgml.chat_completion(%s, request_id => 'invoice-17') ->> 'id'", [Jsonb(REQUEST)]
    ).fetchone()
    assert row == ("invoice-17",)
    assert exchange.headers["x-request-id"] == "invoice-17"


@pytest.mark.parametrize("bad", ["two words", "line\nbreak", "é", "x" * 129])
def test_an_id_that_is_no_header(admin: psycopg.Connection[Any], bad: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="request_id: must be"):
        admin.execute("SELECT pgml.chat_completion(%s, request_id => %s)", [Jsonb(REQUEST), bad])


# In flight -------------------------------------------------------------------------------------


def in_flight(url: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        return cursor.execute("SELECT * FROM pgml.stat_requests").fetchall()


async def test_a_request_is_seen_while_it_runs(
    call: Call, engine: Engine, database_url: str
) -> None:
    gate = engine.gate()
    engine.expect(head(), chunk("a"), chunk("b"), gate, chunk("c"), ending())
    stream = await call.stream("scripted", QUESTION)
    first, second = await stream.next(), await stream.next()
    (row,) = in_flight(database_url)
    assert (row["request_id"], row["model"]) == (first.id, "scripted")
    assert (row["datname"], row["usename"]) == ("pgml", "postgres")
    assert row["tokens"] == 2
    assert second.choices[0].delta.content == "b"
    with psycopg.connect(database_url) as connection:
        active = connection.execute(
            "SELECT query_start <= %s FROM pg_stat_activity WHERE pid = %s",
            [row["started"], row["pid"]],
        ).fetchone()
    assert active == (True,)
    gate.open()
    await stream.rest()
    assert in_flight(database_url) == []


async def test_whatever_ends_a_request_ends_its_row(
    call: Call, engine: Engine, database_url: str, admin: psycopg.Connection[Any]
) -> None:
    exchange = engine.expect(head(), chunk("a"), HANG)
    stream = await call.stream("scripted", QUESTION)
    await stream.close()
    exchange.wait_gone()
    engine.expect(head(), chunk("a"), CLOSE)
    stream = await call.stream("scripted", QUESTION)
    with pytest.raises(pgml.APIConnectionError):
        await stream.rest()
    engine.expect(head(), chunk("a"), HANG)
    stream = await call.stream("scripted", QUESTION)
    await stream.next()
    ended = admin.execute(
        "SELECT pg_terminate_backend(pid, 60000) FROM pgml.stat_requests"
    ).fetchall()
    assert ended == [(True,)]
    with pytest.raises(pgml.APIConnectionError):
        await stream.rest()
    # The backend of the closed stream may be a moment behind its socket.
    admin.execute(
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
        "WHERE application_name = 'pgml'"
    )
    assert in_flight(database_url) == []


def test_several_requests_of_one_backend(engine: Engine, admin: psycopg.Connection[Any]) -> None:
    for _ in range(2):
        engine.expect(head(), chunk("a"), chunk("b"), HANG)
    with admin.transaction():
        for name in ("one", "two"):
            admin.execute(
                f"DECLARE {name} CURSOR FOR "
                f"SELECT pgml.chat_completion_stream(%s, request_id => '{name}')",
                [Jsonb(REQUEST)],
            )
            admin.execute(f"FETCH 1 FROM {name}")
        seen = admin.execute("SELECT request_id FROM pgml.stat_requests ORDER BY 1").fetchall()
        assert seen == [("one",), ("two",)]
        admin.execute("CLOSE one")
        assert admin.execute("SELECT request_id FROM pgml.stat_requests").fetchall() == [("two",)]


async def test_who_sees_what(
    call: Call,
    engine: Engine,
    database_url: str,
    role: Callable[..., str],
    admin: psycopg.Connection[Any],
) -> None:
    own, other, watch = role("own"), role("other"), role("watch")
    admin.execute("GRANT USAGE ON FOREIGN SERVER standin TO own")
    admin.execute("GRANT pg_read_all_stats TO watch")
    engine.expect(head(), chunk("a"), HANG)
    stream = await call.of(pgml.OpenSourceAI(own)).stream("scripted", QUESTION)
    await stream.next()
    assert [len(in_flight(url)) for url in (own, other, watch, database_url)] == [1, 0, 1, 1]
    await stream.close()


# The client's log ------------------------------------------------------------------------------


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.DEBUG, "pgml")
    return lambda: [f"{r.levelname} {r.getMessage()}" for r in caplog.records if r.name == "pgml"]


async def test_the_client_tells_what_it_does(
    call: Call, engine: Engine, database_url: str, records: Callable[[], list[str]]
) -> None:
    engine.expect(error(503, "busy", Retry_After="0"))
    engine.expect(answer("hello"))
    client = pgml.OpenSourceAI(database_url, max_retries=1)
    # The end of a stream comes after what is told of it.
    chunks = await (await call.of(client).stream("scripted", QUESTION)).rest()
    log = "\n".join(records())
    for words in ("DEBUG connected", "DEBUG a request begins", "is tried again", "a request ends"):
        assert words in log
    assert log.count(f"request={chunks[0].id}") == 3
    # Nothing of what was said.
    assert "hello" not in log
    assert QUESTION[0]["content"] not in log


async def test_failing_and_cancelling_are_told(
    call: Call, engine: Engine, records: Callable[[], list[str]], deadline: None
) -> None:
    engine.expect(error(400, "no"))
    with pytest.raises(pgml.BadRequestError) as caught:
        await call.create("scripted", QUESTION)
    while not (failed := [record for record in records() if "a request fails" in record]):
        pass
    assert len(failed) == 1
    assert caught.value.request_id in failed[0]
    assert '"22023"' in failed[0]
    exchange = engine.expect(head(), chunk("a"), HANG)
    stream = await call.stream("scripted", QUESTION)
    await stream.close()
    # It is told before the connection is closed, which the engine learns of after that.
    exchange.wait_gone()
    # A thread of its own hands the records over: one can only look. `deadline` ends a vain wait.
    while not any("is cancelled" in record for record in records()):
        pass


async def test_nothing_is_told_unless_asked_for(
    call: Call, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.expect(error(400, "no"))
    with pytest.raises(pgml.BadRequestError):
        await call.create("scripted", QUESTION)
    assert [record for record in caplog.records if record.name == "pgml"] == []


SILENT = """
import sys
import pgml

client = pgml.OpenSourceAI(sys.argv[1])
client.chat_completions_create("scripted", [{"role": "user", "content": "hi"}])
"""


def test_nothing_is_printed_by_itself(engine: Engine, database_url: str) -> None:
    engine.expect(answer("hello"))
    done = subprocess.run(
        [sys.executable, "-c", SILENT, database_url],
        capture_output=True,
        env=environment(),
        timeout=PATIENCE,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
