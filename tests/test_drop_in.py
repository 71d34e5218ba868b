"""The same function bodies with openai at the engine, and with pgml at the database.

What a body gets from pgml has all that it gets from openai: each field that openai's types declare
can be read, and holds a value of the same type.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import httpx2
import openai
import pgml
import pydantic
import pytest
from conftest import QUESTION, text
from engine import DONE, ROLE, Engine, Step, chunk, ending, error, event, head, usage
from pgml import local


@dataclass
class Side:
    """What a program imports, and the client that it makes."""

    lib: ModuleType
    client: Any
    async_client: Any
    model: str

    def ask(self, **asked: Any) -> Any:
        """Create a completion with few tokens, the likeliest."""
        asked = {"model": self.model, "messages": QUESTION, "max_tokens": 4, **asked}
        return self.client.chat.completions.create(temperature=0, **asked)


@pytest.fixture
def ours(database_url: str, deadline: None, model: str) -> Iterator[Side]:
    async_client = pgml.AsyncOpenSourceAI(database_url, max_retries=0)
    with pgml.OpenSourceAI(database_url, max_retries=0) as client:
        yield Side(pgml, client, async_client, model)


@pytest.fixture
async def theirs(instance: local.Status, deadline: None, model: str) -> Any:
    """openai's own clients, at the engine of the local instance."""
    path = instance.models[0].socket
    options: dict[str, Any] = {"base_url": "http://localhost/v1", "api_key": "none"}
    http = openai.DefaultHttpxClient(transport=httpx2.HTTPTransport(uds=path))
    async_http = openai.DefaultAsyncHttpxClient(transport=httpx2.AsyncHTTPTransport(uds=path))
    with openai.OpenAI(**options, max_retries=0, http_client=http) as client:
        async with openai.AsyncOpenAI(
            **options, max_retries=0, http_client=async_http
        ) as async_client:
            yield Side(openai, client, async_client, model)


@pytest.fixture
def at_the_stand_in(engine: Engine, ours: Side) -> Iterator[tuple[Side, Side]]:
    """Both, at an engine that says what a test wants."""
    ours.model = "scripted"
    with openai.OpenAI(
        base_url=f"http://127.0.0.1:{engine.port}/v1", api_key="none", max_retries=0
    ) as client:
        yield Side(openai, client, None, "scripted"), ours


def check_same(theirs: Any, ours: Any, path: str) -> None:
    if isinstance(theirs, pydantic.BaseModel):
        for name in type(theirs).model_fields:
            check_same(getattr(theirs, name), getattr(ours, name), f"{path}.{name}")
    elif isinstance(theirs, list):
        assert type(ours) is list, path
        assert len(ours) == len(theirs), path
        for index, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            check_same(one, other, f"{path}[{index}]")
    else:
        assert type(ours) is type(theirs), path


# At the real engine -------------------------------------------------------------------------------


def plain(side: Side) -> Any:
    completion = side.ask()
    print(completion.choices[0].message.content.strip())
    print(completion.usage.prompt_tokens + completion.usage.completion_tokens)
    return completion


def json_schema(side: Side) -> Any:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    completion = side.ask(max_tokens=60, response_format=form)
    assert type(json.loads(completion.choices[0].message.content)["ok"]) is bool
    return completion


def logprobs(side: Side) -> Any:
    completion = side.ask(logprobs=True, top_logprobs=2)
    for token in completion.choices[0].logprobs.content:
        print(token.token, token.logprob, [top.token for top in token.top_logprobs])
    return completion


def tool_conversation(side: Side) -> Any:
    function = {"name": "now", "arguments": "{}"}
    calls = [{"id": "call_1", "type": "function", "function": function}]
    messages = [
        *QUESTION,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
    ]
    tools = [{"type": "function", "function": {"name": "now"}}]
    return side.ask(messages=messages, tools=tools, tool_choice="none")


def the_message_goes_back(side: Side) -> Any:
    first = side.ask().choices[0].message
    return side.ask(messages=[*QUESTION, first, *QUESTION])


def copies_and_dumps(side: Side) -> Any:
    completion = side.ask()
    dumped = completion.model_dump_json()
    again = type(completion).model_validate_json(dumped)
    assert type(again) is type(completion)
    assert again.model_dump() == completion.model_dump()
    assert json.loads(completion.to_json())["id"] == completion.to_dict()["id"] == completion.id
    return completion.model_copy() if side.lib is openai else completion.copy()


def not_given(side: Side) -> Any:
    seed: Any = side.lib.NOT_GIVEN
    return side.ask(seed=seed, stop=None, stream=False, timeout=None, extra_body={"top_k": 1})


def parse(side: Side) -> Any:
    class Answer(pydantic.BaseModel):
        ok: Literal["yes", "no"]

    completion = side.client.chat.completions.parse(
        model=side.model, messages=QUESTION, response_format=Answer, max_tokens=80
    )
    assert completion.choices[0].message.parsed.ok in ("yes", "no")
    return completion


def options(side: Side) -> Any:
    patient = side.client.with_options(timeout=60.0, max_retries=1)
    assert (patient.timeout, patient.max_retries) == (60.0, 1)
    copied = side.client.copy(max_retries=3)
    assert (copied.timeout, copied.max_retries) == (side.client.timeout, 3)
    side.client = copied
    return side.ask()


def models(side: Side) -> Any:
    (listed,) = [model for model in side.client.models.list() if model.id == side.model]
    assert side.client.models.list().data[0].object == "model"
    assert type(listed.created) is int
    return listed.id


