"""PostgresML's dialect: its functions on our engines, and our client on its functions alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pgml
import psycopg
import pytest
from conftest import COUNT, QUESTION, Call, Slots, text
from engine import CLOSE, HANG, ROLE, Engine, answer, chunk, ending, event, head, usage
from psycopg.types.json import Jsonb

SYSTEM = {"role": "system", "content": "You are a pirate."}


@pytest.fixture
def postgresml(
    call: Call, admin: psycopg.Connection[Any], engine: Engine, role: Callable[..., str], model: str
) -> Call:
    """A client whose role has a right to PostgresML's functions only."""
    url = role("postgresml")
    natives = (
        "SELECT p.oid::regprocedure::text FROM pg_proc p "
        "WHERE pronamespace = 'pgml'::regnamespace AND proname LIKE 'chat_completion%'"
    )
    for (function,) in admin.execute(natives).fetchall():
        admin.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
    servers = admin.execute("SELECT quote_ident(srvname) FROM pg_foreign_server").fetchall()
    for (server,) in servers:
        admin.execute(f"GRANT USAGE ON FOREIGN SERVER {server} TO postgresml")
    yield call.of(pgml.OpenSourceAI(url, max_retries=0))
    for (function,) in admin.execute(natives).fetchall():
        admin.execute(f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC")


def texts(*contents: str) -> list[bytes]:
    """A stream of `/completions`."""
    pieces = [event({"choices": [{"index": 0, "text": content}]}) for content in contents]
    last = event({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
    return [head(), *pieces, last, usage(3, len(contents))]


# The client on PostgresML's functions -----------------------------------------------------------


async def test_a_completion_of_the_real_model(postgresml: Call, call: Call, model: str) -> None:
    completion = await postgresml.create(model, COUNT, max_tokens=8, temperature=0)
    native = await call.create(model, COUNT, max_tokens=8, temperature=0)
    assert completion.choices[0].message == native.choices[0].message
    assert set(completion) == {
        *("id", "object", "created", "model", "system_fingerprint", "choices", "usage")
    }
    assert completion.object == "chat.completion"
    assert completion.model == model
    # PostgresML tells neither, and nothing is made up.
    assert completion.usage is None
    assert completion.choices[0].finish_reason is None


async def test_n_choices_and_a_stream_of_the_real_model(postgresml: Call, model: str) -> None:
    settings: dict[str, Any] = {"max_tokens": 8, "temperature": 1.5, "n": 2}
    completion = await postgresml.create(model, COUNT, **settings)
    assert [choice.index for choice in completion.choices] == [0, 1]
    chunks = await (await postgresml.stream(model, COUNT, **settings)).rest()
    for index in range(2):
        assert text(chunks, index)
        own = [c.choices[0] for c in chunks if c.choices[0].index == index]
        assert ["role" in choice.delta for choice in own] == [True] + [False] * (len(own) - 1)
    assert {(c.object, c.model) for c in chunks} == {("chat.completion.chunk", model)}


async def test_the_request_is_said_in_its_words(postgresml: Call, engine: Engine) -> None:
    exchange = engine.expect(answer("hi"))
    asked = {"model": "scripted", "device_map": "auto", "token": "hf_token"}
    messages = [SYSTEM, *QUESTION]
    completion = await postgresml.create(asked, messages, max_tokens=9, temperature=0.5, top_p=0.9)
    assert completion.choices[0].message == {"role": "assistant", "content": "hi"}
    assert exchange.body["messages"] == messages
    assert exchange.body["max_tokens"] == 9
    assert exchange.body["temperature"] == 0.5
    assert exchange.body["top_p"] == 0.9
    assert exchange.body["model"] == "engine-model"
    exchange = engine.expect(answer("hi"))
    await postgresml.create("scripted", QUESTION, temperature=0)
    assert exchange.body["temperature"] == 0


async def test_a_template_reaches_the_engine(postgresml: Call, engine: Engine) -> None:
    exchange = engine.expect(answer("hi"))
    await postgresml.create("scripted", QUESTION, chat_template="{{ messages[0].role }}:")
    assert (exchange.path, exchange.body["prompt"]) == ("/v1/completions", "user:")


async def test_the_first_chunk_arrives_before_the_next_is_made(
    postgresml: Call, engine: Engine
) -> None:
    # Later ones may come in batches: a FETCH of several rows waits for all of them.
    gate = engine.gate()
    engine.expect(head(), chunk("first "), gate, chunk("second"), ending())
    stream = await postgresml.stream("scripted", QUESTION)
    first = await stream.next()
    assert first.choices[0].delta == {"role": "assistant", "content": "first "}
    gate.open()
    assert text(await stream.rest()) == "second"


async def test_a_stream_of_thousands(postgresml: Call, engine: Engine) -> None:
    # Fetched in batches that grow: none is lost, and none comes twice.
    contents = [f"{number} " for number in range(3000)]
    engine.expect(head(), b"".join(map(chunk, contents)), ending())
    chunks = await (await postgresml.stream("scripted", QUESTION)).rest()
    assert [c.choices[0].delta.content for c in chunks] == contents


async def test_closing_its_stream_ends_the_generation(postgresml: Call, engine: Engine) -> None:
    exchange = engine.expect(head(), chunk("a"), HANG)
    stream = await postgresml.stream("scripted", QUESTION)
    await stream.next()
    await stream.close()
    exchange.wait_gone()
    engine.expect(answer("hello"))
    assert (await postgresml.create("scripted", QUESTION)).choices[0].message.content == "hello"


async def test_a_stream_that_breaks_raises(postgresml: Call, engine: Engine) -> None:
    gate = engine.gate()
    engine.expect(head(), chunk("a"), gate, CLOSE)
    stream = await postgresml.stream("scripted", QUESTION)
    assert (await stream.next()).choices[0].delta.content == "a"
    gate.open()
    with pytest.raises(pgml.APIConnectionError) as caught:
        await stream.rest()
    assert caught.value.sqlstate == "08006"
    # The transaction that failed is left, and the connection is good again.
    engine.expect(answer("hello"))
    assert text(await (await postgresml.stream("scripted", QUESTION)).rest()) == "hello"


async def test_its_errors(postgresml: Call) -> None:
    with pytest.raises(pgml.BadRequestError) as caught:
        await postgresml.create("scripted", [])
    assert (caught.value.param, caught.value.sqlstate) == ("messages", "22023")
    with pytest.raises(pgml.NotFoundError, match='"no such"') as missing:
        await postgresml.create("no such", QUESTION)
    assert missing.value.sqlstate == "42704"
    with pytest.raises(pgml.BadRequestError, match="PostgresML") as refused:
        await postgresml.create("scripted", QUESTION, logit_bias={"1": 1})
    assert (refused.value.param, refused.value.sqlstate) == ("logit_bias", "0A000")


# The native functions through a cursor ---------------------------------------------------------


async def test_a_native_stream_through_a_cursor(
    call: Call, engine: Engine, database_url: str
) -> None:
    fetched = call.of(pgml.OpenSourceAI(database_url, streaming="cursor", max_retries=0))
    gate = engine.gate()
    exchange = engine.expect(head(), ROLE, chunk("a"), gate, chunk("b"), chunk("c"), ending())
    stream = await fetched.stream("scripted", QUESTION, stream_options={"include_usage": True})
    first = await stream.next()
    assert first.choices[0].delta == {"role": "assistant", "content": "a"}
    gate.open()
    chunks = [first, *await stream.rest()]
    assert text(chunks) == "abc"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == 2
    assert exchange.path == "/v1/chat/completions"
    engine.expect(answer("hello"))
    assert (await fetched.create("scripted", QUESTION)).choices[0].message.content == "hello"
    exchange = engine.expect(head(), chunk("a"), HANG)
    async with await fetched.stream("scripted", QUESTION) as stream:
        await stream.next()
    exchange.wait_gone()


# PostgresML's functions in SQL -----------------------------------------------------------------


def one(admin: psycopg.Connection[Any], statement: str, *arguments: object) -> Any:
    row = admin.execute(statement, arguments).fetchone()
    assert row is not None
    return row[0]


CONVERSATION = {"task": "conversational", "model": "scripted"}
GENERATION = {"task": "text-generation", "model": "scripted"}


@pytest.mark.parametrize("task", [CONVERSATION, {**CONVERSATION, "device_map": "auto"}])
def test_transform_of_messages(
    admin: psycopg.Connection[Any], engine: Engine, task: dict[str, Any]
) -> None:
    first = engine.expect(answer("one"))
    second = engine.expect(answer("two"))
    result = one(
        admin,
        "SELECT pgml.transform(task => %s, args => %s, inputs => %s, cache => true)",
        Jsonb(task),
        Jsonb({"max_new_tokens": 5, "do_sample": True, "num_return_sequences": 2}),
        [Jsonb(SYSTEM), Jsonb(QUESTION[0])],
    )
    assert result == ["one", "two"]
    for exchange in (first, second):
        assert exchange.path == "/v1/chat/completions"
        assert exchange.body["messages"] == [SYSTEM, *QUESTION]
        assert exchange.body["max_tokens"] == 5
        assert exchange.body["temperature"] == 0.8
        unknown = {"do_sample", "num_return_sequences", "max_new_tokens", "task", "n"}
        assert not unknown & exchange.body.keys()


def test_transform_of_texts(admin: psycopg.Connection[Any], engine: Engine) -> None:
    first = engine.expect(texts(" upon", " a time"))
    second = engine.expect(texts(" live"))
    result = one(
        admin,
        "SELECT pgml.transform(task => %s, args => %s, inputs => %s::text[])",
        Jsonb(GENERATION),
        Jsonb({"max_new_tokens": 7, "do_sample": False, "repetition_penalty": 1.1}),
        ["Once", "Long"],
    )
    assert result == [[{"generated_text": "Once upon a time"}], [{"generated_text": "Long live"}]]
    assert [e.path for e in (first, second)] == ["/v1/completions"] * 2
    assert [e.body["prompt"] for e in (first, second)] == ["Once", "Long"]
    assert first.body["temperature"] == 0
    assert first.body["max_tokens"] == 7
    assert first.body["repeat_penalty"] == 1.1


def test_transform_without_the_prompt(admin: psycopg.Connection[Any], engine: Engine) -> None:
    engine.expect(texts(" upon"))
    result = one(
        admin,
        "SELECT pgml.transform(%s::jsonb, %s::jsonb, %s::text[])",
        json.dumps(GENERATION),
        json.dumps({"return_full_text": False}),
        ["Once"],
    )
    assert result == [[{"generated_text": " upon"}]]


def test_transform_takes_the_published_words(
    admin: psycopg.Connection[Any], engine: Engine
) -> None:
    exchange = engine.expect(answer("hi"))
    one(
        admin,
        "SELECT pgml.transform(task => %s, args => %s, inputs => %s)",
        Jsonb(CONVERSATION),
        Jsonb({"max_tokens": 5, "temperature": 0.3, "n": 1}),
        [Jsonb(QUESTION[0])],
    )
    assert exchange.body["max_tokens"] == 5
    assert exchange.body["temperature"] == 0.3


def test_transform_stream_of_messages(admin: psycopg.Connection[Any], engine: Engine) -> None:
    gate = engine.gate()
    engine.expect(head(), ROLE, chunk("a"), gate, chunk("b"), ending())
    rows = admin.cursor().stream(
        "SELECT pgml.transform_stream(task => %s, args => %s, inputs => %s)",
        [Jsonb(CONVERSATION), Jsonb({"max_new_tokens": 5}), [Jsonb(QUESTION[0])]],
    )
    assert next(rows) == (["a"],)
    gate.open()
    assert list(rows) == [(["b"],)]


def test_transform_stream_of_n(admin: psycopg.Connection[Any], engine: Engine) -> None:
    for content in ("a", "b"):
        engine.expect(answer(content))
    rows = admin.execute(
        "SELECT pgml.transform_stream(task => %s, args => %s, inputs => %s)",
        [Jsonb(CONVERSATION), Jsonb({"num_return_sequences": 2}), [Jsonb(QUESTION[0])]],
    ).fetchall()
    assert sorted(row[0] for row in rows) == [["", "b"], ["a", ""]]


@pytest.mark.parametrize("full", [True, False])
def test_transform_stream_of_a_text(
    admin: psycopg.Connection[Any], engine: Engine, full: bool
) -> None:
    engine.expect(texts(" upon", " a time"))
    rows = admin.execute(
        "SELECT pgml.transform_stream(task => %s, args => %s, input => %s)",
        [Jsonb(GENERATION), Jsonb({} if full else {"return_full_text": False}), "Once"],
    ).fetchall()
    assert [row[0] for row in rows] == [["Once"]] * full + [[" upon"], [" a time"]]


def test_transform_of_the_real_model(
    admin: psycopg.Connection[Any], model: str, slots: Slots
) -> None:
    args = Jsonb({"max_new_tokens": 4, "do_sample": False})
    task = Jsonb({"task": "text-generation", "model": model})
    ((generated,),) = one(
        admin, "SELECT pgml.transform(%s, %s, %s::text[])", task, args, ["The capital of France is"]
    )
    assert generated["generated_text"].startswith("The capital of France is Paris")
    conversation = Jsonb({"task": "conversational", "model": model})
    inputs = [Jsonb(COUNT[0])]
    (whole,) = one(admin, "SELECT pgml.transform(%s, %s, %s)", conversation, args, inputs)
    rows = admin.execute(
        "SELECT pgml.transform_stream(%s, %s, %s)", [conversation, args, inputs]
    ).fetchall()
    assert "".join(piece for ((piece,),) in rows) == whole


@pytest.mark.parametrize(
    ("statement", "sqlstate", "words"),
    [
        # Every overload, whose task can be a name; then no model is named.
        ("transform('text-generation', inputs => ARRAY['x'])", "22023", "name the model"),
        ("transform('conversational', inputs => ARRAY['{}'::jsonb])", "22023", "name the model"),
        ("transform_stream('text-generation', input => 'x')", "22023", "name the model"),
        ("transform_stream('conversational', inputs => ARRAY['{}'::jsonb])", "22023", "the model"),
        (
            "transform('translation_en_to_fr', inputs => ARRAY['x'])",
            "0A000",
            "translation_en_to_fr",
        ),
        ("transform_stream('summarization', input => 'x')", "0A000", "summarization"),
        (
            """transform('{"task": "fill-mask"}'::jsonb, inputs => ARRAY['x'])""",
            "0A000",
            "fill-mask",
        ),
        ("""transform('{"model": "x"}'::jsonb, inputs => ARRAY['x'])""", "22023", "name the task"),
        ("""transform('[]'::jsonb, inputs => ARRAY['x'])""", "22023", "task: must be"),
        ("transform('conversational', inputs => ARRAY['x'])", "22023", "jsonb[]"),
        ("transform('text-generation', inputs => ARRAY['{}'::jsonb])", "22023", "text[]"),
        ("transform('conversational', '[]', ARRAY['{}'::jsonb])", "22023", "args"),
        (
            """transform('{"task": "conversational", "model": "scripted"}'::jsonb,
                inputs => ARRAY['{"role": "user"}'::jsonb])""",
            "22023",
            "inputs[0].content",
        ),
    ],
)
def test_what_transform_refuses(
    admin: psycopg.Connection[Any], statement: str, sqlstate: str, words: str
) -> None:
    with pytest.raises(psycopg.Error) as caught:
        admin.execute(f"SELECT pgml.{statement}")
    assert caught.value.sqlstate == sqlstate
    assert words in str(caught.value)
    if sqlstate == "0A000":
        assert "conversational and text-generation" in (caught.value.diag.message_hint or "")
