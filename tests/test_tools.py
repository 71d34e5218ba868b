"""Tools: calls that have to come, calls that may, and conversations with their results."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pgml
import pydantic
import pytest
from asked import TEMPLATE, WEATHER, honours, said
from engine import Engine, answer
from pgml.objects import ToolCall


class Weather(pydantic.BaseModel, strict=True, extra="forbid"):
    unit: Literal["c", "f"]
    city: str = pydantic.Field(max_length=12)


class Clock(pydantic.BaseModel, strict=True, extra="forbid"):
    zone: str = pydantic.Field(max_length=10)


class Place(pydantic.BaseModel, strict=True, extra="forbid"):
    name: Literal["Paris", "Rome"]


class Route(pydantic.BaseModel, strict=True, extra="forbid"):
    """A tool whose schema has definitions, which it refers to."""

    start: Place
    end: Place


MODELS = {model.__name__: model for model in (Weather, Clock, Route)}


def tool(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    function = {"name": model.__name__, "parameters": model.model_json_schema()}
    return {"type": "function", "function": function}


def check_call(call: Any, names: set[str]) -> None:
    assert call.type == "function"
    assert call.id
    assert call.function.name in names
    # A dict that has more than the schema says does not pass, nor does text around the JSON.
    model = MODELS[call.function.name].model_validate_json(call.function.arguments)
    assert list(json.loads(call.function.arguments)) == list(model.model_dump())


def check_tools(
    client: pgml.OpenSourceAI, model: str, names: set[str], reason: str, **asked: Any
) -> None:
    asked = {"max_tokens": 120, "temperature": 0, **asked}
    completion = client.chat_completions_create(model, WEATHER, **asked)
    choice = completion.choices[0]
    assert choice.finish_reason == reason
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    check_call(call, names)

    chunks = list(client.chat_completions_create_stream(model, WEATHER, **asked))
    assert not any(piece.choices[0].delta.content for piece in chunks)
    pieces = [call for piece in chunks for call in piece.choices[0].delta.tool_calls or []]
    assert {piece["index"] for piece in pieces} == {0}
    # The name comes first and once; the arguments come piece by piece.
    assert [bool(piece.id) for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    arguments = "".join(piece.function.arguments or "" for piece in pieces)
    whole = {**pieces[0], "function": {**pieces[0].function, "arguments": arguments}}
    check_call(ToolCall(whole), names)
    assert [p.choices[0].finish_reason for p in chunks if p.choices[0].finish_reason] == [reason]


@honours("tools", "tool_choice", "parallel_tool_calls")
@pytest.mark.parametrize(("count", "template"), [(1, None), (2, None), (2, TEMPLATE)])
def test_a_required_call(
    client: pgml.OpenSourceAI, model: str, count: int, template: str | None
) -> None:
    check_tools(
        client,
        model,
        {"Weather", "Clock"},
        "tool_calls",
        tools=[tool(Weather), tool(Clock)][:count],
        tool_choice="required",
        parallel_tool_calls=False,
        chat_template=template,
    )


@pytest.mark.parametrize(("name", "template"), [("Clock", None), ("Weather", TEMPLATE)])
def test_a_named_call(
    client: pgml.OpenSourceAI, model: str, name: str, template: str | None
) -> None:
    check_tools(
        client,
        model,
        {name},
        # OpenAI's own oddity: a named function ends with "stop".
        "stop",
        tools=[tool(Weather), tool(Clock)],
        tool_choice={"type": "function", "function": {"name": name}},
        chat_template=template,
    )


@pytest.mark.parametrize("others", [[], [Clock]], ids=["alone", "among others"])
def test_a_required_call_by_a_schema_with_definitions(
    client: pgml.OpenSourceAI, model: str, others: list[type[pydantic.BaseModel]]
) -> None:
    names = {"Route", *(other.__name__ for other in others)}
    tools = [openai.pydantic_function_tool(Route), *map(tool, others)]
    check_tools(client, model, names, "tool_calls", tools=tools, tool_choice="required")


def test_a_named_call_by_a_schema_with_definitions(client: pgml.OpenSourceAI, model: str) -> None:
    choice = {"type": "function", "function": {"name": "Route"}}
    check_tools(client, model, {"Route"}, "stop", tools=[tool(Route)], tool_choice=choice)


def test_a_required_call_by_a_schema_that_refers_to_itself(
    client: pgml.OpenSourceAI, model: str
) -> None:
    """By pointers of any kind, and by the older name for definitions."""
    named = tool(Route)
    parameters = json.loads(
        json.dumps(named["function"]["parameters"]).replace("$defs", "definitions")
    )
    parameters["properties"]["end"] = {"$ref": "#/properties/start"}
    named["function"]["parameters"] = parameters
    check_tools(client, model, {"Route"}, "tool_calls", tools=[named], tool_choice="required")


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def test_allowed_tools_that_must_be_called(client: pgml.OpenSourceAI, model: str) -> None:
    tools = [tool(Weather), tool(Clock)]
    choice = allowed("required", "Clock")
    check_tools(client, model, {"Clock"}, "tool_calls", tools=tools, tool_choice=choice)


def test_allowed_tools_that_may_be_called(client: pgml.OpenSourceAI, engine: Engine) -> None:
    exchange = engine.expect(answer("hi"))
    tools = [tool(Weather), tool(Clock), tool(Route)]
    choice = allowed("auto", "Weather", "Route")
    client.chat_completions_create("scripted", WEATHER, tools=iter(tools), tool_choice=choice)
    assert exchange.body["tools"] == [tool(Weather), tool(Route)]
    assert exchange.body["tool_choice"] == "auto"


def test_a_function_without_parameters(client: pgml.OpenSourceAI, model: str) -> None:
    completion = client.chat_completions_create(
        model,
        WEATHER,
        60,
        0,
        tools=[{"type": "function", "function": {"name": "now"}}],
        tool_choice="required",
    )
    (call,) = completion.choices[0].message.tool_calls or []
    assert call.function.name == "now"
    assert json.loads(call.function.arguments) == {}


def test_each_of_n_choices_is_a_call(client: pgml.OpenSourceAI, model: str) -> None:
    completion = client.chat_completions_create(
        model, WEATHER, 80, 0.5, 2, tools=[tool(Weather)], tool_choice="required", seed=1
    )
    calls = [choice.message.tool_calls[0] for choice in completion.choices]
    for call in calls:
        check_call(call, {"Weather"})
    assert calls[0].id != calls[1].id


@pytest.mark.parametrize("limit", [1, 12])
def test_a_call_that_was_cut_off_says_so(client: pgml.OpenSourceAI, model: str, limit: int) -> None:
    completion = client.chat_completions_create(
        model, WEATHER, limit, 0, tools=[tool(Weather), tool(Clock)], tool_choice="required"
    )
    assert completion.choices[0].finish_reason == "length"


def test_no_call_that_nobody_made(client: pgml.OpenSourceAI, engine: Engine) -> None:
    """An engine that holds to no schema must not pass for one that called a tool."""
    engine.expect(answer("It is sunny."))
    with pytest.raises(pgml.APIError):
        client.chat_completions_create(
            "scripted", WEATHER, tools=[tool(Weather), tool(Clock)], tool_choice="required"
        )


@pytest.mark.parametrize("choice", ["none", "auto"])
def test_a_call_that_the_model_may_make(client: pgml.OpenSourceAI, model: str, choice: str) -> None:
    completion = client.chat_completions_create(
        model, WEATHER, 10, 0, tools=[tool(Weather)], tool_choice=choice, parallel_tool_calls=True
    )
    assert said(completion)


def test_a_conversation_with_tools(client: pgml.OpenSourceAI, model: str) -> None:
    tools = [tool(Weather)]
    first = client.chat_completions_create(
        model, WEATHER, 80, 0, tools=tools, tool_choice="required"
    )
    message = first.choices[0].message
    assert message.tool_calls is not None
    call = {
        "id": message.tool_calls[0].id,
        "type": "function",
        "function": {"name": "Weather", "arguments": message.tool_calls[0].function.arguments},
    }
    result = {"role": "tool", "tool_call_id": call["id"], "content": "18 degrees and sunny."}
    theirs = openai.types.chat.ChatCompletion.model_validate(first).choices[0].message
    for assistant in (
        message,
        theirs,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "assistant", "tool_calls": [call]},
    ):
        completion = client.chat_completions_create(
            model, [*WEATHER, assistant, result], 30, 0, tools=tools
        )
        assert said(completion)


def test_a_tool_conversation_reaches_the_engine_whole(
    client: pgml.OpenSourceAI, engine: Engine
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "Weather", "arguments": "{}"}}
    messages = [
        *WEATHER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "18"}]},
    ]
    exchange = engine.expect(answer("hi"))
    client.chat_completions_create("scripted", messages, tools=[tool(Weather)])
    assert exchange.body["messages"] == messages
    assert exchange.body["tools"] == [tool(Weather)]
