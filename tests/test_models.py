"""Objects where pydantic's models are expected: beside the openai package's, on the same JSON."""

from __future__ import annotations

import copy
import datetime
import gc
import json
import pickle
import weakref
from typing import Any

import openai.types.chat as theirs
import pgml
import pydantic
import pytest
from openai.types.chat.parsed_chat_completion import (
    ParsedChatCompletion as TheirParsedChatCompletion,
)
from pgml.objects import ChatCompletionMessage, ChoiceDelta, Object, Usage
from pgml.parsing import ParsedChatCompletion

# With every part that OpenAI has, and with fields of engines' own.
WHOLE: dict[str, Any] = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "logprobs": {
                "content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]
            },
            "message": {
                "role": "assistant",
                "content": None,
                "reasoning_content": "Grüße 🚁",
                "tool_calls": [
                    {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
        },
        {"index": 1, "finish_reason": "stop", "message": {"role": "assistant", "content": "b"}},
    ],
    "usage": {
        "completion_tokens": 2,
        "prompt_tokens": 7,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 3},
    },
    "timings": {"of": [{"ms": 3}], "none": None},
}
PIECE: dict[str, Any] = {
    "id": "c",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
            "finish_reason": None,
        },
        {"index": 1, "delta": {}},
    ],
}
BOTH = [
    (pgml.ChatCompletion, theirs.ChatCompletion, WHOLE),
    (pgml.ChatCompletionChunk, theirs.ChatCompletionChunk, PIECE),
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"mode": "json"},
    {"mode": "python"},
    {"exclude_unset": True},
    {"exclude_unset": False},
    {"exclude_none": True},
    {"exclude_defaults": True},
    {"exclude_unset": True, "exclude_none": True},
    {"by_alias": True},
    {"round_trip": True, "warnings": False, "serialize_as_any": True},
    {"include": {"id", "model", "timings", "not there"}},
    {"include": set()},
    {"include": {"choices": {0: True}}},
    {"include": {"choices": {"__all__": {"message": {"content", "role"}}}}},
    {"include": {"choices": {-1}}},
    {"include": {"usage": {"total_tokens": ...}}},
    {"include": {"id": False, "model": True}},
    {"exclude": {"id", "usage", "timings"}},
    {"exclude": set()},
    {"exclude": {"choices": {0}}},
    {"exclude": {"choices": {-1: True}}},
    {"exclude": {"choices": {"__all__": {"message": {"reasoning_content", "tool_calls"}}}}},
    {"exclude": {"choices": {"__all__": {"logprobs"}, 0: {"index"}}}},
    {"exclude": {"timings": {"of": {0: {"ms"}}}}},
    {"exclude": {"usage": {"prompt_tokens_details": True}, "id": False}},
    {"include": {"choices": True, "id": True}, "exclude": {"id": True, "choices": {1}}},
]


