"""Objects: dicts that also answer attributes, and survive all that is done to data."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pgml
import pytest
from pgml.objects import (
    ChatCompletionMessage,
    Choice,
    ChoiceDelta,
    ChunkChoice,
    Function,
    Object,
    ToolCall,
    Usage,
)

PLAIN: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "system_fingerprint": None,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Grüße 🚁"},
            "logprobs": {"content": [{"token": "a", "bytes": [97], "logprob": -0.5}]},
            "finish_reason": "stop",
        },
        {
            "index": 1,
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
                    }
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        },
    ],
    "usage": {"completion_tokens": 2, "prompt_tokens": 7, "total_tokens": 9},
}

CHUNK: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "system_fingerprint": None,
    "choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": None, "finish_reason": None}],
}


@pytest.fixture
def completion() -> pgml.ChatCompletion:
    return pgml.ChatCompletion(copy.deepcopy(PLAIN))


@pytest.fixture
def chunk() -> pgml.ChatCompletionChunk:
    return pgml.ChatCompletionChunk(copy.deepcopy(CHUNK))


def look_everywhere(completion: pgml.ChatCompletion) -> None:
    """Ask for every attribute, so that all that is inside has been wrapped."""
    for choice in completion.choices:
        assert choice.message.role == "assistant"
        if choice.logprobs is not None:
            assert choice.logprobs.content[0].token == "a"
        for call in choice.message.tool_calls or []:
            assert call.function.name == "weather"
    assert completion.usage is not None


def test_attributes_all_the_way_down(completion: pgml.ChatCompletion) -> None:
    first, second = completion.choices
    assert type(first) is Choice
    assert type(first.message) is ChatCompletionMessage
    assert first.message.content == "Grüße 🚁"
    assert first.logprobs.content[0].bytes == [97]
    assert second.message.tool_calls is not None
    (call,) = second.message.tool_calls
    assert type(call) is ToolCall
    assert type(call.function) is Function
    assert call.function.arguments == '{"city": "Oslo"}'
    assert type(completion.usage) is Usage
    assert completion.usage.total_tokens == 9
    assert completion.object == "chat.completion"


def test_attributes_of_a_chunk(chunk: pgml.ChatCompletionChunk) -> None:
    (choice,) = chunk.choices
    assert type(choice) is ChunkChoice
    assert type(choice.delta) is ChoiceDelta
    assert choice.delta.content == "a"
    assert choice.delta.role is None
    assert choice.delta.tool_calls is None
    assert chunk.usage is None


def test_keys_all_the_way_down(completion: pgml.ChatCompletion) -> None:
    assert isinstance(completion, dict)
    look_everywhere(completion)
    function = completion["choices"][1]["message"]["tool_calls"][0]["function"]
    assert function["name"] == "weather"


def test_unknown_objects_answer_attributes_too() -> None:
    inside = Object({"timings": {"of": [{"token": {"ms": 3}}, "text", [{"deep": {"er": 1}}]]}})
    assert inside.timings.of[0].token.ms == 3
    assert inside.timings.of[1] == "text"
    assert inside.timings.of[2][0].deep.er == 1


def test_a_missing_optional_is_none(completion: pgml.ChatCompletion) -> None:
    message = completion.choices[0].message
    for name in ("refusal", "tool_calls", "function_call", "annotations", "audio"):
        assert getattr(message, name) is None
        assert name not in message
    assert completion.service_tier is None
    assert completion.usage is not None
    assert completion.usage.prompt_tokens_details is None
    # To ask is not to set.
    assert completion == PLAIN


def test_anything_else_is_an_attribute_error(completion: pgml.ChatCompletion) -> None:
    with pytest.raises(AttributeError, match="'ChatCompletion' object has no attribute 'text'"):
        _ = completion.text
    with pytest.raises(AttributeError, match=r"'ChatCompletionMessage' .* 'reasoning'"):
        _ = completion.choices[0].message.reasoning
    assert not hasattr(completion, "text")
    assert getattr(completion, "text", "default") == "default"
    with pytest.raises(KeyError):
        completion["text"]
    with pytest.raises(KeyError):
        completion.choices[0].message["refusal"]


def test_both_ways_lead_to_one_object(completion: pgml.ChatCompletion) -> None:
    message = completion.choices[0].message
    assert completion.choices[0].message is message
    assert completion["choices"][0]["message"] is message
    assert completion.choices is completion["choices"]
    message["content"] = "by key"
    assert completion.choices[0].message.content == "by key"
    completion.choices[0].message.content = "by attribute"
    assert completion["choices"][0]["message"]["content"] == "by attribute"


def test_an_object_found_by_key_first_is_kept(completion: pgml.ChatCompletion) -> None:
    completion["usage"]["total_tokens"] = 10
    assert completion.usage is not None
    assert completion.usage.total_tokens == 10
    completion["choices"].append({"index": 2, "message": {"content": "new"}})
    assert completion.choices[2].message.content == "new"


def test_setting_and_deleting(completion: pgml.ChatCompletion) -> None:
    completion.note = {"of": "mine"}
    assert completion["note"] == {"of": "mine"}
    assert completion.note.of == "mine"
    completion.model = "other"
    assert completion["model"] == "other"
    del completion["note"]
    assert not hasattr(completion, "note")
    del completion["usage"]
    assert completion.usage is None


def test_attributes_can_be_deleted(completion: pgml.ChatCompletion) -> None:
    del completion.usage
    assert "usage" not in completion
    with pytest.raises(AttributeError, match="nothing"):
        del completion.nothing


def test_dir_lists_keys(completion: pgml.ChatCompletion) -> None:
    assert {"choices", "usage", "model_dump", "items"} <= set(dir(completion))


def test_equality(completion: pgml.ChatCompletion) -> None:
    assert completion == PLAIN
    look_everywhere(completion)
    assert completion == PLAIN
    assert completion == PLAIN
    assert completion == pgml.ChatCompletion(copy.deepcopy(PLAIN))
    completion.choices[0].message.content = "else"
    assert completion != PLAIN


@pytest.mark.parametrize("wrapped", [False, True])
def test_json(completion: pgml.ChatCompletion, wrapped: bool) -> None:
    if wrapped:
        look_everywhere(completion)
    assert json.dumps(completion) == json.dumps(PLAIN)
    assert json.loads(completion.to_json()) == PLAIN
    assert "Grüße 🚁" in completion.to_json()
    assert "\n  " in completion.to_json()
    assert "\n" not in completion.to_json(indent=None)
    assert json.loads(completion.model_dump_json(exclude_unset=True)) == PLAIN
    assert "\n" not in completion.model_dump_json()
    assert "\n    " in completion.model_dump_json(indent=4)
    assert repr(completion) == repr(PLAIN)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("dump", ["model_dump", "to_dict"])
def test_dumps_are_plain_and_apart(
    completion: pgml.ChatCompletion, dump: str, wrapped: bool
) -> None:
    if wrapped:
        look_everywhere(completion)
    plain = getattr(completion, dump)(exclude_unset=True)
    assert plain == PLAIN

    def check(value: object) -> None:
        assert type(value) in (dict, list, str, int, float, type(None))
        if isinstance(value, dict):
            for item in value.values():
                check(item)
        if isinstance(value, list):
            for item in value:
                check(item)

    check(plain)
    plain["choices"][0]["message"]["content"] = "else"
    assert completion == PLAIN


def test_dumps_take_what_pydantics_take(completion: pgml.ChatCompletion) -> None:
    message = completion.choices[1].message
    spoken = {key: value for key, value in PLAIN["choices"][1]["message"].items() if value}
    assert message.model_dump(exclude_none=True) == spoken
    assert json.loads(message.model_dump_json(exclude_none=True)) == spoken
    assert message.to_dict(exclude_none=True) == spoken
    assert json.loads(message.to_json(exclude_none=True)) == spoken
    for mode in ("json", "python"):
        assert completion.to_dict(mode=mode) == PLAIN


@pytest.mark.parametrize("wrapped", [False, True])
def test_copies(completion: pgml.ChatCompletion, wrapped: bool) -> None:
    if wrapped:
        look_everywhere(completion)
    for shallow in (copy.copy(completion), completion.copy()):
        assert type(shallow) is pgml.ChatCompletion
        assert shallow == completion
        assert shallow is not completion
        assert shallow["choices"] is completion["choices"]
    deep = copy.deepcopy(completion)
    assert type(deep) is pgml.ChatCompletion
    assert type(deep.choices[0].message) is ChatCompletionMessage
    deep.choices[0].message.content = "else"
    assert completion == PLAIN


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(
    completion: pgml.ChatCompletion, chunk: pgml.ChatCompletionChunk, protocol: int, wrapped: bool
) -> None:
    if wrapped:
        look_everywhere(completion)
    again, piece = pickle.loads(pickle.dumps((completion, chunk), protocol))
    assert type(again) is pgml.ChatCompletion
    assert again == PLAIN
    assert type(again.choices[1].message.tool_calls[0].function) is Function
    assert type(piece) is pgml.ChatCompletionChunk
    assert piece == CHUNK


def test_patterns_of_mappings(completion: pgml.ChatCompletion) -> None:
    match completion:
        case {"choices": [{"message": {"content": str(text)}}, *rest], **others}:
            assert text == "Grüße 🚁"
            assert len(rest) == 1
            assert others["model"] == "m"
        case _:
            pytest.fail("the pattern does not match")


def test_patterns_of_classes(completion: pgml.ChatCompletion) -> None:
    match completion.choices[1]:
        case Choice(
            finish_reason="tool_calls",
            message=ChatCompletionMessage(
                tool_calls=[ToolCall(function=Function(name="weather", arguments=arguments))]
            ),
        ):
            assert json.loads(arguments) == {"city": "Oslo"}
        case _:
            pytest.fail("the pattern does not match")
    match completion.choices[0]:
        case Choice(message=ChatCompletionMessage(tool_calls=None, content=content)):
            assert content
        case _:
            pytest.fail("the pattern does not match")


def test_unpacking_and_merging(completion: pgml.ChatCompletion) -> None:
    assert {**completion} == PLAIN
    assert dict(completion) == PLAIN
    assert list(completion) == list(PLAIN)
    assert completion | {"model": "else"} == {**PLAIN, "model": "else"}


def test_nothing_is_held_beside_the_keys(completion: pgml.ChatCompletion) -> None:
    look_everywhere(completion)
    assert vars(completion) == {}
    assert vars(completion.choices[0]) == {}
