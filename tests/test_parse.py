"""`chat.completions.parse`: what a model makes, read into pydantic models."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pgml
import pydantic
import pytest
from asked import ASKED
from conftest import PATIENCE, QUESTION, Face
from engine import DONE, ROLE, Engine, answer, event, head
from pgml.parsing import ParsedChatCompletion as Parsed


class Weather(pydantic.BaseModel):
    """What the weather is like."""

    unit: Literal["c", "f"]
    city: Literal["Paris", "Rome"]


WEATHER = [{"role": "user", "content": "What is the weather in Paris in celsius?"}]


async def test_parse(face: Face, model: str) -> None:
    completion = await face.parse(
        model=model, messages=WEATHER, response_format=Weather, max_tokens=80, temperature=0
    )
    assert type(completion) is Parsed
    message = completion.choices[0].message
    assert type(message.parsed) is Weather
    assert message.parsed == Weather.model_validate_json(message.content)


async def test_parse_asks_for_the_schema(face: Face, engine: Engine) -> None:
    exchange = engine.expect(answer('{"unit": "c", ', '"city": "Rome"}'))
    completion = await face.parse(**ASKED, response_format=Weather, timeout=PATIENCE, seed=3)
    assert completion.choices[0].message.parsed == Weather(unit="c", city="Rome")
    assert exchange.body["seed"] == 3
    assert exchange.body["response_format"]["type"] == "json_schema"
    schema = exchange.body["response_format"]["json_schema"]
    assert schema["name"] == "Weather"
    assert schema["strict"] is True
    assert list(schema["schema"]["properties"]) == ["unit", "city"]


async def test_parse_of_n_choices(face: Face, engine: Engine) -> None:
    for city in ("Rome", "Paris"):
        engine.expect(answer(json.dumps({"unit": "c", "city": city})))
    completion = await face.parse(**ASKED, response_format=Weather, n=2)
    cities = [choice.message.parsed.city for choice in completion.choices]
    assert sorted(cities) == ["Paris", "Rome"]


CUT_OFF = {
    "length": pgml.LengthFinishReasonError,
    "content_filter": pgml.ContentFilterFinishReasonError,
}


@pytest.mark.parametrize("reason", CUT_OFF)
async def test_parse_of_what_was_cut_off(face: Face, engine: Engine, reason: str) -> None:
    engine.expect(answer('{"unit": ', finish_reason=reason))
    with pytest.raises(CUT_OFF[reason], match="choice 0 was cut off") as caught:
        await face.parse(**ASKED, response_format=Weather, max_tokens=2)
    assert isinstance(caught.value, pgml.APIError)


async def test_what_was_cut_off_is_there_as_in_openai(face: Face, engine: Engine) -> None:
    engine.expect(answer('{"unit": ', finish_reason="length"))
    with pytest.raises(pgml.LengthFinishReasonError) as caught:
        await face.parse(**ASKED, response_format=Weather, max_tokens=2)
    completion = caught.value.completion
    assert completion.choices[0].message.content == '{"unit": '
    assert completion.usage.completion_tokens == 2


async def test_parse_of_a_refusal(face: Face, engine: Engine) -> None:
    refusal = {"index": 0, "delta": {"refusal": "No."}, "finish_reason": "stop"}
    engine.expect(head(), ROLE, event({"choices": [refusal]}), DONE)
    message = (await face.parse(**ASKED, response_format=Weather)).choices[0].message
    assert message.parsed is None
    assert message.refusal == "No."


class Opaque:
    """Pydantic knows nothing of it."""


async def test_parse_of_what_is_no_such_thing(face: Face, engine: Engine) -> None:
    engine.expect(answer('{"unit": "k"}'))
    with pytest.raises(pydantic.ValidationError, match="unit"):
        await face.parse(**ASKED, response_format=Weather)
    with pytest.raises(TypeError, match="response_format: must be a pydantic model"):
        await face.parse(**ASKED, response_format=Opaque)


async def test_what_was_parsed_can_be_dumped(face: Face, engine: Engine) -> None:
    engine.expect(answer('{"unit":"c","city":"Rome"}'))
    completion = await face.parse(**ASKED, response_format=Weather)
    weather = {"unit": "c", "city": "Rome"}
    assert completion.model_dump()["choices"][0]["message"]["parsed"] == weather
    assert json.loads(completion.to_json())["choices"][0]["message"]["parsed"] == weather
    assert json.loads(completion.model_dump_json())["choices"][0]["message"]["parsed"] == weather


async def test_what_was_parsed_goes_back_into_a_conversation(face: Face, engine: Engine) -> None:
    engine.expect(answer('{"unit":"c","city":"Rome"}'))
    message = (await face.parse(**ASKED, response_format=Weather)).choices[0].message
    exchange = engine.expect(answer("hi"))
    await face.create(model="scripted", messages=[*QUESTION, message, *QUESTION])
    assert exchange.body["messages"][1]["content"] == '{"unit":"c","city":"Rome"}'


def call(name: str, arguments: str) -> bytes:
    made = {"index": 0, "id": "c", "type": "function"}
    delta = {"tool_calls": [{**made, "function": {"name": name, "arguments": arguments}}]}
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]})


async def test_the_arguments_of_a_call_are_read(face: Face, model: str) -> None:
    completion = await face.parse(
        model=model,
        messages=WEATHER,
        tools=iter([pgml.pydantic_function_tool(Weather)]),
        tool_choice="required",
        max_tokens=60,
    )
    message = completion.choices[0].message
    assert message.parsed is None
    function = message.tool_calls[0].function
    assert function.parsed_arguments == Weather.model_validate_json(function.arguments)


async def test_arguments_of_openais_own_tools(face: Face, engine: Engine) -> None:
    engine.expect(head(), ROLE, call("Weather", '{"unit": "c", "city": "Rome"}'), DONE)
    tools = [openai.pydantic_function_tool(Weather)]
    completion = await face.parse(**ASKED, tools=tools)
    function = completion.choices[0].message.tool_calls[0].function
    assert function.parsed_arguments == Weather(unit="c", city="Rome")


async def test_arguments_of_tools_that_have_no_model(face: Face, engine: Engine) -> None:
    def tool(name: str, **more: Any) -> dict[str, Any]:
        return {"type": "function", "function": {"name": name, **more}}

    tools = [tool("strict", strict=True), tool("loose")]
    for name, read in (("strict", {"a": 1}), ("loose", None), ("unknown", None)):
        engine.expect(head(), ROLE, call(name, '{"a": 1}'), DONE)
        completion = await face.parse(**ASKED, tools=tools)
        function = completion.choices[0].message.tool_calls[0].function
        assert function.parsed_arguments == read
        assert json.loads(completion.to_json())["choices"][0]["message"]["parsed"] is None


async def test_a_message_with_arguments_that_were_read_goes_back(
    face: Face, engine: Engine
) -> None:
    engine.expect(head(), ROLE, call("Weather", '{"unit": "c", "city": "Rome"}'), DONE)
    tools = [pgml.pydantic_function_tool(Weather)]
    message = (await face.parse(**ASKED, tools=tools)).choices[0].message
    exchange = engine.expect(answer("hi"))
    await face.create(model="scripted", messages=[*QUESTION, message])
    sent = exchange.body["messages"][1]["tool_calls"][0]["function"]
    assert (sent["name"], sent["arguments"]) == ("Weather", '{"unit": "c", "city": "Rome"}')


def test_a_pydantic_tool_is_openais() -> None:
    ours, theirs = pgml.pydantic_function_tool(Weather), openai.pydantic_function_tool(Weather)
    assert ours == theirs
    named = pgml.pydantic_function_tool(Weather, name="w", description="d")["function"]
    assert (named["name"], named["description"]) == ("w", "d")
    with pytest.raises(TypeError, match="model: must be a pydantic model"):
        pgml.pydantic_function_tool(dict)


async def test_where_parse_once_was(face: Face, engine: Engine) -> None:
    engine.expect(answer('{"unit": "c", "city": "Rome"}'))
    completions = face.client.beta.chat.completions
    completion = await face._wait(completions.parse(**ASKED, response_format=Weather))
    assert completion.choices[0].message.parsed == Weather(unit="c", city="Rome")