@pytest.mark.parametrize(("ours", "other", "data"), BOTH, ids=["completion", "chunk"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("looked", [False, True])
def test_options_of_dumps(ours: Any, other: Any, data: Any, options: Any, looked: bool) -> None:
    mine, reference = ours(copy.deepcopy(data)), other.construct(**copy.deepcopy(data))
    if looked:
        assert mine.choices[0].index == 0
    assert mine.model_dump(**options) == reference.model_dump(**options)
    if "serialize_as_any" not in options:
        assert mine.to_dict(**options_of_to_dict(options)) == reference.to_dict(
            **options_of_to_dict(options)
        )
    options = {name: value for name, value in options.items() if name != "mode"}
    for more in ({}, {"indent": 2}, {"ensure_ascii": True}):
        assert mine.model_dump_json(**options, **more) == reference.model_dump_json(
            **options, **more
        )


def options_of_to_dict(options: dict[str, Any]) -> dict[str, Any]:
    names = ("mode", "exclude_unset", "exclude_defaults", "exclude_none", "warnings")
    return {name: options[name] for name in names if name in options}


def test_options_that_there_are_not() -> None:
    message = ChatCompletionMessage({"role": "assistant", "content": "a"})
    for dump in (message.model_dump, message.model_dump_json, message.to_dict, message.to_json):
        with pytest.raises(TypeError, match="exclude_nothing: there is no such option"):
            dump(exclude_nothing=True)
    for name in ("include", "exclude"):
        with pytest.raises(TypeError, match=f"{name}: must be a set or a mapping, but is a list"):
            message.model_dump(**{name: ["content"]})


@pytest.mark.parametrize(("ours", "other", "data"), BOTH, ids=["completion", "chunk"])
def test_what_is_set_and_what_is_extra(ours: Any, other: Any, data: Any) -> None:
    def check(mine: Any, reference: Any) -> None:
        assert mine.model_fields_set == reference.model_fields_set
        assert mine.model_extra == reference.model_extra
        for name in type(reference).model_fields:
            value = getattr(reference, name)
            for one, same in (
                zip(
                    *((x if isinstance(x, list) else [x]) for x in (getattr(mine, name), value)),
                    strict=True,
                )
                if value is not None
                else ()
            ):
                if isinstance(same, pydantic.BaseModel):
                    check(one, same)

    check(ours(copy.deepcopy(data)), other.construct(**copy.deepcopy(data)))


@pytest.mark.parametrize("kind", [{}, {"content": ""}, {"role": "assistant"}])
def test_objects_are_true(kind: dict[str, Any]) -> None:
    assert bool(ChoiceDelta(kind)) is bool(theirs.chat_completion_chunk.ChoiceDelta(**kind)) is True
    assert bool(Object()) is True
    assert ChoiceDelta() == {}


def test_copies() -> None:
    completion = pgml.ChatCompletion(copy.deepcopy(WHOLE))
    shallow, deep = completion.model_copy(update={"model": "n"}), completion.model_copy(deep=True)
    assert type(shallow) is type(deep) is pgml.ChatCompletion
    assert (shallow.model, completion.model) == ("n", "m")
    assert shallow["choices"] is completion["choices"]
    deep.choices[0].message.content = "else"
    assert completion == WHOLE


def test_made_without_being_checked() -> None:
    made = ChatCompletionMessage.model_construct(role="assistant", content="a", own=1)
    assert type(made) is ChatCompletionMessage
    assert made == ChatCompletionMessage.construct(**made) == {
        "role": "assistant", "content": "a", "own": 1
    }  # fmt: skip


def test_made_and_checked() -> None:
    completion = pgml.ChatCompletion.model_validate(copy.deepcopy(WHOLE))
    assert completion == WHOLE == pgml.ChatCompletion.model_validate_json(json.dumps(WHOLE))
    assert type(completion["choices"][0]["message"]) is ChatCompletionMessage
    assert pgml.ChatCompletion.model_validate(completion) is completion
    for wrong in (
        {**WHOLE, "created": "soon"},
        {name: value for name, value in WHOLE.items() if name != "id"},
        {**WHOLE, "choices": [{"index": 0}]},
        [],
        None,
    ):
        with pytest.raises(pydantic.ValidationError):
            theirs.ChatCompletion.model_validate(wrong)
        with pytest.raises(pydantic.ValidationError):
            pgml.ChatCompletion.model_validate(wrong)


def test_a_field_of_a_model() -> None:
    class Log(pydantic.BaseModel):
        answer: pgml.ChatCompletion
        usage: Usage | None = None
        pieces: list[pgml.ChatCompletionChunk] = []

    completion = pgml.ChatCompletion(copy.deepcopy(WHOLE))
    log = Log(answer=completion, pieces=[pgml.ChatCompletionChunk(PIECE)])
    assert log.answer is completion
    again = Log.model_validate_json(log.model_dump_json())
    assert type(again.answer) is pgml.ChatCompletion
    assert again.answer.model_dump() == completion.model_dump()
    assert log.model_dump(exclude_unset=True)["answer"] == WHOLE
    assert log.model_dump(include={"answer": {"id"}}) == {"answer": {"id": "c"}}
    assert log.model_dump(mode="json")["answer"] == completion.model_dump(mode="json")
    with pytest.raises(pydantic.ValidationError, match=r"answer.created"):
        Log.model_validate({"answer": {**WHOLE, "created": []}})


def test_a_field_of_a_generic_class() -> None:
    class Day(pydantic.BaseModel):
        day: datetime.date

    class Log(pydantic.BaseModel):
        answer: ParsedChatCompletion[Day]

    message = {"role": "assistant", "content": "x", "parsed": {"day": "2026-01-02"}}
    data = {**WHOLE, "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    log = Log.model_validate({"answer": data})
    assert log.answer.choices[0].message.parsed == Day(day=datetime.date(2026, 1, 2))
    parsed = json.loads(log.model_dump_json())["answer"]["choices"][0]["message"]["parsed"]
    assert parsed == {"day": "2026-01-02"}


@pytest.mark.parametrize(("ours", "other", "data"), BOTH, ids=["completion", "chunk"])
def test_the_json_schema_has_the_fields_of_openais(ours: Any, other: Any, data: Any) -> None:
    mine, reference = ours.model_json_schema(), other.model_json_schema()
    assert mine["properties"].keys() == reference["properties"].keys()
    assert set(mine["required"]) == set(reference["required"])
    assert mine["title"] == reference["title"]


def test_what_parse_read_is_dumped_as_json() -> None:
    class Day(pydantic.BaseModel):
        day: datetime.date = pydantic.Field(alias="Day")

    day = Day(Day=datetime.date(2026, 1, 2))
    message = {"role": "assistant", "content": "x", "parsed": day}
    data = {**WHOLE, "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    mine = ParsedChatCompletion[Day](data)
    reference: Any = TheirParsedChatCompletion[Day].construct(**data)
    for options in ({}, {"mode": "json"}, {"by_alias": True}, {"mode": "json", "by_alias": True}):
        assert mine.model_dump(**options) == reference.model_dump(**options)
    assert mine.to_dict(mode="json") == reference.to_dict(mode="json")
    assert mine.model_dump_json() == reference.model_dump_json()


def test_what_tools_hang_on_an_object() -> None:
    """A name with an underscore is no part of the data; any other is."""
    message = ChatCompletionMessage({"role": "assistant", "content": "a"})
    message._raw_response = "raw"
    message.note = "b"
    assert message._raw_response == "raw"
    assert message == {"role": "assistant", "content": "a", "note": "b"}
    for again in (pickle.loads(pickle.dumps(message)), copy.deepcopy(message)):
        assert (again, again._raw_response) == (message, "raw")
    del message._raw_response
    assert not hasattr(message, "_raw_response")
    assert pgml.ChatCompletion(WHOLE)._request_id == "c"


def test_an_object_takes_a_weak_reference() -> None:
    message = ChatCompletionMessage({"role": "assistant", "content": "a"})
    reference = weakref.ref(message)
    assert reference() is message
    del message
    gc.collect()
    assert reference() is None
