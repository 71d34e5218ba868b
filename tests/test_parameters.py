"""Every parameter of `chat.completions.create`: honoured, passed on, or refused by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pgml
import pytest
import test_sampling
import test_structured_output
import test_tools
from asked import FRUITS, honoured, said
from conftest import QUESTION, Call
from engine import Engine, answer
from openai.resources.chat.completions import AsyncCompletions, Completions
from pgml._pgml import PARAMETERS
from pgml.async_resources import AsyncCompletions as OurAsyncCompletions
from pgml.resources import Completions as OurCompletions
from pgml.types import Parameters

# What the openai package adds to its own requests, and is no part of the body.
TRANSPORT = {"extra_headers", "extra_query", "extra_body", "timeout"}

FOUR = [
    pgml.OpenSourceAI.chat_completions_create,
    pgml.OpenSourceAI.chat_completions_create_async,
    pgml.OpenSourceAI.chat_completions_create_stream,
    pgml.OpenSourceAI.chat_completions_create_stream_async,
]


def with_treatment(treatment: str) -> set[str]:
    return {name for name, known in PARAMETERS.items() if known == treatment}


def openai_parameters(create: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(create).parameters) - {"self"}


# The list -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("create", [Completions.create, AsyncCompletions.create])
def test_every_parameter_of_openai_is_classified(create: Callable[..., Any]) -> None:
    parameters = openai_parameters(create)
    assert parameters - TRANSPORT - set(PARAMETERS) == set(), "classify it in parameters.rs"
    assert set(PARAMETERS) - parameters == set(), "openai has it no longer"


def test_the_page_says_what_becomes_of_each() -> None:
    page = Path(__file__).parents[1] / "docs" / "parameters.md"
    rows = re.findall(r"^\| (`.+?`) \| (\w+) \|", page.read_text(), re.MULTILINE)
    documented = {name: treatment for names, treatment in rows for name in names.split("`")[1::2]}
    transport = {name: documented.pop(name) for name in TRANSPORT}
    assert documented == PARAMETERS
    assert {name for name, treatment in transport.items() if treatment == "refused"} == {
        "extra_query"
    }


def test_a_treatment_is_one_of_three() -> None:
    assert set(PARAMETERS.values()) == {"honoured", "harmless", "refused"}


@pytest.mark.parametrize(
    "create",
    [*FOUR, OurCompletions.create, OurAsyncCompletions.create],
    ids=lambda f: f.__qualname__,
)
def test_every_parameter_is_an_argument(create: Callable[..., Any]) -> None:
    arguments = set(inspect.signature(create).parameters) | set(Parameters.__annotations__)
    # Which of the four methods is called says whether it is a stream.
    elsewhere = {"stream"} if create in FOUR else set()
    wanted = openai_parameters(Completions.create) - with_treatment("refused") - elsewhere
    assert wanted - arguments == set()


def test_further_parameters_are_those_of_openai() -> None:
    assert set(Parameters.__annotations__) - openai_parameters(Completions.create) == set()


@pytest.mark.parametrize("name", ["extra_headers", "extra_query"])
async def test_what_a_statement_cannot_carry_is_an_error(
    call: Call, engine: Engine, name: str
) -> None:
    for method in (call.create, call.stream):
        with pytest.raises(TypeError, match=f"{name}: .*cannot be sent"):
            await method("scripted", QUESTION, **{name: {"a": "b"}})
    for nothing in (None, {}):
        exchange = engine.expect(answer("hi"))
        await call.create("scripted", QUESTION, **{name: nothing})
        assert name not in exchange.body


async def test_the_method_says_whether_it_streams(call: Call) -> None:
    for method in (call.create, call.stream):
        with pytest.raises(TypeError, match=r"'stream': which method .* chat\.completions\.create"):
            await method("scripted", QUESTION, stream=True)


@pytest.mark.parametrize("absent", [pgml.NOT_GIVEN, openai.NOT_GIVEN, openai.omit], ids=repr)
async def test_what_openai_leaves_out_is_left_out(call: Call, engine: Engine, absent: Any) -> None:
    assert not absent
    names = {*PARAMETERS, "extra_headers", "extra_query", "extra_body", "timeout"}
    given = dict.fromkeys(names - {"messages", "model", "stream"}, absent)
    exchange = engine.expect(answer("hi"))
    await call.create("scripted", QUESTION, **given)
    assert set(exchange.body) == {"messages", "model", "temperature", "stream", "stream_options"}
    exchange = engine.expect(answer("hi"))
    call.client.chat.completions.create(
        model="scripted", messages=QUESTION, stream=absent, chat_template=absent, **given
    )
    assert set(exchange.body) == {"messages", "model", "temperature", "stream", "stream_options"}


async def test_a_parameter_that_nobody_knows_is_an_error(call: Call) -> None:
    with pytest.raises(TypeError, match=r"'top_k': .* extra_body=\{'top_k'"):
        await call.create("scripted", QUESTION, top_k=1)


# Refused ------------------------------------------------------------------------------------------

REFUSED: dict[str, Any] = {
    "audio": {"format": "wav", "voice": "alloy"},
    "function_call": "auto",
    "functions": [{"name": "weather", "parameters": {"type": "object"}}],
    "modalities": ["text", "audio"],
    "moderation": {"model": "omni-moderation-latest"},
    "web_search_options": {},
}


def test_every_refused_parameter_has_a_test() -> None:
    assert set(REFUSED) == with_treatment("refused")


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_a_refused_parameter_is_named(call: Call, engine: Engine, name: str) -> None:
    for method in (call.create, call.stream):
        with pytest.raises(pgml.BadRequestError, match=f"{name}: is not supported: ") as caught:
            await method("scripted", QUESTION, **{name: REFUSED[name]})
        assert caught.value.sqlstate == "0A000"
        assert caught.value.param == name


@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_extra_body_is_no_way_around(call: Call, engine: Engine, name: str) -> None:
    with pytest.raises(pgml.BadRequestError) as caught:
        await call.create("scripted", QUESTION, extra_body={name: REFUSED[name]})
    assert caught.value.sqlstate == "0A000"
    assert caught.value.param == name


async def test_text_is_a_modality_that_all_models_have(call: Call, engine: Engine) -> None:
    engine.expect(answer("hi"))
    completion = await call.create("scripted", QUESTION, modalities=["text"])
    assert said(completion) == "hi"


@pytest.mark.parametrize("name", sorted(set(PARAMETERS) - {"messages", "model", "stream"}))
async def test_none_is_not_given(call: Call, engine: Engine, name: str) -> None:
    exchange = engine.expect(answer("hi"))
    await call.create("scripted", QUESTION, **{name: None})
    # Nor are the two that the extension adds where they are not named at all.
    assert name not in exchange.body


# Harmless -----------------------------------------------------------------------------------------

HARMLESS: dict[str, Any] = {
    "metadata": {"customer": "7"},
    "prediction": {"type": "content", "content": "Apples."},
    "prompt_cache_key": "key",
    "prompt_cache_options": {"ttl": "1h"},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "safety_identifier": "somebody",
    "service_tier": "auto",
    "store": False,
    "user": "somebody",
    "verbosity": "low",
}


def test_every_harmless_parameter_has_a_test() -> None:
    assert set(HARMLESS) == with_treatment("harmless")


@pytest.mark.parametrize("name", sorted(HARMLESS))
async def test_a_harmless_parameter_reaches_the_engine(
    call: Call, engine: Engine, name: str
) -> None:
    whole, streamed = engine.expect(answer("hi")), engine.expect(answer("hi"))
    await call.create("scripted", QUESTION, **{name: HARMLESS[name]})
    await (await call.stream("scripted", QUESTION, **{name: HARMLESS[name]})).rest()
    for exchange in (whole, streamed):
        assert exchange.body[name] == HARMLESS[name]
        assert set(exchange.body) == {
            *("messages", "model", "temperature", "stream", "stream_options", name)
        }


def test_harmless_parameters_do_no_harm(client: pgml.OpenSourceAI, model: str) -> None:
    plain = client.chat_completions_create(model, FRUITS, 8, 0)
    rich = client.chat_completions_create(model, FRUITS, 8, 0, extra_body=HARMLESS)
    assert said(rich) == said(plain)


# Honoured -----------------------------------------------------------------------------------------


def test_everyhonoured_parameter_has_a_test() -> None:
    shown = honoured(test_sampling, test_structured_output, test_tools)
    assert with_treatment("honoured") - {"messages", "model"} == shown


async def testhonoured_parameters_reach_any_engine(call: Call, engine: Engine) -> None:
    given: dict[str, Any] = {
        "frequency_penalty": -0.5,
        "logit_bias": {"15": -100},
        "logprobs": True,
        "max_completion_tokens": 9,
        "parallel_tool_calls": False,
        "presence_penalty": 0.25,
        "response_format": {"type": "json_object"},
        "seed": 11,
        "stop": ["a", "b"],
        "tool_choice": "auto",
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "top_logprobs": 3,
        "top_p": 0.5,
    }
    exchange = engine.expect(answer("hi"))
    await call.create("scripted", QUESTION, max_tokens=9, **given)
    assert {name: exchange.body[name] for name in given} == given
    assert exchange.body["max_tokens"] == 9


# What OpenAI has not, or not yet ------------------------------------------------------------------


def test_extra_body(client: pgml.OpenSourceAI, model: str) -> None:
    greedy = said(client.chat_completions_create(model, FRUITS, 10, 0))
    for seed in (1, 2):
        top = client.chat_completions_create(
            model, FRUITS, 10, 2, seed=seed, extra_body={"top_k": 1}
        )
        assert said(top) == greedy
    grammar = 'root ::= "a word that no model says"'
    held = client.chat_completions_create(model, FRUITS, 20, 0, extra_body={"grammar": grammar})
    assert said(held) == "a word that no model says"


async def test_extra_body_reaches_the_engine(call: Call, engine: Engine) -> None:
    extra = {
        "min_p": 0.1,
        "repeat_penalty": 1.1,
        "chat_template_kwargs": {"enable_thinking": False},
        "seed": 2,
    }
    exchange = engine.expect(answer("hi"))
    await call.create("scripted", QUESTION, seed=1, extra_body=extra)
    # As in the openai package, extra_body has the last word.
    assert {name: exchange.body[name] for name in extra} == extra


# What may not be said -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"top_p": 1.5}, "top_p"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"presence_penalty": "much"}, "presence_penalty"),
        ({"seed": 1.5}, "seed"),
        ({"stop": [1]}, "stop"),
        ({"logprobs": 3}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"tool_choice": "required"}, "tools"),
        (
            {"tools": [{"type": "custom", "custom": {"name": "x"}}], "tool_choice": "required"},
            "tools[0].type",
        ),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"n": 129}, "n"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ],
    ids=str,
)
async def test_a_wrong_value_is_named(
    call: Call, engine: Engine, given: dict[str, Any], param: str
) -> None:
    for method in (call.create, call.stream):
        with pytest.raises(pgml.BadRequestError) as caught:
            await method("scripted", QUESTION, **given)
        assert caught.value.param == param
        assert caught.value.sqlstate == "22023"
