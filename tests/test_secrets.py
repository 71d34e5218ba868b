"""Passwords, keys and tokens get to where they belong, and nowhere else."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pgml
import psycopg
import pytest
from conftest import QUESTION
from engine import HANG, Engine, answer, chunk, error, head
from leaks import KEY, PASSWORD, TOKEN, Leaks
from server import Server

# All that Postgres can log of a statement and of its parameters.
EVERYTHING = {
    "log_statement": "all",
    "log_min_error_statement": "error",
    "log_min_messages": "debug1",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "-1",
    "log_duration": "on",
}
MODEL = {"model": "scripted", "revision": "main", "token": TOKEN}


@pytest.fixture
def admin(own_server: Server, deadline: None) -> Iterator[psycopg.Connection[Any]]:
    with own_server.connect() as connection:
        yield connection


@pytest.fixture
def url(own_server: Server, engine: Engine, admin: psycopg.Connection[Any]) -> Iterator[str]:
    """Logs in by a password, and asks an engine with a key. From here on everything is logged."""
    admin.execute(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
    admin.execute("GRANT USAGE ON FOREIGN SERVER standin TO app")
    admin.execute(f"CREATE USER MAPPING FOR app SERVER standin OPTIONS (api_key '{KEY}')")
    own_server.set(**EVERYTHING)
    yield own_server.url("app", PASSWORD)
    own_server.set(
        log_statement="none",
        log_min_error_statement="panic",
        log_parameter_max_length_on_error="0",
    )
    admin.execute("DROP OWNED BY app CASCADE")
    admin.execute("DROP ROLE app")


def test_a_leak_is_found(
    own_server: Server, tmp_path: Path, admin: psycopg.Connection[Any]
) -> None:
    """Each of the ways in which the whole suite is watched, with a secret in its way."""
    leaks = Leaks(("a word", "a detail", "a record", "a line", "an activity"))
    with leaks.watch():
        pgml.APIError("it holds a word")
        pgml.BadRequestError("fine", detail="it holds a detail")
        logging.getLogger("pgml").warning("it holds %s", "a record")
    (tmp_path / "server.log").write_text("fine\nit holds a line\n")
    leaks.look_in_files(tmp_path, "*.log")
    with psycopg.connect(own_server.admin_url, application_name="pgml") as other:
        other.execute("SELECT 'an activity'")
        leaks.look_at_activity(admin)
    # Nothing is found where nothing is.
    leaks.look("here", "all is well")
    assert leaks.found == [
        "a word in a APIError",
        "a detail in a BadRequestError",
        "a record in a log record",
        "a line in server.log",
        "an activity in pg_stat_activity",
    ]
    with pytest.raises(AssertionError, match="there is no log"):
        leaks.look_in_files(tmp_path / "nowhere", "*.log")


def test_the_servers_log_has_neither_password_nor_key_nor_token(
    url: str,
    own_server: Server,
    engine: Engine,
    admin: psycopg.Connection[Any],
    leaks: Leaks,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "pgml")
    client = pgml.OpenSourceAI(url, max_retries=0)
    for streaming in ("push", "cursor"):
        other = pgml.OpenSourceAI(url, max_retries=0, streaming=streaming)  # type: ignore[arg-type]
        exchange = engine.expect(head(), chunk("first"), HANG)
        with other.chat_completions_create_stream(MODEL, QUESTION) as stream:
            next(stream)
            # While it runs: sessions, and the titles of their processes.
            leaks.look_at_activity(admin)
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    leaks.look("a process's title", path.read_text(errors="replace"))
                except OSError:
                    continue  # it has ended
        exchange.wait_gone()
        assert exchange.headers["authorization"] == f"Bearer {KEY}"
        assert TOKEN not in str(exchange.body)
    # Errors, and an engine that repeats what it was shown.
    for status in (400, 401, 403, 404, 429, 500):
        engine.expect(error(status, f"the key {KEY} is no good"))
        with pytest.raises(pgml.APIError):
            client.chat_completions_create(MODEL, QUESTION)
    with pytest.raises(pgml.NotFoundError):
        client.chat_completions_create({"model": "no such model", "token": TOKEN}, QUESTION)
    with pytest.raises(pgml.BadRequestError):
        client.chat_completions_create({"model": "scripted", "token": TOKEN}, [])
    wrong = pgml.OpenSourceAI(own_server.url("app", PASSWORD + "!"), max_retries=0)
    with pytest.raises(pgml.AuthenticationError):
        wrong.chat_completions_create(MODEL, QUESTION)
    assert PASSWORD not in repr(client)
    log = own_server.log.read_text()
    leaks.look("the server's log", log)
    # The log does have all the rest: it is not empty for another reason.
    assert QUESTION[0]["content"] in log
    assert "no such model" in log
    assert leaks.found == []


def test_a_token_in_sql_goes_no_further(
    engine: Engine, admin: psycopg.Connection[Any], leaks: Leaks
) -> None:
    """The statement itself may be logged, by Postgres; the extension neither sends nor says it."""
    ask = "SELECT pgml.chat_completion(%s::jsonb)"

    def request(model: str, **more: object) -> str:
        body = {"model": {"model": model, "token": TOKEN}, "messages": QUESTION, **more}
        return json.dumps(body)

    exchange = engine.expect(answer("fine"))
    admin.execute(ask, [request("scripted")])
    assert TOKEN not in str(exchange.body) + str(exchange.headers)
    for wrong in (request("no such model"), request("scripted", temperature=7), request("")):
        with pytest.raises(psycopg.Error) as caught:
            admin.execute(ask, [wrong])
        diagnosis = caught.value.diag
        leaks.look("an error", f"{diagnosis.message_primary} {diagnosis.message_detail}")
        leaks.look("a hint", f"{diagnosis.message_hint} {diagnosis.context}")
    assert leaks.found == []