BODIES = [
    *(plain, json_schema, logprobs, tool_conversation, the_message_goes_back),
    *(copies_and_dumps, not_given, parse, options, models),
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_a_body(theirs: Side, ours: Side, body: Callable[[Side], Any]) -> None:
    check_same(body(theirs), body(ours), "completion")


def stream(side: Side) -> list[Any]:
    pieces = []
    with side.ask(stream=True, stream_options={"include_usage": True}) as chunks:
        for piece in chunks:
            pieces.append(piece)
            if piece.choices:
                print(piece.choices[0].delta.content or "", end="")
    return pieces


def check_same_streams(theirs: list[Any], ours: list[Any]) -> None:
    """Engines differ in what comes first: a role alone, or with the first text."""
    kinds: list[Callable[[Any], Any]] = [
        lambda piece: piece.choices and piece.choices[0].delta.role,
        lambda piece: piece.choices and piece.choices[0].delta.content,
        lambda piece: piece.choices and piece.choices[0].delta.tool_calls,
        lambda piece: piece.choices and piece.choices[0].finish_reason,
        lambda piece: not piece.choices,
    ]
    for index, kind in enumerate(kinds):
        one, other = (list(filter(kind, pieces))[-1:] for pieces in (theirs, ours))
        if index:
            check_same(one, other, f"chunk {index}")
        else:
            roles = [[piece.choices[0].delta.role for piece in pieces] for pieces in (one, other)]
            assert roles == [["assistant"]] * 2


def test_a_stream(theirs: Side, ours: Side) -> None:
    check_same_streams(stream(theirs), stream(ours))


async def test_the_asynchronous_clients(theirs: Side, ours: Side) -> None:
    async def body(side: Side) -> tuple[Any, list[Any]]:
        asked = {"model": side.model, "messages": QUESTION, "max_tokens": 4, "temperature": 0}
        async with side.async_client as client:
            completion = await client.chat.completions.create(**asked)
            chunks = await client.chat.completions.create(**asked, stream=True)
            pieces = [piece async for piece in chunks]
        assert client.is_closed()
        return completion, pieces

    completions, pieces = zip(await body(theirs), await body(ours), strict=True)
    check_same(*completions, "completion")
    check_same_streams(*pieces)


# At an engine that says what a test wants ---------------------------------------------------------


def call(index: int, **fields: Any) -> bytes:
    delta = {"tool_calls": [{"index": index, **fields}]}
    shared = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices = [{"index": 0, "delta": delta, "finish_reason": None}]
    return event({**shared, "system_fingerprint": "fp", "choices": choices})


TOOL_CALLS: list[Step] = [
    *(head(), ROLE, chunk("Let me"), chunk(" see.")),
    call(0, id="a", type="function", function={"name": "weather", "arguments": ""}),
    call(0, function={"arguments": '{"city":'}),
    call(0, function={"arguments": ' "Rome"}'}),
    *(chunk(finish_reason="tool_calls"), DONE),
]


def test_streamed_tool_calls(at_the_stand_in: tuple[Side, Side], engine: Engine) -> None:
    def body(side: Side) -> list[Any]:
        name = arguments = ""
        pieces = list(side.ask(stream=True))
        for piece in pieces:
            for made in piece.choices[0].delta.tool_calls or []:
                name += made.function.name or ""
                arguments += made.function.arguments or ""
        assert (name, json.loads(arguments)) == ("weather", {"city": "Rome"})
        return pieces

    both = []
    for side in at_the_stand_in:
        engine.expect(TOOL_CALLS)
        both.append(body(side))
    check_same_streams(*both)


STATUSES = [400, 401, 403, 404, 429, 500]


@pytest.mark.parametrize("status", STATUSES)
def test_errors(at_the_stand_in: tuple[Side, Side], engine: Engine, status: int) -> None:
    raised = []
    for side in at_the_stand_in:
        engine.expect(error(status, "because"))
        with pytest.raises(side.lib.APIStatusError, match="because") as caught:
            side.ask()
        assert isinstance(caught.value, side.lib.APIError)
        assert isinstance(caught.value, side.lib.OpenAIError)
        raised.append((type(caught.value).__name__, caught.value.status_code))
    assert raised[0] == raised[1]


def test_a_timeout(at_the_stand_in: tuple[Side, Side], engine: Engine) -> None:
    for side in at_the_stand_in:
        exchange = engine.expect("hang")
        with pytest.raises(side.lib.APITimeoutError) as caught:
            side.ask(timeout=0.1)
        assert isinstance(caught.value, side.lib.APIConnectionError)
        exchange.wait_gone()


def test_an_error_half_way(at_the_stand_in: tuple[Side, Side], engine: Engine) -> None:
    for side in at_the_stand_in:
        broken = event({"error": {"message": "no memory", "code": 500}})
        engine.expect(head(), ROLE, chunk("a"), broken)
        with pytest.raises(side.lib.APIError, match="no memory"):
            list(side.ask(stream=True))


def test_closed_clients(at_the_stand_in: tuple[Side, Side], engine: Engine) -> None:
    for side in at_the_stand_in:
        engine.expect(head(), ROLE, chunk("a"), *ending(), usage(1, 1))
        assert text([piece.model_dump() for piece in side.ask(stream=True)]) == "a"
        assert not side.client.is_closed()
        side.client.close()
        assert side.client.is_closed()
        with pytest.raises((side.lib.APIConnectionError, RuntimeError), match="closed"):
            side.ask()
