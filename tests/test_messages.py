"""What messages may be made of, and what comes back besides text."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pgml
import pytest
from asked import FRUITS, said
from conftest import QUESTION, Call
from engine import DONE, ROLE, Engine, answer, chunk, ending, error, event, head, usage


def test_content_parts_of_text(client: pgml.OpenSourceAI, model: str) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": FRUITS[0]["content"]}]}]
    whole = client.chat_completions_create(model, FRUITS, 8, 0)
    assert said(client.chat_completions_create(model, parts, 8, 0)) == said(whole)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f"}},
    ],
    ids=lambda part: part["type"],
)
async def test_content_parts_reach_the_engine(
    call: Call, engine: Engine, part: dict[str, Any]
) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}]
    exchange = engine.expect(answer("hi"))
    await call.create("scripted", messages)
    assert exchange.body["messages"] == messages


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
FILE = {"type": "file", "file": {"file_id": "f"}}


@pytest.mark.parametrize("part", [PICTURE, SOUND, FILE], ids=lambda part: part["type"])
async def test_a_part_that_the_model_cannot_take(
    call: Call, model: str, part: dict[str, Any]
) -> None:
    """The real model takes text only."""
    messages = [*FRUITS, {"role": "user", "content": [{"type": "text", "text": "And?"}, part]}]
    for method in (call.create, call.stream):
        with pytest.raises(pgml.BadRequestError, match="support") as caught:
            await method(model, messages, max_tokens=1)
        assert caught.value.param == "messages[1].content[1]"
        assert caught.value.message.startswith("messages[1].content[1]: ")
        assert caught.value.sqlstate == "0A000"


async def test_a_part_that_the_model_cannot_take_is_not_tried_again(
    call: Call, engine: Engine
) -> None:
    """`engine` fails the test if there is a second request."""
    patient = call.of(call.client.with_options(max_retries=2))
    messages = [{"role": "user", "content": [PICTURE]}]
    engine.expect(error(500, "image input is not supported"))
    with pytest.raises(pgml.BadRequestError):
        await patient.create("scripted", messages)
    # vLLM's words.
    engine.expect(error(400, "At most 0 image(s) may be provided in one prompt."))
    with pytest.raises(pgml.BadRequestError, match="At most 0") as caught:
        await patient.create("scripted", messages)
    assert caught.value.param == "messages[0].content[0]"
    assert caught.value.sqlstate == "22023"


def test_messages_may_be_what_their_types_allow(client: pgml.OpenSourceAI, engine: Engine) -> None:
    for messages in (tuple(QUESTION), [MappingProxyType(QUESTION[0])]):
        exchange = engine.expect(answer("hi"))
        client.chat_completions_create("scripted", messages)
        assert exchange.body["messages"] == QUESTION


def test_messages_may_be_an_iterator(client: pgml.OpenSourceAI, engine: Engine) -> None:
    """As in the openai package, whose type for them is Iterable."""
    exchange = engine.expect(answer("hi"))
    client.chat.completions.create(model="scripted", messages=(m for m in QUESTION))
    assert exchange.body["messages"] == QUESTION


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
async def test_reasoning_is_kept(call: Call, engine: Engine, name: str) -> None:
    def thought(text: str) -> bytes:
        delta = {name: text}
        return event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    script = [head(), ROLE, thought("Hm"), thought("m."), chunk("Four"), *ending()]
    engine.expect(script)
    message = (await call.create("scripted", QUESTION)).choices[0].message
    assert message == {"role": "assistant", "content": "Four", name: "Hmm."}
    # What vLLM's users read, and what llama.cpp's do.
    assert message.reasoning == message.reasoning_content == "Hmm."
    engine.expect(script)
    deltas = [
        piece.choices[0].delta for piece in await (await call.stream("scripted", QUESTION)).rest()
    ]
    assert [delta[name] for delta in deltas if name in delta] == ["Hm", "m."]
    for either in ("reasoning", "reasoning_content"):
        told = [getattr(delta, either) for delta in deltas if hasattr(delta, either)]
        assert told == ["Hm", "m."]
    assert [delta.content for delta in deltas if delta.content] == ["Four"]


async def test_a_refusal_is_kept(call: Call, engine: Engine) -> None:
    delta = {"refusal": "I cannot."}
    engine.expect(
        head(),
        ROLE,
        event({"choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]}),
        usage(1, 1),
        DONE,
    )
    message = (await call.create("scripted", QUESTION)).choices[0].message
    assert message == {"role": "assistant", "content": None, "refusal": "I cannot."}
