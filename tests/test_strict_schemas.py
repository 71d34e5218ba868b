"""Schemas of what an answer is to be: those that the openai package sends, and what reads them."""

from __future__ import annotations

import datetime
import enum
import json
from collections import deque
from typing import Annotated, Any, Literal, Optional, Union

import openai
import pgml
import pydantic
import pydantic.dataclasses
import pytest
from asked import ASKED
from conftest import Face
from engine import Engine, answer
from openai.lib._pydantic import to_strict_json_schema
from pgml.structured import Form
from typing_extensions import TypedDict


class Taste(enum.Enum):
    SWEET = "sweet"
    SOUR = "sour"


class Seed(pydantic.BaseModel):
    """What a fruit comes from."""

    size: int = pydantic.Field(3, ge=0, le=9)
    taste: Taste = pydantic.Field(Taste.SWEET, description="of its flesh")


class Tree(pydantic.BaseModel):
    name: str = pydantic.Field(alias="Name", max_length=20)
    branches: list[Tree] = []
    parent: Optional[Tree] = None  # noqa: UP045


class Loop(pydantic.BaseModel):
    """It contains itself beside a description."""

    again: Optional[Loop] = None  # noqa: UP045


class Basket(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    seed: Seed = pydantic.Field(description="the first")
    maybe: Seed | None = None
    all_of_them: list[Seed]
    either: Union[Seed, Tree, int]  # noqa: UP007
    counts: dict[str, int] = {}
    by_name: dict[str, Seed]
    pair: tuple[int, Seed]
    anything: Any = None
    when: datetime.datetime
    kind: Literal["round"] = "round"
    last: Annotated[Seed, pydantic.Field(description="the last")] = Seed()


class Apple(pydantic.BaseModel):
    kind: Literal["apple"]


class Pear(pydantic.BaseModel):
    kind: Literal["pear"]


class Bowl(pydantic.BaseModel):
    fruit: Annotated[Apple | Pear, pydantic.Field(discriminator="kind")]


@pydantic.dataclasses.dataclass
class Point:
    x: int
    seed: Seed
    y: int = 0


class Row(TypedDict):
    name: str
    count: int


@pytest.mark.parametrize("model", [Seed, Tree, Basket, Bowl])
def test_a_schema_is_as_strict_as_openais(model: type[pydantic.BaseModel]) -> None:
    form = Form("response_format", model)
    assert form.schema == to_strict_json_schema(model)
    assert form.name == model.__name__
    # A model writes properties in the order in which the schema has them.
    theirs = to_strict_json_schema(model)
    assert list(form.schema["properties"]) == list(theirs["properties"])
    assert pgml.pydantic_function_tool(model) == openai.pydantic_function_tool(model)
    assert pgml.pydantic_function_tool(model, description="") == openai.pydantic_function_tool(
        model, description=""
    )


def test_a_schema_of_a_dataclass_is_as_strict_as_openais() -> None:
    theirs = to_strict_json_schema(pydantic.TypeAdapter(Point))
    assert Form("response_format", Point).schema == theirs


def test_a_schema_that_contains_itself_has_an_end() -> None:
    class Ring(pydantic.BaseModel):
        next: Ring = pydantic.Field(description="the one after it")

    schema = Form("response_format", Ring).schema
    assert "$ref" in json.dumps(schema)
    assert json.loads(json.dumps(schema)) == schema


READ: list[tuple[Any, str, Any, str]] = [
    (Seed, '{"size": 1, "taste": "sour"}', Seed(size=1, taste=Taste.SOUR), "Seed"),
    (Point, '{"x": 1, "seed": {}, "y": 2}', Point(1, Seed(), 2), "Point"),
    (Row, '{"name": "a", "count": 1}', {"name": "a", "count": 1}, "Row"),
    (list[Seed], '[{"size": 1}]', [Seed(size=1)], "answer"),
    (dict[str, int], '{"a": 1}', {"a": 1}, "answer"),
    (Union[Apple, Pear], '{"kind": "pear"}', Pear(kind="pear"), "answer"),  # noqa: UP007
    (Literal["yes", "no"], '"yes"', "yes", "answer"),
    (Taste, '"sour"', Taste.SOUR, "Taste"),
    (pydantic.TypeAdapter(list[int]), "[1, 2]", [1, 2], "answer"),
]


@pytest.mark.parametrize(("target", "said", "expected", "name"), READ, ids=lambda x: str(x)[:20])
async def test_types_that_answers_are_read_into(
    face: Face, engine: Engine, target: Any, said: str, expected: Any, name: str
) -> None:
    exchange = engine.expect(answer(said))
    completion = await face.parse(**ASKED, response_format=target)
    assert completion.choices[0].message.parsed == expected
    assert exchange.body["response_format"]["json_schema"]["name"] == name
    json.dumps(completion.model_dump(mode="json"))


@pytest.mark.parametrize("target", [object(), open, 1, "text"])
async def test_what_is_no_type_is_named(face: Face, target: Any) -> None:
    with pytest.raises(TypeError, match="response_format"):
        await face.parse(**ASKED, response_format=target)


MALFORMED: list[Any] = [
    [{"type": "custom", "custom": {"name": "x"}}],
    [{"type": "function"}],
    [{"type": "function", "function": {}}],
    [{"type": "function", "function": "f"}],
    [{"function": None}],
    [{}],
    ["f"],
    [None],
    {"type": "function", "function": {"name": "f"}},
    "f",
    1,
]


@pytest.mark.parametrize("tools", MALFORMED, ids=str)
async def test_malformed_tools_are_a_bad_request(face: Face, tools: Any) -> None:
    with pytest.raises(pgml.BadRequestError) as caught:
        await face.parse(**ASKED, tools=tools)
    assert caught.value.param is not None
    assert caught.value.param.startswith("tools")
    manager = face.client.chat.completions.stream(**ASKED, tools=tools)
    enter = getattr(manager, "__aenter__", None) or manager.__enter__
    with pytest.raises(pgml.BadRequestError) as caught:
        await face._wait(enter())
    assert caught.value.param is not None
    assert caught.value.param.startswith("tools")


async def test_tools_of_any_iterable_are_read(face: Face, engine: Engine) -> None:
    for tools in (deque([pgml.pydantic_function_tool(Seed)]), None, pgml.NOT_GIVEN, openai.omit):
        engine.expect(answer("hi"))
        assert (await face.parse(**ASKED, tools=tools)).choices[0].message.content == "hi"
