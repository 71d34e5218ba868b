"""Answers that have to be JSON, or fit a schema."""

from __future__ import annotations

import json
from typing import Any, Literal

import pgml
import pydantic
import pydantic_core
import pytest
from asked import FRUITS, TEMPLATE, honours, said


class Fruit(pydantic.BaseModel, strict=True, extra="forbid"):
    # Not in the order of the alphabet, as in which jsonb would put them.
    zest: str = pydantic.Field(max_length=8)
    name: Literal["apple", "banana"]
    amount: int = pydantic.Field(ge=0, le=9)


def schema_format(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    schema = {"name": model.__name__, "strict": True, "schema": model.model_json_schema()}
    return {"type": "json_schema", "json_schema": schema}


@honours("response_format")
def test_json_object(client: pgml.OpenSourceAI, model: str) -> None:
    asked = [{"role": "user", "content": 'Answer with the JSON object {"ok": true}.'}]
    completion = client.chat_completions_create(
        model, asked, 100, 0, response_format={"type": "json_object"}
    )
    assert completion.choices[0].finish_reason == "stop"
    assert type(json.loads(said(completion))) is dict


def test_json_object_under_a_template(client: pgml.OpenSourceAI, model: str) -> None:
    """No model has to come to the object's end, but what it says is the beginning of one."""
    completion = client.chat_completions_create(
        model, FRUITS, 20, 0, 1, TEMPLATE, response_format={"type": "json_object"}
    )
    begun = pydantic_core.from_json(said(completion), allow_partial="trailing-strings")
    assert type(begun) is dict


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_json_schema(client: pgml.OpenSourceAI, model: str, template: str | None) -> None:
    asked: dict[str, Any] = {
        "response_format": schema_format(Fruit),
        "chat_template": template,
    }
    # More than the longest text that fits the schema, white space and all, has tokens.
    completion = client.chat_completions_create(model, FRUITS, 1000, 0, **asked)
    Fruit.model_validate_json(said(completion))
    assert list(json.loads(said(completion))) == ["zest", "name", "amount"]
    assert completion.choices[0].finish_reason == "stop"
    stream = client.chat_completions_create_stream(model, FRUITS, 1000, 0, **asked)
    text = "".join(piece.choices[0].delta.content or "" for piece in stream)
    assert list(Fruit.model_validate_json(text).model_dump()) == ["zest", "name", "amount"]


def test_text_is_a_format(client: pgml.OpenSourceAI, model: str) -> None:
    plain = client.chat_completions_create(model, FRUITS, 5, 0)
    text = client.chat_completions_create(model, FRUITS, 5, 0, response_format={"type": "text"})
    assert said(text) == said(plain)
