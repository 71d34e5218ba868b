"""Any value for any parameter in Python: a right answer or a clear error, and nothing breaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pgml
import psycopg
import pytest
from conftest import Call, text
from engine import DONE, Engine, answer, event, head
from hostile import (
    HOSTILE,
    QUESTION,
    HostileError,
    Ready,
    hostile_values,
    json_values,
    messages,
    nested,
)
from hypothesis import given
from hypothesis import strategies as st
from pgml.types import Parameters

PARAMETERS = ["model", "messages", "max_tokens", "temperature", "n", "chat_template"]
PARAMETERS += sorted(Parameters.__annotations__)
TOOL = {"type": "function", "function": {"name": "f"}}
# As deep as a request may be nested, counting the request itself.
DEEPEST = 127


@pytest.fixture(autouse=True)
def no_crash(admin: psycopg.Connection[Any]) -> Iterator[None]:
    """Fail if any backend crashed: Postgres then ends all sessions, that of `admin` too."""
    yield
    assert admin.execute("SELECT true").fetchone() == (True,)


@pytest.fixture
def ready(client: pgml.OpenSourceAI, engine: Engine) -> Iterator[Ready]:
    ready = Ready(engine)
    yield ready
    ready.finish(client)


@given(messages=messages, extra=json_values.filter(lambda value: value is not None))
def test_the_engine_gets_what_was_given(
    client: pgml.OpenSourceAI, engine: Engine, messages: list[Any], extra: Any
) -> None:
    exchange = engine.expect(answer("ok"))
    client.chat_completions_create("scripted", messages, extra_body={"extra": extra})
    # As texts: with the order of keys, and 1 is not 1.0.
    got = [exchange.body["messages"], exchange.body["extra"]]
    assert json.dumps(got) == json.dumps([messages, extra])


def outcome(client: pgml.OpenSourceAI, ready: Ready, name: str, arguments: dict[str, Any]) -> None:
    """Make a completion. It may fail by an error that names the parameter."""
    request = {"model": "scripted", "messages": QUESTION, **arguments}
    error: Exception | None = None
    try:
        client.chat_completions_create(**request)
    except Exception as raised:
        error = raised
    if isinstance(error, pgml.APIError):
        assert error.sqlstate in {"22023", "0A000", "42704"}
        assert error.param is not None
        assert error.param.startswith(name), error
    elif error is not None and not isinstance(error, HostileError):
        assert isinstance(error, (TypeError, ValueError)), error
        assert str(error).startswith(name), error
    ready.taken()


@given(name=st.sampled_from(PARAMETERS), value=hostile_values)
def test_any_value_of_any_parameter(
    client: pgml.OpenSourceAI, ready: Ready, name: str, value: Any
) -> None:
    if name == "n" and type(value) is int and 1 < value <= 128:
        value = 129  # Else as many requests would come.
    # What is in extra_body is named by its own name.
    outcome(client, ready, "" if name == "extra_body" else name, {name: value})


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_json_is_named(client: pgml.OpenSourceAI, ready: Ready, kind: str) -> None:
    make = HOSTILE[kind]
    for name in PARAMETERS:
        outcome(client, ready, "" if name == "extra_body" else name, {name: make()})
    outcome(client, ready, "model", {"model": {"model": "scripted", "token": make()}})
    outcome(client, ready, "model.own", {"model": {"model": "scripted", "own": make()}})
    outcome(client, ready, "messages[0].c", {"messages": [{"role": "user", "content": make()}]})
    outcome(client, ready, "messages[0].own", {"messages": [{**QUESTION[0], "own": make()}]})
    outcome(client, ready, "tools[1]", {"tools": [TOOL, make()]})
    outcome(client, ready, "own", {"extra_body": {"own": make()}})


@pytest.mark.parametrize("kind", ["a lone surrogate", "an endless list", "a mock", "NaN", "bytes"])
async def test_both_faces_and_streams_name_it(call: Call, kind: str) -> None:
    for method in (call.create, call.stream):
        with pytest.raises((TypeError, ValueError), match=r"^messages\[0\]\.content"):
            await method("scripted", [{"role": "user", "content": HOSTILE[kind]()}])


def test_a_request_may_be_as_deep_as_the_error_says(
    client: pgml.OpenSourceAI, engine: Engine
) -> None:
    exchange = engine.expect(answer("ok"))
    deepest = nested(DEEPEST - 1)
    client.chat_completions_create("scripted", QUESTION, extra_body={"own": deepest})
    assert exchange.body["own"] == deepest
    with pytest.raises(ValueError, match=f"own.* deeper than {DEEPEST} levels"):
        client.chat_completions_create("scripted", QUESTION, extra_body={"own": [deepest]})


@pytest.mark.parametrize("place", ["content", "model", "key", "stop", "chat_template", "schema"])
def test_a_huge_text_arrives(
    client: pgml.OpenSourceAI, engine: Engine, admin: psycopg.Connection[Any], place: str
) -> None:
    huge = 'ä\0"\\🦙' * 400_000  # 4 MB
    if place == "model":
        with pytest.raises(pgml.NotFoundError) as caught:
            client.chat_completions_create(huge, QUESTION)
        assert caught.value.param == "model"
        return
    arguments: dict[str, Any] = {
        "content": {"messages": [{"role": "user", "content": huge}]},
        "key": {"extra_body": {huge: 1}},
        "stop": {"stop": [huge]},
        "chat_template": {"chat_template": huge},
        "schema": {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "s", "schema": {"const": huge}},
            }
        },
    }[place]
    exchange = engine.expect(answer("ok"))
    client.chat_completions_create("scripted", **{"messages": QUESTION, **arguments})
    wanted = {
        "content": lambda body: body["messages"][0]["content"],
        "key": lambda body: next(key for key in body if len(key) > 100),
        "stop": lambda body: body["stop"][0],
        "chat_template": lambda body: body["prompt"],
        "schema": lambda body: body["response_format"]["json_schema"]["schema"]["const"],
    }[place]
    assert wanted(exchange.body) == huge


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), -1.0, 0.0, 10**400, "1", b"1"])
async def test_a_timeout_that_is_none_is_named(call: Call, timeout: Any) -> None:
    for method in (call.create, call.stream):
        with pytest.raises((TypeError, ValueError, OverflowError), match=r"timeout|float"):
            await method("scripted", QUESTION, timeout=timeout)


ODD = {
    "NUL": r'"a\u0000b"',
    "half a surrogate": r'"a\ud800b"',
    "a deep list": "[" * 500 + "]" * 500,
    "a very deep list": "[" * 200_000 + "]" * 200_000,
}


@pytest.mark.parametrize("kind", ODD)
async def test_odd_values_of_an_engine(call: Call, engine: Engine, kind: str) -> None:
    piece = f'{{"choices": [{{"delta": {{"content": {ODD[kind]}}}, "finish_reason": "stop"}}]}}'
    script = [head(), event(piece), DONE]
    for method in (call.create, call.stream):
        engine.expect(script)
        try:
            reply = await method("scripted", QUESTION)
            content = (
                text(await reply.rest())
                if method == call.stream
                else reply.choices[0].message.content
            )
        except pgml.APIError as error:
            sqlstate, content = error.sqlstate, None
        else:
            sqlstate = None
        # Half a surrogate is not a character, and a list of nothing has no text.
        expected = {"NUL": "a\0b", "half a surrogate": "a\ufffdb"}
        assert (content, sqlstate) == (expected.get(kind, ""), None)
