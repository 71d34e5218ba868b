"""`chat.completions.stream`: the events are those that openai's accumulator makes of the chunks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pgml
import pydantic
import pytest
from conftest import QUESTION
from engine import DONE, HANG, ROLE, Engine, Step, answer, chunk, event, head
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from test_openai_types import SCRIPTS, TOOL, Weather, call_piece

FORM = {"response_format": Weather}
TOOLS = {"tools": [TOOL]}
STRICT = {"tools": [{"type": "function", "function": {"name": "Weather", "strict": True}}]}

CASES: dict[str, tuple[list[Step], dict[str, Any]]] = {
    **{name: (script, {}) for name, script in SCRIPTS.items()},
    "a form": (answer('{"unit": ', '"c", "ci', 'ty": "Rome"}'), FORM),
    "tools with models": (SCRIPTS["two calls at once"], TOOLS),
    "strict tools": (SCRIPTS["two calls at once"], STRICT),
    "a refusal of a form": (SCRIPTS["refusal"], FORM),
}

STREAMS = Path(__file__).parents[1] / "protocol" / "tests" / "streams"
# Those of engines that answer; what those that fail become is an error.
RECORDED = {
    path: path.read_bytes()
    for path in sorted(STREAMS.glob("*.sse"))
    if "error" not in json.loads(path.with_suffix(".json").read_text())
}


@contextlib.asynccontextmanager
async def streaming(client: Any, **asked: Any) -> AsyncIterator[Any]:
    """The stream of either client, both read with `await`."""
    manager = client.chat.completions.stream(**{"model": "scripted", "messages": QUESTION, **asked})
    if isinstance(client, pgml.AsyncOpenSourceAI):
        async with manager as stream:
            yield stream
    else:
        with manager as stream:
            yield Awaited(stream)


class Awaited:
    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.current_completion_snapshot = stream.current_completion_snapshot

    async def __aiter__(self) -> AsyncIterator[Any]:
        for happened in self._stream:
            yield happened

    async def get_final_completion(self) -> Any:
        return self._stream.get_final_completion()


@pytest.fixture(params=[pgml.OpenSourceAI, pgml.AsyncOpenSourceAI], ids=["sync", "async"])
def client(database_url: str, deadline: None, request: pytest.FixtureRequest) -> Any:
    return request.param(database_url, max_retries=0)


def plain(happened: Any) -> dict[str, Any]:
    """An event's fields, without the chunk and what has been made of it."""
    if isinstance(happened, pydantic.BaseModel):
        fields = {name: getattr(happened, name) for name in type(happened).model_fields}
    else:
        fields = dict(happened)
    fields.pop("chunk", None)
    if fields["type"] == "chunk":
        fields.pop("snapshot")
    dumped = {name: dump(value) for name, value in fields.items()}
    if dumped["type"] == "content.delta" and dumped["delta"] == dumped["snapshot"]:
        # openai does not try to read the first piece.
        dumped.pop("parsed")
    return dumped


def dump(value: Any) -> Any:
    if isinstance(value, list):
        return [dump(item) for item in value]
    if isinstance(value, openai.BaseModel):
        return value.to_dict()
    return value


@pytest.mark.parametrize("case", CASES)
async def test_events_are_those_of_openai(client: Any, engine: Engine, case: str) -> None:
    await check_events(client, engine, *CASES[case])


@pytest.mark.parametrize("tools", [{}, TOOLS, STRICT], ids=["plain", "models", "strict"])
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
async def test_events_of_engines_are_those_of_openai(
    client: Any, engine: Engine, path: Path, tools: dict[str, Any]
) -> None:
    await check_events(client, engine, [head(), RECORDED[path]], tools)


async def check_events(
    client: Any, engine: Engine, script: list[Step], asked: dict[str, Any]
) -> None:
    """The openai package makes of our chunks what we make of them."""
    engine.expect(script)
    ours: list[Any] = []
    final = cut = None
    async with streaming(client, **asked, stream_options={"include_usage": True}) as stream:
        try:
            async for happened in stream:
                # As they are now: what has come so far goes on growing.
                ours.append((plain(happened), happened.get("chunk")))
            final = await stream.get_final_completion()
        except pgml.LengthFinishReasonError as error:
            cut = error
    tools = {"input_tools": asked["tools"]} if "tools" in asked else {}
    form = {key: asked[key] for key in asked if key == "response_format"}
    state: Any = ChatCompletionStreamState(**tools, **form)
    theirs: list[Any] = []
    for _, piece in ours:
        if piece is not None:
            parsed = ChatCompletionChunk.model_validate(piece)
            theirs += [plain(happened) for happened in state.handle_chunk(parsed)]
    assert [fields for fields, _ in ours] == theirs
    if final is None:
        # With tools to read, our error comes with the chunk that says so, as theirs does.
        assert cut is not None
        if not tools:
            with pytest.raises(openai.LengthFinishReasonError):
                state.get_final_completion()
        return
    added = state.get_final_completion()
    for one, other in zip(final.choices, added.choices, strict=True):
        assert one.message.content == other.message.content
        assert one.message.parsed == other.message.parsed
        assert one.finish_reason == other.finish_reason
        calls = [
            [c.function.to_dict() for c in m.tool_calls or []] for m in (one.message, other.message)
        ]
        assert calls[0] == calls[1]
    assert (final.usage and final.usage.to_dict()) == (added.usage and added.usage.to_dict())


async def test_the_real_model(client: Any, model: str) -> None:
    tools = [TOOL]
    asked = {"model": model, "max_tokens": 60, "tools": tools, "tool_choice": "required"}
    async with streaming(client, **asked) as stream:
        kinds = [happened.type async for happened in stream]
        completion = await stream.get_final_completion()
    assert kinds[-1] == "tool_calls.function.arguments.done"
    (call,) = completion.choices[0].message.tool_calls
    assert type(call.function.parsed_arguments) is Weather


async def test_what_was_cut_off(client: Any, engine: Engine) -> None:
    cut = answer('{"unit": ', finish_reason="length")
    engine.expect(cut)
    async with streaming(client, **FORM) as stream:
        with pytest.raises(pgml.LengthFinishReasonError):
            [happened async for happened in stream]
    # Where nothing is read it is an answer like others, until it is to be a whole one.
    engine.expect(cut)
    async with streaming(client) as stream:
        assert [happened async for happened in stream][-1].type == "content.done"
        with pytest.raises(pgml.LengthFinishReasonError) as caught:
            await stream.get_final_completion()
    assert caught.value.completion.choices[0].message.content == '{"unit": '


async def test_leaving_the_block_ends_the_generation(client: Any, engine: Engine) -> None:
    exchange = engine.expect(head(), ROLE, chunk("Hel"), HANG)
    async with streaming(client) as stream:
        async for happened in stream:
            if happened.type == "content.delta":
                break
        message = stream.current_completion_snapshot.choices[0].message
        assert message.content == "Hel"
    exchange.wait_gone()


async def test_chunks_stay_as_they_came(client: Any, engine: Engine) -> None:
    """What is made of them is another object."""
    function = {"name": "Weather", "arguments": "{"}
    first = call_piece(0, id="a", type="function", function=function)
    second = call_piece(0, function={"arguments": "}"})
    last = event({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    engine.expect(head(), first, second, last, DONE)
    async with streaming(client) as stream:
        chunks = [happened.chunk async for happened in stream if happened.type == "chunk"]
    pieces = [piece.choices[0].delta.tool_calls[0].function.arguments for piece in chunks[:2]]
    assert pieces == ["{", "}"]
