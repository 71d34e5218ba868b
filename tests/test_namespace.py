"""The openai package's namespace: code written for it works with the import changed."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Callable
from typing import Any

import pgml
import psycopg
import pytest
from asked import ASKED, AT_ONCE
from conftest import QUESTION, Face, text
from engine import (
    CLOSE,
    HANG,
    PATIENCE,
    RESET,
    ROLE,
    Engine,
    answer,
    chunk,
    error,
    event,
    head,
)
from pgml.objects import Model, ModelList

# create -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [{}, {"stream": False}, {"stream": None}], ids=str)
async def test_create(face: Face, engine: Engine, stream: dict[str, Any]) -> None:
    exchange = engine.expect(answer("Hel", "lo"))
    completion = await face.create(**ASKED, **stream, temperature=0.25, max_tokens=4)
    assert type(completion) is pgml.ChatCompletion
    assert completion.choices[0].message.content == "Hello"
    assert exchange.body["temperature"] == 0.25
    assert exchange.body["max_tokens"] == 4


async def test_create_with_stream(face: Face, engine: Engine) -> None:
    engine.expect(answer("Hel", "lo"))
    stream = await face.stream(**ASKED, stream_options={"include_usage": True})
    chunks = await stream.rest()
    assert text(chunks) == "Hello"
    assert all(type(piece) is pgml.ChatCompletionChunk for piece in chunks)
    assert chunks[-1].usage.completion_tokens == 2


async def test_an_async_stream_is_an_async_iterator(
    database_url: str, deadline: None, engine: Engine
) -> None:
    client = pgml.AsyncOpenSourceAI(database_url, max_retries=0)
    engine.expect(answer("Hel", "lo"))
    coroutine = client.chat.completions.create(**ASKED, stream=True)
    assert isinstance(coroutine, types.CoroutineType)
    stream = await coroutine
    assert isinstance(stream, AsyncIterator)
    assert isinstance(stream, pgml.AsyncChatCompletionStream)
    assert [c.choices[0].delta.content async for c in stream] == ["Hel", "lo", None]


async def test_the_defaults_are_the_specs(face: Face, engine: Engine) -> None:
    exchange = engine.expect(answer("hi"))
    completion = await face.create(**ASKED)
    assert exchange.body["temperature"] == 0.8
    assert "max_tokens" not in exchange.body
    assert len(completion.choices) == 1


async def test_all_arguments_have_names(face: Face) -> None:
    with pytest.raises(TypeError, match="positional"):
        await asyncio.to_thread(face.client.chat.completions.create, "scripted", QUESTION)


async def test_what_the_four_methods_take(face: Face, engine: Engine) -> None:
    """The spec's own arguments are there too."""
    exchange = engine.expect(answer("hi"))
    completion = await face.create(
        model={"model": "scripted", "device_map": "auto"},
        messages=QUESTION,
        n=1,
        chat_template="Say: {{ messages[0].content }}",
    )
    assert completion.model == "scripted"
    assert exchange.body["prompt"] == "Say: " + QUESTION[0]["content"]


async def test_a_stream_that_is_left_ends(face: Face, engine: Engine) -> None:
    exchange = engine.expect(head(), ROLE, chunk("a"), HANG)
    async with await face.stream(**ASKED) as stream:
        assert (await stream.next()).choices[0].delta.content == "a"
    exchange.wait_gone()


async def test_an_async_stream_closes_by_both_of_openais_names(
    database_url: str, deadline: None, engine: Engine
) -> None:
    client = pgml.AsyncOpenSourceAI(database_url, max_retries=0)
    for name in ("aclose", "close"):
        exchange = engine.expect(head(), ROLE, chunk("a"), HANG)
        stream = await client.chat.completions.create(**ASKED, stream=True)
        await getattr(stream, name)()
        exchange.wait_gone()


