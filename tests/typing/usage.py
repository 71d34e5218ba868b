"""What users write. `mypy --strict` and pyright's strict mode find nothing wrong with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pgml
import pydantic
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pgml import APIError, AsyncOpenSourceAI, OpenSourceAI, RateLimitError
from pgml.types import Message, Model, Parameters
from typing_extensions import assert_type


class Weather(pydantic.BaseModel):
    city: str
    celsius: float


client = OpenSourceAI()
elsewhere = OpenSourceAI(
    "postgresql://app:secret@db/ai",
    timeout=30,
    max_retries=3,
    max_connections=10,
    connect_timeout=2.5,
    acquire_timeout=1,
    streaming="cursor",
)
hasty: OpenSourceAI = client.with_options(timeout=1.5, max_retries=0)
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def first_prompt() -> str | None:
    results = client.chat_completions_create(
        MODEL,
        [
            {"role": "system", "content": "You are a friendly chatbot."},
            {"role": "user", "content": "How many helicopters can a human eat in one sitting?"},
        ],
        temperature=0.85,
    )
    assert_type(results, pgml.ChatCompletion)
    print(results["choices"][0]["message"]["content"])
    choice = results.choices[0]
    assert_type(choice.message.content, str | None)
    assert_type(choice.index, int)
    if choice.finish_reason == "length" and results.usage is not None:
        assert_type(results.usage.completion_tokens, int)
    print(json.dumps(results), results.to_json(indent=2), results.model_dump()["id"])
    return choice.message.content


def model_objects() -> None:
    model: Model = {"model": MODEL, "revision": "main", "device_map": "auto"}
    messages: list[Message] = [{"role": "user", "content": "hi"}]
    client.chat_completions_create(model, messages, 1000, 0.8, 2, "{{ messages[0].content }}")
    client.chat_completions_create(
        {"model": MODEL, "torch_dtype": "bfloat16"}, messages=tuple(messages), max_tokens=None
    )


def streaming() -> Iterator[str]:
    messages = [{"role": "user", "content": "hi"}]
    for chunk in client.chat_completions_create_stream(MODEL, messages):
        assert_type(chunk, pgml.ChatCompletionChunk)
        for choice in chunk.choices:
            yield choice.delta.content or ""
    with client.chat.completions.create(model=MODEL, messages=messages, stream=True) as stream:
        assert_type(stream, pgml.ChatCompletionStream)
        first = next(stream)
        print(first.choices[0].delta.role)
    stream.close()


def overloads(stream: bool) -> None:
    messages = [{"role": "user", "content": "hi"}]
    completions = client.chat.completions
    assert_type(completions.create(model=MODEL, messages=messages), pgml.ChatCompletion)
    whole = completions.create(model=MODEL, messages=messages, stream=False)
    assert_type(whole, pgml.ChatCompletion)
    either = completions.create(model=MODEL, messages=messages, stream=stream)
    assert_type(either, pgml.ChatCompletion | pgml.ChatCompletionStream)
    if isinstance(either, pgml.ChatCompletion):
        print(either.choices[0].message.content)
    else:
        print([chunk.choices[0].delta.content for chunk in either])


async def asynchronous() -> AsyncIterator[str]:
    messages = [{"role": "user", "content": "hi"}]
    whole = await client.chat_completions_create_async(MODEL, messages, timeout=3)
    assert_type(whole, pgml.ChatCompletion)
    one, two = await asyncio.gather(
        client.chat_completions_create_async(MODEL, messages),
        client.chat_completions_create_async(MODEL, messages),
    )
    print(one.choices[0].message.content, two.id)
    stream = await client.chat_completions_create_stream_async(MODEL, messages)
    assert_type(stream, pgml.AsyncChatCompletionStream)
    async with stream:
        async for chunk in stream:
            yield chunk.choices[0].delta.content or ""
    await stream.aclose()


async def asynchronous_namespace() -> None:
    async_client = AsyncOpenSourceAI("postgresql:///ai").with_options(max_retries=1)
    assert_type(async_client, AsyncOpenSourceAI)
    messages = [{"role": "user", "content": "hi"}]
    whole = await async_client.chat.completions.create(model=MODEL, messages=messages)
    assert_type(whole, pgml.ChatCompletion)
    stream = await async_client.chat.completions.create(
        model=MODEL, messages=messages, stream=True, stream_options={"include_usage": True}
    )
    assert_type(stream, pgml.AsyncChatCompletionStream)
    async for chunk in stream:
        if chunk.usage is not None:
            print(chunk.usage.total_tokens)
    names = [model.id for model in (await async_client.models.list()).data]
    print((await async_client.models.retrieve(names[0])).owned_by)


def every_parameter() -> None:
    client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        max_tokens=5,
        max_completion_tokens=5,
        temperature=1,
        top_p=0.9,
        n=1,
        stop=["a", "b"],
        seed=7,
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        logit_bias={"15": -100},
        logprobs=True,
        top_logprobs=2,
        response_format={"type": "json_object"},
        tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        parallel_tool_calls=False,
        prediction={"type": "content", "content": "hi"},
        prompt_cache_key="key",
        prompt_cache_options={"ttl": "1h"},
        prompt_cache_retention="24h",
        reasoning_effort="low",
        safety_identifier="id",
        service_tier="auto",
        store=False,
        user="me",
        metadata={"a": "b"},
        verbosity="low",
        extra_body={"top_k": 1, "grammar": 'root ::= "a"'},
        extra_headers=None,
        timeout=60,
    )
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]}
    client.chat.completions.create(
        model=MODEL,
        messages=(message for message in [{"role": "user", "content": "hi"}]),
        tool_choice={"type": "allowed_tools", "allowed_tools": allowed},
        max_tokens=None,
        timeout=None,
    )


def left_out(seed: int | pgml.NotGiven = pgml.NOT_GIVEN, limit: float | None = None) -> None:
    client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "hi"}],
        seed=seed,
        max_tokens=pgml.NOT_GIVEN,
        stream=pgml.NOT_GIVEN,
        timeout=limit,
    )


def closing() -> None:
    with OpenSourceAI() as closed, closed.copy(timeout=None) as copied:
        assert_type(copied, OpenSourceAI)
    closed.close()
    assert_type(closed.is_closed(), bool)


async def closing_asynchronously() -> None:
    async with AsyncOpenSourceAI() as closed:
        assert_type(closed, AsyncOpenSourceAI)
    await closed.close()


def details() -> None:
    completion = client.chat_completions_create(
        MODEL, [{"role": "user", "content": "hi"}], logprobs=True, top_logprobs=1
    )
    if completion.usage and completion.usage.prompt_tokens_details:
        assert_type(completion.usage.prompt_tokens_details.cached_tokens, int | None)
    choice = completion.choices[0]
    if choice.logprobs:
        for token in choice.logprobs.content or []:
            assert_type(token.logprob, float)
            print([top.token for top in token.top_logprobs], bytes(token.bytes or []))
    assert_type(choice.message.reasoning_content, str | None)
    for chunk in client.chat_completions_create_stream(MODEL, []):
        for call in chunk.choices[0].delta.tool_calls or []:
            assert_type(call.index, int)
            assert_type(call.function.arguments, str)
        print(getattr(chunk.choices[0].delta, "reasoning", None))


def shared_parameters() -> None:
    careful: Parameters = {"top_p": 0.1, "seed": 3, "stop": "\n"}
    client.chat_completions_create(MODEL, [{"role": "user", "content": "hi"}], **careful)


def tools() -> None:
    messages: list[Message] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    completion = client.chat_completions_create(
        MODEL,
        messages,
        tools=[
            {
                "type": "function",
                "function": {"name": "weather", "parameters": Weather.model_json_schema()},
            }
        ],
        tool_choice="required",
    )
    message = completion.choices[0].message
    messages.append(message)
    for call in message.tool_calls or []:
        assert_type(call.function.arguments, str)
        arguments: dict[str, Any] = json.loads(call.function.arguments)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": str(arguments)})
    client.chat_completions_create(MODEL, messages)


def structured_output() -> Weather | None:
    completion = client.chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the weather in Oslo?"}],
        response_format=Weather,
        max_tokens=100,
        timeout=3,
    )
    assert_type(completion.choices[0].message.parsed, Weather | None)
    return (
        client.beta.chat.completions.parse(
            model=MODEL, messages=[], response_format=Weather, n=1, seed=1
        )
        .choices[0]
        .message.parsed
    )


def events() -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=[], response_format=Weather
    ) as stream:
        for event in stream:
            assert_type(event.type, str)
            print(event.delta)
        assert_type(stream.get_final_completion().choices[0].message.content, str | None)


async def asynchronous_events() -> None:
    completions = AsyncOpenSourceAI().chat.completions
    async with completions.stream(model=MODEL, messages=[], n=1) as stream:
        async for event in stream:
            print(event.type)
        print((await stream.get_final_completion()).usage, stream.current_completion_snapshot.id)


async def parsed_tools() -> Any:
    completion = await AsyncOpenSourceAI().chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the weather in Oslo?"}],
        tools=[pgml.pydantic_function_tool(Weather, description="The weather")],
        tool_choice="required",
    )
    assert_type(completion.choices[0].message.parsed, None)
    for call in completion.choices[0].message.tool_calls or []:
        return call.function.parsed_arguments
    return None


def types_of_openai() -> None:
    messages: list[ChatCompletionMessageParam] = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "hi"},
    ]
    tool: ChatCompletionToolParam = {"type": "function", "function": {"name": "f"}}
    client.chat.completions.create(model=MODEL, messages=messages, tools=[tool])


def errors() -> None:
    try:
        client.chat_completions_create(MODEL, [{"role": "user", "content": "hi"}])
    except RateLimitError as error:
        print(error.status_code, error.sqlstate)
    except pgml.APITimeoutError:
        print("too slow")
    except APIError as error:
        assert_type(error.message, str)
        assert_type(error.param, str | None)
        print(error.code, error.type, error.hint, error.detail)


def patterns(completion: pgml.ChatCompletion) -> str | None:
    match completion.choices[0].finish_reason:
        case "stop" | "length":
            return completion.choices[0].message.content
        case _:
            return None
