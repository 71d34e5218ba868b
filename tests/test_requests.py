"""What a request may be made of: the engine gets what it gets from the openai package.

The same arguments go to both clients, over the same engine. What that package cannot write, and
this one can, is compared with what it should be.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import uuid
from collections import OrderedDict, UserDict, UserList, deque
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any, NamedTuple

import openai
import pgml
import pydantic
import pytest
from conftest import QUESTION
from engine import Engine, answer, event, head, usage
from openai.types.chat import ChatCompletionMessage

DAY = datetime.date(2026, 1, 2)
NOON = datetime.datetime(2026, 1, 2, 12, 0, 1, 500, tzinfo=datetime.timezone.utc)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


class Speaker(enum.Enum):
    USER = "user"


class SpeakerName(str, enum.Enum):
    USER = "user"


class Level(enum.IntEnum):
    HIGH = 2


class Part(pydantic.BaseModel):
    type: str = "text"
    text: str


class Turn(pydantic.BaseModel):
    """A message with all that pydantic writes in a way of its own."""

    model_config = pydantic.ConfigDict(populate_by_name=True)

    role: Speaker
    content: str = pydantic.Field(alias="text")
    at: datetime.datetime | None = None
    of: uuid.UUID | None = None
    unset: int = 3
    nothing: None = None
    secret: str = pydantic.Field(default="s", exclude=True)

    @pydantic.field_serializer("of")
    def hexadecimal(self, of: uuid.UUID) -> str:
        return of.hex

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def length(self) -> int:
        return len(self.content)


class Camel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)

    top_k: int = pydantic.Field(alias="topK")
    since: datetime.date = DAY


class Schema(pydantic.RootModel[dict[str, Any]]):
    pass


class Pair(NamedTuple):
    first: int
    second: str


@dataclasses.dataclass
class Plain:
    role: str
    content: str
    at: datetime.date = DAY


USER = QUESTION[0]
TURN = {"role": "user", "text": "x", "at": NOON, "of": ID, "nothing": None}

# Made anew for each client, as some can be used once only.
SAME: dict[str, Callable[[], dict[str, Any]]] = {
    "a model with an enum, a date, an alias": lambda: {"messages": [Turn.model_validate(TURN)]},
    "a model with unset fields": lambda: {"messages": [Turn(role=Speaker.USER, content="x")]},
    "models as parts": lambda: {
        "messages": [{"role": "user", "content": [Part(type="text", text="x")]}]
    },
    "a model under a key of its own": lambda: {"messages": [{**USER, "own": Camel(top_k=1)}]},
    "a model in extra_body": lambda: {"extra_body": {"own": Camel(top_k=1)}},
    "a model deep in extra_body": lambda: {"extra_body": {"own": [{"a": (Camel(top_k=1),)}]}},
    "a root model as a schema": lambda: {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": Schema({"a": 1})}}]
    },
    "models as tools": lambda: {
        "tools": [pydantic.create_model("T", type=(str, ...), function=(dict[str, Any], ...))(
            type="function", function={"name": "f"}
        )]
    },
    "a model in a schema": lambda: {
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "parameters": {"x": Camel(top_k=1), "y": [Camel(top_k=1)]},
                },
            }
        ]
    },
    "a message of the openai package": lambda: {
        "messages": [USER, ChatCompletionMessage(role="assistant", content="a", refusal=None), USER]
    },
    "a datetime": lambda: {"messages": [{**USER, "at": NOON}]},
    "an enum of strings": lambda: {"messages": [{"role": SpeakerName.USER, "content": "x"}]},
    "an enum of ints": lambda: {"extra_body": {"level": Level.HIGH}},
    "an enum of strings as key": lambda: {"extra_body": {"own": {SpeakerName.USER: 1}}},
    "a named tuple": lambda: {"extra_body": {"own": Pair(1, "x")}},
    "int keys": lambda: {"logit_bias": {19556: -100, 7: 5}},
    "keys of all kinds": lambda: {
        "extra_body": {"own": {2: 1, True: 2, None: 3, 1.5: 4, 2**70: 5}}
    },
    "a read-only mapping": lambda: {"messages": [MappingProxyType(USER)]},
    "a UserDict": lambda: {"messages": [UserDict(USER)]},
    "an OrderedDict": lambda: {"messages": [OrderedDict(USER)]},
    "a deque": lambda: {"messages": deque(QUESTION)},
    "a UserList": lambda: {"messages": UserList(QUESTION)},
    "values of a dict": lambda: {"messages": {1: USER}.values()},
    "a generator": lambda: {"messages": (message for message in QUESTION)},
    "a map": lambda: {"messages": map(dict, QUESTION)},
    "parts from a generator": lambda: {
        "messages": [{"role": "user", "content": ({"type": "text", "text": t} for t in "ab")}]
    },
    "tools from a tuple": lambda: {"tools": ({"type": "function", "function": {"name": "f"}},)},
    "stop from a tuple": lambda: {"stop": ("a", "b")},
    "a parameter that is not given": lambda: {"seed": openai.omit, "top_p": openai.NOT_GIVEN},
    "a key that is not given": lambda: {"messages": [{**USER, "name": openai.omit}]},
    "a message of nothing but keys not given": lambda: {
        "messages": [{"name": openai.omit, **USER, "x": openai.NOT_GIVEN}]
    },
    "unicode": lambda: {"messages": [{"role": "user", "content": "ä\u2028🦙\0"}]},
}  # fmt: skip


@pytest.fixture
def theirs(engine: Engine) -> Iterator[openai.OpenAI]:
    base_url = f"http://127.0.0.1:{engine.port}/v1"
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("kind", SAME)
def test_the_engine_gets_what_it_gets_from_openai(
    client: pgml.OpenSourceAI, theirs: openai.OpenAI, engine: Engine, kind: str
) -> None:
    sent = []
    for side in (theirs, client):
        exchange = engine.expect(answer("hi"))
        arguments: Any = {"model": "scripted", "messages": QUESTION, **SAME[kind]()}
        for _ in side.chat.completions.create(**arguments, stream=True):
            pass
        sent.append(exchange.body)
    expected, got = sent
    for name in expected.keys() - {"model", "stream", "stream_options"}:
        assert got[name] == expected[name], name
    assert "seed" not in got or "seed" in expected


MORE: dict[str, tuple[Callable[[], Any], Any]] = {
    "an enum": (lambda: Speaker.USER, "user"),
    "a date": (lambda: DAY, "2026-01-02"),
    "a time": (lambda: datetime.time(1, 2), "01:02:00"),
    "a UUID": (lambda: ID, str(ID)),
    "a dataclass": (
        lambda: Plain("user", "x"),
        {"role": "user", "content": "x", "at": "2026-01-02"},
    ),
    "a set": (lambda: {1}, [1]),
    "a deque": (lambda: deque([1, 2]), [1, 2]),
    "a range": (lambda: range(3), [0, 1, 2]),
    "an enum as key": (lambda: {Speaker.USER: 1}, {"user": 1}),
    "a mapping": (lambda: MappingProxyType({1: 2}), {"1": 2}),
}


@pytest.mark.parametrize("kind", MORE)
def test_more_than_openai_can_write(client: pgml.OpenSourceAI, engine: Engine, kind: str) -> None:
    make, expected = MORE[kind]
    exchange = engine.expect(answer("hi"))
    client.chat.completions.create(model="scripted", messages=QUESTION, extra_body={"own": make()})
    assert exchange.body["own"] == expected


@pytest.mark.parametrize(
    "value", [b"x", bytearray(b"x"), memoryview(b"x"), 1j, object(), Speaker, Plain, Turn, print]
)  # fmt: skip
def test_what_cannot_be_written_is_named(client: pgml.OpenSourceAI, value: Any) -> None:
    kind = type(value).__name__
    with pytest.raises(TypeError, match=rf"^messages\[0\]\.a\[1\]: .* is a {kind}$"):
        client.chat.completions.create(
            model="scripted", messages=[{**USER, "a": [1, value]}], max_tokens=1
        )


def test_an_element_that_is_not_given_is_named(client: pgml.OpenSourceAI) -> None:
    with pytest.raises(TypeError, match=r"^messages\[1\]: "):
        client.chat.completions.create(model="scripted", messages=[USER, pgml.NOT_GIVEN])


@pytest.mark.parametrize("form", [Turn, Plain, dict[str, int], list[Turn], int])
async def test_a_class_is_for_parse(call: Any, form: Any) -> None:
    for method in (call.create, call.stream):
        with pytest.raises(TypeError, match=r"^response_format: .*chat\.completions\.parse"):
            await method("scripted", QUESTION, response_format=form)


def test_the_token_of_a_model_stays_out_of_the_request(
    client: pgml.OpenSourceAI, engine: Engine
) -> None:
    named = pydantic.create_model("Named", model=(str, ...), token=(str, ...))
    exchange = engine.expect(answer("hi"))
    client.chat.completions.create(
        model=named(model="scripted", token="hidden"),
        messages=QUESTION,  # type: ignore[arg-type]
    )
    assert "hidden" not in str(exchange.body)


# Pydantic warns of what the openai package puts into its own classes.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_what_parse_returned_goes_back(
    client: pgml.OpenSourceAI, theirs: openai.OpenAI, engine: Engine
) -> None:
    """A message read into a model with a date, an alias and an enum."""

    class Booking(pydantic.BaseModel):
        day: datetime.date = pydantic.Field(alias="Day")
        by: Speaker

    text = '{"Day": "2026-01-02", "by": "user"}'
    function = {"name": "Booking", "arguments": text}
    call = {"index": 0, "id": "c", "type": "function", "function": function}
    delta = {"role": "assistant", "content": None, "tool_calls": [call]}
    script = [
        head(),
        event({**CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]}),
        usage(1, 1),
        b"data: [DONE]\n\n",
    ]
    sent = []
    for side, lib in ((theirs, openai), (client, pgml)):
        messages: list[Any] = list(QUESTION)
        for steps, arguments in (
            (script, {"tools": [lib.pydantic_function_tool(Booking)]}),
            (answer(text), {"response_format": Booking}),
        ):
            engine.expect(steps)
            with side.chat.completions.stream(
                model="scripted", messages=QUESTION, **arguments
            ) as stream:
                message = stream.get_final_completion().choices[0].message
            messages.append(message)
            if message.tool_calls:
                messages.append({"role": "tool", "tool_call_id": "c", "content": "ok"})
        exchange = engine.expect(answer("hi"))
        for _ in side.chat.completions.create(model="scripted", messages=messages, stream=True):
            pass
        sent.append([given(message) for message in exchange.body["messages"]])
    assert sent[1] == sent[0]
    assert sent[0][-1]["parsed"] == {"day": "2026-01-02", "by": "user"}


CHUNK = {"id": "e", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def given(message: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is null, and the index that only the openai package's accumulator keeps."""
    calls = [
        {k: v for k, v in call.items() if k != "index"} for call in message.get("tool_calls") or []
    ]
    message = {key: value for key, value in message.items() if value is not None}
    return {**message, "tool_calls": calls} if calls else message