async def test_a_cancelled_task_ends_the_generation(
    database_url: str, deadline: None, engine: Engine
) -> None:
    client = pgml.AsyncOpenSourceAI(database_url, max_retries=0)
    exchange = engine.expect(HANG)
    task = asyncio.create_task(client.chat.completions.create(**ASKED))
    await asyncio.to_thread(exchange.wait_arrived)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(exchange.wait_gone)


async def test_completions_side_by_side(database_url: str, deadline: None, engine: Engine) -> None:
    client = pgml.AsyncOpenSourceAI(database_url, max_retries=0)
    gate = engine.gate()
    exchanges = [engine.expect(gate, answer("hi")) for _ in range(5)]
    calls = asyncio.gather(*(client.chat.completions.create(**ASKED) for _ in exchanges))
    for exchange in exchanges:
        await asyncio.to_thread(exchange.wait_arrived)
    gate.open()
    assert [c.choices[0].message.content for c in await calls] == ["hi"] * 5


# models -------------------------------------------------------------------------------------------


async def test_models(face: Face, engine: Engine, model: str) -> None:
    models = await face.models()
    assert type(models) is ModelList
    assert models.data is models
    assert models.object == "list"
    known = {entry.id: entry for entry in models}
    assert {model, "scripted"} <= set(known)
    scripted = known["scripted"]
    assert type(scripted) is Model
    assert scripted["object"] == scripted.object == "model"
    assert scripted.owned_by == "standin"
    assert type(scripted.created) is int


async def test_one_model(face: Face, engine: Engine) -> None:
    retrieved = await face.retrieve("scripted")
    assert retrieved.id == "scripted"
    with pytest.raises(pgml.NotFoundError, match="'nosuch' does not exist") as caught:
        await face.retrieve("nosuch")
    assert caught.value.code == "model_not_found"
    assert caught.value.sqlstate == "42704"
    assert "scripted" in caught.value.message


async def test_models_are_those_that_the_role_may_use(
    face: Face,
    engine: Engine,
    role: Callable[..., str],
    admin: psycopg.Connection[Any],
) -> None:
    url = role("namespace_reader")
    other = Face(type(face.client)(url, max_retries=0))
    admin.execute("GRANT USAGE ON SCHEMA pgml TO namespace_reader")
    assert "scripted" not in {entry.id for entry in await other.models()}
    admin.execute("GRANT USAGE ON FOREIGN SERVER standin TO namespace_reader")
    assert "scripted" in {entry.id for entry in await other.models()}


# timeout ------------------------------------------------------------------------------------------


async def test_timeout_of_a_call(face: Face, engine: Engine) -> None:
    for method in (face.create, face.stream):
        exchange = engine.expect(HANG)
        with pytest.raises(pgml.APITimeoutError, match="timeout"):
            await method(**ASKED, timeout=AT_ONCE)
        exchange.wait_gone()


async def test_timeout_half_way(face: Face, engine: Engine) -> None:
    exchange = engine.expect(head(), ROLE, chunk("a"), HANG)
    stream = await face.stream(**ASKED, timeout=2)
    assert (await stream.next()).choices[0].delta.content == "a"
    with pytest.raises(pgml.APITimeoutError):
        await stream.next()
    exchange.wait_gone()


async def test_timeout_as_an_option(face: Face, engine: Engine) -> None:
    hasty = face.with_options(timeout=AT_ONCE)
    exchange = engine.expect(HANG)
    with pytest.raises(pgml.APITimeoutError):
        await hasty.create(**ASKED)
    exchange.wait_gone()
    # A call's own timeout counts before that of the client, which is as it was.
    engine.expect(answer("hi"))
    await hasty.create(**ASKED, timeout=PATIENCE)
    assert face.client.timeout == 600


