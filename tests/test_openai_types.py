"""Our completions and chunks pass for OpenAI's: its types take them, and it adds them up."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal

import openai
import pgml
import pydantic
import pytest
from conftest import QUESTION, Call
from engine import DONE, ROLE, Engine, Step, answer, chunk, ending, event, head, usage
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types import CompletionUsage, chat, completion_usage
from openai.types import Model as OpenAIModel
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pgml import objects
from pgml._pgml import PARAMETERS


class Weather(pydantic.BaseModel):
    unit: Literal["c", "f"]
    city: Literal["Paris", "Rome"]


TOOL = openai.pydantic_function_tool(Weather)
NAMED = {"type": "function", "function": {"name": "Weather"}}
OTHER = {"type": "function", "function": {"name": "now"}}
SCHEMA = {"name": "Weather", "strict": True, "schema": Weather.model_json_schema()}

ASKED = [{"role": "user", "content": 'Answer with the JSON object {"ok": true}.'}]

# Short, and ended by the model, since OpenAI's accumulator refuses what was cut off.
SHORT = {"extra_body": {"grammar": 'root ::= "yes, and no"'}}

FEATURES: dict[str, dict[str, Any]] = {
    "plain": {**SHORT},
    "usage": {**SHORT, "stream_options": {"include_usage": True}},
    "n": {**SHORT, "n": 2, "seed": 1},
    "logprobs": {**SHORT, "logprobs": True},
    "top_logprobs": {**SHORT, "logprobs": True, "top_logprobs": 2},
    "stop": {**SHORT, "stop": ["and"]},
    "template": {**SHORT, "chat_template": "{{ messages[0].content }}"},
    "template and logprobs": {
        **SHORT,
        "chat_template": "{{ messages[0].content }}",
        "logprobs": True,
        "top_logprobs": 2,
    },
    "json_object": {"response_format": {"type": "json_object"}},
    "json_schema": {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
    "tool_choice required": {"tools": [TOOL], "tool_choice": "required"},
    "tool_choice of two": {"tools": [TOOL, OTHER], "tool_choice": "required"},
    "tool_choice named": {"tools": [TOOL], "tool_choice": NAMED},
    "tool_choice allowed_tools": {
        "tools": [TOOL, OTHER],
        "tool_choice": {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [NAMED]},
        },
    },
    "tools that may be called": {**SHORT, "tools": [OTHER], "tool_choice": "none"},
    "parallel_tool_calls": {"tools": [TOOL], "tool_choice": NAMED, "parallel_tool_calls": False},
    "sampling": {
        **SHORT,
        "top_p": 0.5,
        "frequency_penalty": 0.5,
        "presence_penalty": 0.5,
        "logit_bias": {"15": -100},
        "seed": 1,
    },
}
# In each feature's requests already, or of no account for what comes back.
EVERYWHERE = {
    *("messages", "model", "stream", "max_tokens", "max_completion_tokens", "temperature"),
}


def test_every_honoured_parameter_is_in_a_feature() -> None:
    honoured = {name for name, treatment in PARAMETERS.items() if treatment == "honoured"}
    assert honoured - EVERYWHERE == {name for asked in FEATURES.values() for name in asked} - {
        "extra_body",
        "chat_template",
    }


# What openai's accumulator is told, to read what it adds up.
PARSED: dict[str, dict[str, Any]] = {
    "json_schema": {"response_format": Weather},
    "tool_choice required": {"input_tools": [TOOL]},
    "tool_choice named": {"input_tools": [TOOL]},
    "tool_choice allowed_tools": {"input_tools": [TOOL]},
    "parallel_tool_calls": {"input_tools": [TOOL]},
}


def add_up(chunks: Iterable[Any], **asked: Any) -> Any:
    """Do what the openai package does with a stream."""
    state: Any = ChatCompletionStreamState(**asked)
    for piece in chunks:
        # Its events are made as they are read.
        list(state.handle_chunk(ChatCompletionChunk.model_validate(piece, strict=True)))
    return state.get_final_completion()


def plain(message: Any) -> dict[str, Any]:
    """What a message says, without what it leaves out."""
    fields = message.model_dump(exclude_none=True, exclude={"parsed"})
    for call in fields.get("tool_calls") or []:
        call.pop("index", None)
        call["function"].pop("parsed_arguments", None)
        # Each call has an id of its own.
        call.pop("id")
    return fields


@pytest.mark.parametrize("feature", FEATURES)
def test_the_real_model(client: pgml.OpenSourceAI, model: str, feature: str) -> None:
    asked = {"max_tokens": 80, "temperature": 0, **FEATURES[feature]}
    completion = client.chat_completions_create(model, ASKED, **asked)
    theirs = ChatCompletion.model_validate(completion, strict=True)
    assert theirs.model_dump(exclude_unset=True) == completion

    chunks = list(client.chat_completions_create_stream(model, ASKED, **asked))
    for piece in chunks:
        parsed = ChatCompletionChunk.model_validate(piece, strict=True)
        assert parsed.model_dump(exclude_unset=True) == piece
    final = add_up(chunks, **PARSED.get(feature, {}))
    assert len(final.choices) == asked.get("n", 1)
    for index, choice in enumerate(final.choices):
        pieces = [piece for chunk_ in chunks for piece in chunk_.choices if piece.index == index]
        assert choice.finish_reason == pieces[-1].finish_reason
        said = "".join(piece.delta.content or "" for piece in pieces)
        assert (choice.message.content or "") == said
        if asked.get("logprobs"):
            assert "".join(token.token for token in choice.logprobs.content) == said
        if "response_format" in PARSED.get(feature, {}):
            assert type(choice.message.parsed) is Weather
        if asked.get("tool_choice", "none") != "none":
            (call,) = choice.message.tool_calls
            assert type(json.loads(call.function.arguments)) is dict
        if "input_tools" in PARSED.get(feature, {}):
            assert type(call.function.parsed_arguments) is Weather


def delta(finish_reason: str | None = None, **fields: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}]})


TOKEN = {"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": []}


def call_piece(index: int, **fields: Any) -> bytes:
    return delta(tool_calls=[{"index": index, **fields}])


SCRIPTS: dict[str, list[Step]] = {
    "text": answer("Hello", " there"),
    "nothing": answer(),
    "no usage": [head(), ROLE, chunk("hi"), chunk(finish_reason="stop"), DONE],
    "details of usage": [
        head(),
        chunk("hi"),
        chunk(finish_reason="stop"),
        event(
            {
                "choices": [],
                "usage": {
                    "prompt_tokens": 3,
                    "completion_tokens": 1,
                    "total_tokens": 4,
                    "prompt_tokens_details": {"cached_tokens": 2},
                    "completion_tokens_details": {"reasoning_tokens": 1},
                },
            }
        ),
        DONE,
    ],
    "reasoning": [head(), ROLE, delta(reasoning_content="Hm."), chunk("Four"), *ending()],
    "reasoning of vLLM": [head(), ROLE, delta(reasoning="Hm."), chunk("Four"), *ending()],
    "logprobs": [
        head(),
        ROLE,
        event(
            {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [TOKEN]}}]}
        ),
        *ending(),
    ],
    "refusal": [head(), ROLE, delta(refusal="I "), delta("stop", refusal="won't."), DONE],
    "two calls at once": [
        head(),
        ROLE,
        call_piece(0, id="a", type="function", function={"name": "Weather", "arguments": ""}),
        call_piece(0, function={"arguments": '{"unit": "c", '}),
        call_piece(0, function={"arguments": '"city": "Rome"}'}),
        call_piece(1, id="b", type="function", function={"name": "clock", "arguments": "{}"}),
        delta("tool_calls"),
        usage(5, 9),
        DONE,
    ],
    "whole calls in one event": [
        head(),
        ROLE,
        delta(
            tool_calls=[
                {
                    "index": index,
                    "id": name,
                    "type": "function",
                    "function": {"name": name, "arguments": "{}"},
                }
                for index, name in enumerate(("clock", "now"))
            ]
        ),
        delta("tool_calls"),
        DONE,
    ],
    "text and a call": [
        head(),
        ROLE,
        chunk("Let me see."),
        call_piece(0, id="a", type="function", function={"name": "clock", "arguments": "{}"}),
        delta("tool_calls"),
        DONE,
    ],
}


@pytest.mark.parametrize("script", SCRIPTS)
async def test_what_engines_send(call: Call, engine: Engine, script: str) -> None:
    engine.expect(SCRIPTS[script])
    completion = await call.create("scripted", QUESTION)
    theirs = ChatCompletion.model_validate(completion, strict=True)
    assert theirs.model_dump(exclude_unset=True) == completion

    engine.expect(SCRIPTS[script])
    stream = await call.stream("scripted", QUESTION, stream_options={"include_usage": True})
    chunks = await stream.rest()
    final = add_up(chunks)
    assert final.choices[0].finish_reason == theirs.choices[0].finish_reason
    for name in ("content", "refusal", "tool_calls", "reasoning_content"):
        ours, added = plain(theirs.choices[0].message), plain(final.choices[0].message)
        assert (added.get(name) or None) == (ours.get(name) or None)
    assert final.usage == theirs.usage


async def test_details_of_usage_are_kept(call: Call, engine: Engine) -> None:
    engine.expect(SCRIPTS["details of usage"])
    counts = (await call.create("scripted", QUESTION)).usage
    assert counts.prompt_tokens_details.cached_tokens == 2
    assert counts.completion_tokens_details.reasoning_tokens == 1


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (objects.ChatCompletion, ChatCompletion),
        (objects.Choice, chat.chat_completion.Choice),
        (objects.ChatCompletionMessage, chat.ChatCompletionMessage),
        (objects.ToolCall, chat.ChatCompletionMessageFunctionToolCall),
        (objects.Function, chat.chat_completion_message_function_tool_call.Function),
        (objects.ChoiceLogprobs, chat.chat_completion.ChoiceLogprobs),
        (objects.TokenLogprob, chat.ChatCompletionTokenLogprob),
        (objects.TopLogprob, chat.chat_completion_token_logprob.TopLogprob),
        (objects.Usage, CompletionUsage),
        (objects.PromptTokensDetails, completion_usage.PromptTokensDetails),
        (objects.CompletionTokensDetails, completion_usage.CompletionTokensDetails),
        (objects.ChatCompletionChunk, ChatCompletionChunk),
        (objects.ChunkChoice, chat.chat_completion_chunk.Choice),
        (objects.ChoiceDelta, chat.chat_completion_chunk.ChoiceDelta),
        (objects.ToolCall, chat.chat_completion_chunk.ChoiceDeltaToolCall),
        (objects.Function, chat.chat_completion_chunk.ChoiceDeltaToolCallFunction),
        (objects.Model, OpenAIModel),
    ],
)
def test_what_openai_may_leave_out_is_none(
    ours: type[objects.Object], theirs: type[pydantic.BaseModel]
) -> None:
    for name, field in theirs.model_fields.items():
        if not field.is_required():
            assert getattr(ours(), name) is None


def test_models(client: pgml.OpenSourceAI, model: str) -> None:
    models = [OpenAIModel.model_validate(ours, strict=True) for ours in client.models.list()]
    assert model in {theirs.id for theirs in models}
