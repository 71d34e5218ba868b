"""Any value in SQL: a right answer or an error of the caller's, and no backend crashes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pgml
import psycopg
import pytest
from engine import Engine, answer
from hostile import QUESTION, Ready, json_values
from hypothesis import given
from pgml._pgml import PARAMETERS

REQUEST: dict[str, Any] = {"model": "scripted", "messages": QUESTION}
FORMS = [
    f"SELECT pgml.{function}(%s::{kind})"
    for function in ("chat_completion", "chat_completion_stream")
    for kind in ("text", "json", "jsonb")
]
# Invalid value, not supported, no such model.
REFUSALS = {"22023", "0A000", "42704"}

VALUES: list[Any] = [None, True, -1, 1.5, "", "x", [], [1], {}, {"a": 1}]
OURS = ["chat_template", "chat_template_kwargs", "top_k", "own"]


@pytest.fixture
def ready(client: pgml.OpenSourceAI, engine: Engine) -> Iterator[Ready]:
    ready = Ready(engine)
    yield ready
    ready.finish(client)


@pytest.fixture(autouse=True)
def no_crash(admin: psycopg.Connection[Any]) -> Iterator[None]:
    """Fail if any backend crashed: Postgres then ends all sessions, that of `admin` too."""
    yield
    assert admin.execute("SELECT true").fetchone() == (True,)


def refusal(admin: psycopg.Connection[Any], query: str, *arguments: Any) -> psycopg.Error | None:
    """Run a statement, and return its error."""
    try:
        admin.execute(query, arguments).fetchall()
    except psycopg.Error as error:
        return error
    return None


# Requests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({*PARAMETERS, *OURS}))
def test_every_json_type_for_every_parameter(
    admin: psycopg.Connection[Any], ready: Ready, name: str
) -> None:
    for value in VALUES:
        check_value(admin, ready, name, value)


def check_value(admin: psycopg.Connection[Any], ready: Ready, name: str, value: Any) -> None:
    request = json.dumps({**REQUEST, name: value})
    outcomes = []
    for form in FORMS:
        error = refusal(admin, form, request)
        if error is None:
            exchange = ready.taken()
            assert exchange is not None
            outcomes.append(("accepted", json.dumps(exchange.body)))
            if name not in {"n", "stream", "stream_options", "chat_template"} and value is not None:
                assert exchange.body[name] == value
        else:
            assert error.sqlstate in REFUSALS
            assert error.diag.message_detail is not None
            assert error.diag.message_detail.startswith(f"Parameter: {name}")
            outcomes.append((error.sqlstate, error.diag.message_primary))
    # However the request is passed, and whether or not it is streamed. jsonb orders keys anew.
    by_kind = [outcomes[i : i + 3] for i in (0, 3)]
    assert by_kind[0] == by_kind[1]
    assert outcomes[0] == outcomes[1]
    assert outcomes[2][0] == outcomes[0][0]


@given(value=json_values)
def test_any_json(admin: psycopg.Connection[Any], ready: Ready, value: Any) -> None:
    for form in FORMS:
        error = refusal(admin, form, json.dumps(value))
        assert error is not None
        # 22P05: jsonb cannot hold \u0000; 22P02: nor the half of a surrogate pair.
        assert error.sqlstate in ({"22023", "22P05"} if "jsonb" in form else {"22023"})
        accepted = refusal(admin, form, json.dumps({**REQUEST, "own": value}))
        request = ready.taken()
        if accepted is None:
            assert request is not None
            got = request.body.get("own")
            assert got == value or "jsonb" in form  # which has numbers of its own
        else:
            assert "jsonb" in form
            assert accepted.sqlstate == "22P05"


DEEP = 200_000
TEXTS = {
    "nothing": "",
    "a space": " ",
    "no JSON": "{'model': 'scripted'}",
    "half of it": '{"model": "scripted", "messages": [{"role": "us',
    "two": "{} {}",
    "a comma": '{"model": "scripted",}',
    "NaN": '{"model": "scripted", "temperature": NaN}',
    "deep": "[" * DEEP + "]" * DEEP,
    "deep object": '{"a":' * DEEP + "1" + "}" * DEEP,
    "deeper than we read": json.dumps({**REQUEST, "own": 0}).replace("0", "[" * 200 + "]" * 200),
    "a huge number": json.dumps({**REQUEST, "own": 0}).replace("0", "1e400"),
    "a tiny escape": '{"model": "\\u00',
    "half a surrogate": '{"model": "\\ud800"}',
    "a surrogate twice": '{"model": "\\ud800\\ud800"}',
    "NUL": '{"model": "a\\u0000b", "messages": [{"role": "user", "content": "x"}]}',
    "5 MB of brackets": "[" * 5_000_000,
    "a newline in a text": '{"model": "a\nb"}',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_what_cannot_be_read(admin: psycopg.Connection[Any], text: str) -> None:
    for form in FORMS:
        error = refusal(admin, form, text)
        assert error is not None
        # Ours, and those of json and jsonb: syntax, \u0000, and too deep for Postgres's stack.
        assert error.sqlstate in {"22023", "42704", "22P02", "22P05", "54001"}


def test_the_last_of_two_keys_counts(admin: psycopg.Connection[Any], ready: Ready) -> None:
    for form in FORMS:
        text = json.dumps({"own": 1, **REQUEST}).replace('"own": 1', '"own": 1, "own": 2')
        assert refusal(admin, form, text) is None
        exchange = ready.taken()
        assert exchange is not None
        assert exchange.body["own"] == 2


@pytest.mark.parametrize("form", [FORMS[0], FORMS[5]])
def test_50_megabytes_arrive(admin: psycopg.Connection[Any], engine: Engine, form: str) -> None:
    exchange = engine.expect(answer("ok"))
    content = "äöü\n" * 7_000_000
    request = {**REQUEST, "messages": [{"role": "user", "content": content}]}
    assert refusal(admin, form, json.dumps(request, ensure_ascii=False)) is None
    assert exchange.body["messages"][0]["content"] == content


# PostgresML's functions ---------------------------------------------------------------------------

TRANSFORMS = [
    "SELECT pgml.transform(%s::jsonb, %s::jsonb, %s::text[])",
    "SELECT pgml.transform(%s::jsonb, %s::jsonb, %s::jsonb[])",
    "SELECT pgml.transform_stream(%s::jsonb, %s::jsonb, (%s::text[])[1])",
    "SELECT pgml.transform_stream(%s::jsonb, %s::jsonb, %s::jsonb[])",
]
THEIRS = ["max_new_tokens", "num_return_sequences", "stop_strings", "stop_sequence"]
THEIRS += ["repetition_penalty", "do_sample", "return_full_text", "max_tokens", "n", "stop"]
THEIRS += ["temperature", "seed", "tools", "response_format", "chat_template", "model", "own"]


@pytest.mark.parametrize("form", TRANSFORMS)
def test_every_json_type_for_every_argument(
    admin: psycopg.Connection[Any], ready: Ready, form: str
) -> None:
    for value in VALUES:
        check_arguments(admin, ready, form, value)


def check_arguments(admin: psycopg.Connection[Any], ready: Ready, form: str, value: Any) -> None:
    text = "text[]" in form
    name = "text-generation" if text else "conversational"
    task = {"task": name, "model": "scripted"}
    inputs = ["Once"] if text else [json.dumps(QUESTION[0])]
    calls = [(task, {name: value}, inputs) for name in THEIRS]
    calls += [({**task, name: value}, {}, inputs) for name in ("task", "model", "revision", "own")]
    calls += [(value, {}, inputs), (task, value, inputs)]
    calls += [(task, {}, made) for made in ([json.dumps(value)], [None], [*inputs, None], [], None)]
    for task_, args, inputs_ in calls:
        error = refusal(admin, form, json.dumps(task_), json.dumps(args), inputs_)
        ready.taken()
        assert error is None or error.sqlstate in REFUSALS, error


# Servers, options, models -------------------------------------------------------------------------

OPTIONS: list[Any] = [
    [],
    [None],
    ["base_url=http://a/v1", None],
    [""],
    ["="],
    ["base_url"],
    ["base_url="],
    ["base_url=http://" + "a" * 70_000],
    ["base_url=http://a/" + "%" * 70_000],
    ["base_url=http://[::1"],
    ["base_url=http://ä/ö"],
    ["base_url=http://a/v1", "base_url=http://b/v1"],
    ["base_url=http://a/v1", "read_timeout=1e-320"],
    ["base_url=http://a/v1", "read_timeout=1" + "0" * 1000],
    ["base_url=http://a/v1", "unix_socket=/" + "a" * 5000],
    ["api_key=" + "k" * 100_000],
    ["api_key=\r\nX: y"],
    [["base_url=http://a/v1"], ["x=y"]],
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: str(options)[:40])
def test_the_validator_can_be_called_by_hand(
    admin: psycopg.Connection[Any], options: list[Any]
) -> None:
    for catalog in ("pg_foreign_server", "pg_user_mapping", "pg_class"):
        query = f"SELECT pgml.engine_options(%s::text[], '{catalog}'::regclass)"
        error = refusal(admin, query, options)
        assert error is None or error.sqlstate == "22023", error
    assert refusal(admin, "SELECT pgml.engine_options(%s::text[], 0)", None) is None


NAMES = ["'", '"', "a\nb", "\\", "🦙" * 100, "a" * 2000, "{{", "%s", "\x7f"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_odd_names_of_models(admin: psycopg.Connection[Any], engine: Engine, name: str) -> None:
    insert = "INSERT INTO pgml.models (name, server, engine_model) VALUES (%s, %s, %s)"
    admin.execute(insert, [name, "standin", name * 100])
    ask = "SELECT pgml.chat_completion(%s::text) ->> 'model'"
    exchange = engine.expect(answer("ok"))
    request = json.dumps({**REQUEST, "model": name})
    assert admin.execute(ask, [request]).fetchone() == (name,)
    assert exchange.body["model"] == name * 100
    # It is in the hint of the error about another, and its server may be missing.
    other = refusal(admin, ask, json.dumps({**REQUEST, "model": f"{name}x"}))
    admin.execute("UPDATE pgml.models SET server = %s WHERE name = %s", [name, name])
    without_server = refusal(admin, ask, request)
    assert other is not None
    assert without_server is not None
    assert other.sqlstate == without_server.sqlstate == "42704"
    assert name.replace("'", "''").replace("\\", "\\\\") in str(other.diag.message_hint)
    admin.execute("DELETE FROM pgml.models WHERE name = %s", [name])