async def test_a_timeout_is_not_tried_again(face: Face, engine: Engine) -> None:
    """The engine may be at work on it. `engine` fails the test if there is a second request."""
    exchange = engine.expect(HANG)
    with pytest.raises(pgml.APITimeoutError):
        await face.with_options(max_retries=2).create(**ASKED, timeout=AT_ONCE)
    exchange.wait_gone()


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
async def test_a_timeout_is_above_zero(face: Face, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout: must be a number of seconds above 0"):
        await face.create(**ASKED, timeout=timeout)


async def test_options_share_connections(face: Face, engine: Engine) -> None:
    other = face.with_options(max_retries=5)
    assert type(other.client) is type(face.client)
    assert other.client is not face.client
    assert (other.client.max_retries, other.client.timeout) == (5, 600)
    assert (face.client.max_retries, face.client.timeout) == (0, 600)
    assert other.with_options(timeout=3).client.max_retries == 5
    assert other.client._client is face.client._client


# max_retries --------------------------------------------------------------------------------------


def busy(status: int = 503) -> bytes:
    return error(status, "come again", Retry_After="0")


@pytest.mark.parametrize("status", [429, 503])
async def test_an_engine_that_is_busy_is_asked_again(
    face: Face, engine: Engine, status: int
) -> None:
    patient = face.with_options(max_retries=2)
    for method in (patient.create, patient.stream):
        exchanges = [
            engine.expect(busy(status)),
            engine.expect(busy(status)),
            engine.expect(answer("hi")),
        ]
        result = await method(**ASKED)
        if method == patient.stream:
            assert text(await result.rest()) == "hi"
        else:
            assert result.choices[0].message.content == "hi"
        assert all(exchange.body == exchanges[0].body for exchange in exchanges)


async def test_an_engine_that_fails_is_asked_again(face: Face, engine: Engine) -> None:
    engine.expect(busy(500))
    engine.expect(answer("hi"))
    completion = await face.with_options(max_retries=1).create(**ASKED)
    assert completion.choices[0].message.content == "hi"


async def test_retries_have_an_end(face: Face, engine: Engine) -> None:
    for retries in (0, 1, 2):
        for _ in range(retries + 1):
            engine.expect(busy())
        with pytest.raises(pgml.RateLimitError, match="come again"):
            await face.with_options(max_retries=retries).create(**ASKED)
        assert engine.left == 0


async def test_two_retries_are_the_default(face: Face, engine: Engine, database_url: str) -> None:
    default = Face(type(face.client)(database_url))
    assert default.client.max_retries == 2
    for _ in range(3):
        engine.expect(busy())
    with pytest.raises(pgml.RateLimitError):
        await default.create(**ASKED)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_an_error_that_stays_is_not_tried_again(
    face: Face, engine: Engine, status: int
) -> None:
    engine.expect(busy(status))
    with pytest.raises(pgml.APIStatusError, match="come again"):
        await face.with_options(max_retries=2).create(**ASKED)


@pytest.mark.parametrize(
    "end", [[CLOSE], [RESET], [event({"error": {"message": "broke", "code": 500}})]], ids=str
)
async def test_never_after_the_first_token(face: Face, engine: Engine, end: list[Any]) -> None:
    """`engine` fails the test if there is a second request."""
    gate = engine.gate()
    engine.expect(head(), ROLE, chunk("a"), gate, end)
    stream = await face.with_options(max_retries=2).stream(**ASKED)
    assert (await stream.next()).choices[0].delta.content == "a"
    gate.open()
    with pytest.raises(pgml.APIError):
        await stream.rest()


async def test_an_unstreamed_completion_is_tried_again_as_a_whole(
    face: Face, engine: Engine
) -> None:
    """Nothing of it had come: the pieces of the first attempt are gone."""
    engine.expect(head(), ROLE, chunk("lost"), CLOSE)
    engine.expect(answer("hi"))
    completion = await face.with_options(max_retries=1).create(**ASKED)
    assert completion.choices[0].message.content == "hi"


@pytest.mark.parametrize("retries", [-1, 1.5, "many"])
async def test_retries_are_a_whole_number(face: Face, retries: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        await face.with_options(max_retries=retries).create(**ASKED)
