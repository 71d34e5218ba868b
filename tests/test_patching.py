"""Tools that replace a method of the client, and what comes with a result beside it."""

from __future__ import annotations

import gc
import weakref
from datetime import timedelta
from typing import Any
from unittest import mock

import pgml
import pydantic
import pytest
from asked import ASKED
from conftest import QUESTION, Call, Face, text
from engine import HANG, Engine, answer, chunk, head

CLIENTS = [pgml.OpenSourceAI, pgml.AsyncOpenSourceAI]
URL = "postgresql://app@host/db"


@pytest.mark.parametrize("cls", CLIENTS)
def test_each_name_leads_to_one_object(cls: Any) -> None:
    client = cls(URL)
    assert client.chat is client.chat
    assert client.chat.completions is client.chat.completions
    assert client.beta.chat.completions is client.beta.chat.completions
    assert client.models is client.models
    for name in ("with_raw_response", "with_streaming_response"):
        assert getattr(client.chat.completions, name) is getattr(client.chat.completions, name)


def test_a_mock_takes_effect_and_ends(client: pgml.OpenSourceAI, engine: Engine) -> None:
    with mock.patch.object(client.chat.completions, "create", return_value="canned"):
        assert client.chat.completions.create(**ASKED) == "canned"
    with mock.patch.object(client, "chat") as chat:
        chat.completions.create.return_value = "canned"
        assert client.chat.completions.create(**ASKED) == "canned"
    engine.expect(answer("hi"))
    assert client.chat.completions.create(**ASKED).choices[0].message.content == "hi"
    with mock.patch("pgml.resources.Completions.create", return_value="canned"):
        assert client.chat.completions.create(**ASKED) == "canned"


async def test_a_wrapper_sees_every_call_once(face: Face, engine: Engine) -> None:
    seen: list[str] = []

    def wrap(name: str) -> None:
        original = getattr(face.client.chat.completions, name)

        def wrapped(**arguments: Any) -> Any:
            seen.append(name)
            return original(**arguments)

        setattr(face.client.chat.completions, name, wrapped)

    wrap("create")
    wrap("parse")
    engine.expect(answer("hi"))
    await face.create(**ASKED)
    engine.expect(answer("hi"))
    await (await face.stream(**ASKED)).rest()
    engine.expect(answer("hi"))
    await face.parse(**ASKED)
    assert seen == ["create", "create", "parse"]
    # Another client is another namespace.
    engine.expect(answer("hi"))
    await face.with_options(max_retries=0).create(**ASKED)
    assert seen == ["create", "create", "parse"]


@pytest.mark.parametrize("cls", CLIENTS)
def test_the_namespace_keeps_no_client_alive(cls: Any) -> None:
    """What closes the connections is the end of the client: it must not wait for a collection."""
    client = cls(URL)
    completions = client.chat.completions
    for other in (client.beta.chat.completions, client.models, completions.with_raw_response):
        assert other is not client
    del other
    reference = weakref.ref(client)
    below = weakref.ref(completions)
    gc.disable()
    try:
        del client, completions
        assert reference() is None
        assert below() is None
    finally:
        gc.enable()


def test_settings_that_change_later_count(database_url: str, engine: Engine) -> None:
    client = pgml.OpenSourceAI(database_url, max_retries=0)
    completions = client.chat.completions
    # The request that times out may reach the engine or not.
    engine.always(answer("hi"))
    client.timeout = 1e-9
    with pytest.raises(pgml.APITimeoutError):
        completions.create(**ASKED)
    client.timeout = None
    completions.create(**ASKED)


async def test_a_text_completion_is_refused(face: Face) -> None:
    with pytest.raises(pgml.BadRequestError, match=r"completions\.create: is not supported"):
        await face._wait(face.client.completions.create(model="scripted", prompt="Hi"))


# Headers ------------------------------------------------------------------------------------------

TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=a,other=b",
    "baggage": "user=1, tenant=a%20b",
}


async def test_trace_context_reaches_the_engine(call: Call, engine: Engine) -> None:
    for method in (call.create, call.stream):
        exchange = engine.expect(answer("hi"))
        given = {name.title(): value for name, value in TRACE.items()}
        result = await method("scripted", QUESTION, extra_headers=given)
        if method == call.stream:
            await result.rest()
        assert {name: exchange.headers[name] for name in TRACE} == TRACE
        assert "extra_headers" not in exchange.body


async def test_a_request_has_the_id_that_it_is_given(face: Face, engine: Engine) -> None:
    exchange = engine.expect(answer("hi"))
    headers = {"X-Request-ID": "mine-1"}
    completion = await face.create(**ASKED, extra_headers=headers)
    assert exchange.headers["x-request-id"] == "mine-1"
    assert completion.id == "mine-1"
    with pytest.raises(pgml.NotFoundError) as caught:
        await face.create(model="none", messages=QUESTION, extra_headers=headers)
    assert caught.value.request_id == "mine-1"
    assert headers == {"X-Request-ID": "mine-1"}


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "Cookie", "OpenAI-Organization"])
async def test_other_headers_are_refused_by_name(call: Call, name: str) -> None:
    with pytest.raises(TypeError, match=f"extra_headers: '{name}' cannot be sent"):
        await call.create("scripted", QUESTION, extra_headers={**TRACE, name: "secret"})


@pytest.mark.parametrize("value", ["", "a b", "a\r\nX: y", "ä", "a" * 129, 1])
async def test_an_id_that_is_none(call: Call, value: Any) -> None:
    with pytest.raises(ValueError, match="extra_headers: X-Request-Id"):
        await call.create("scripted", QUESTION, extra_headers={"X-Request-Id": value})


@pytest.mark.parametrize("value", ["a\r\nX: y", "ä", "a" * 8193, 1])
async def test_trace_context_that_is_none(call: Call, value: Any) -> None:
    with pytest.raises(pgml.BadRequestError) as caught:
        await call.create("scripted", QUESTION, extra_headers={"baggage": value})
    assert caught.value.param == "extra_headers.baggage"


# with_raw_response --------------------------------------------------------------------------------


async def test_a_raw_response(face: Face, engine: Engine) -> None:
    raw = face.client.chat.completions.with_raw_response
    exchange = engine.expect(answer("hi"))
    response = await face._wait(raw.create(**ASKED))
    assert response.parse().choices[0].message.content == "hi"
    assert response.request_id == response.parse().id == exchange.headers["x-request-id"]
    assert response.headers["X-Request-ID"] == response.headers["x-request-id"]
    assert dict(response.headers) == {"x-request-id": response.request_id}
    assert response.headers.get("content-type") is None
    assert timedelta(0) < response.elapsed < timedelta(minutes=1)
    assert response.status_code == 200

    exchange = engine.expect(answer('{"day": 1}'))
    form = pydantic.create_model("Form", day=(int, ...))
    own = {"X-Request-Id": "own"}
    response = await face._wait(raw.parse(**ASKED, response_format=form, extra_headers=own))
    assert response.parse().choices[0].message.parsed == form(day=1)
    assert response.request_id == exchange.headers["x-request-id"] == "own"


async def test_a_raw_response_of_a_stream(face: Face, engine: Engine) -> None:
    raw = face.client.chat.completions.with_raw_response
    exchange = engine.expect(answer("a", "b"))
    response = await face._wait(raw.create(**ASKED, stream=True))
    stream = response.parse()
    chunks = [piece async for piece in stream] if hasattr(stream, "__aiter__") else list(stream)
    assert text(chunks) == "ab"
    assert response.request_id == exchange.headers["x-request-id"] == chunks[0].id


async def test_a_raw_response_goes_through_what_is_patched(face: Face) -> None:
    completions = face.client.chat.completions
    raw = completions.with_raw_response
    canned = mock.AsyncMock if isinstance(face.client, pgml.AsyncOpenSourceAI) else mock.Mock
    with mock.patch.object(completions, "create", canned(return_value="canned")):
        assert (await face._wait(raw.create(**ASKED))).parse() == "canned"


def test_a_raw_response_outlives_its_client(database_url: str, engine: Engine) -> None:
    raw = pgml.OpenSourceAI(database_url).chat.completions.with_raw_response
    engine.expect(answer("hi"))
    assert raw.create(**ASKED).parse().choices[0].message.content == "hi"


async def test_a_streaming_response_is_closed(
    database_url: str, deadline: None, engine: Engine
) -> None:
    exchange = engine.expect(head(), chunk("a"), HANG)
    with pgml.OpenSourceAI(database_url) as client:
        streamed = client.chat.completions.with_streaming_response
        with streamed.create(**ASKED, stream=True) as response:
            assert next(response.parse()).choices[0].delta.content == "a"
        exchange.wait_gone()
        engine.expect(answer("hi"))
        with streamed.create(**ASKED) as response:
            assert response.parse().choices[0].message.content == "hi"

    exchange = engine.expect(head(), chunk("a"), HANG)
    async with pgml.AsyncOpenSourceAI(database_url) as other:
        manager = other.chat.completions.with_streaming_response.create(**ASKED, stream=True)
        async with manager as answered:
            stream = await answered.parse()
            assert (await stream.__anext__()).choices[0].delta.content == "a"
        exchange.wait_gone()
