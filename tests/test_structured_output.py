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


def test_json_schema(client: pgml.OpenSourceAI, model: str) -> None:
    asked: dict[str, Any] = {"response_format": schema_format(Fruit)}
    completion = client.chat_completions_create(model, FRUITS, 100, 0, **asked)
    Fruit.model_validate_json(said(completion))
    assert list(json.loads(said(completion))) == ["zest", "name", "amount"]
    assert completion.choices[0].finish_reason == "stop"
    stream = client.chat_completions_create_stream(model, FRUITS, 100, 0, **asked)
    text = "".join(piece.choices[0].delta.content or "" for piece in stream)
    assert list(Fruit.model_validate_json(text).model_dump()) == ["zest", "name", "amount"]


@pytest.mark.parametrize("form", [{"type": "json_object"}, schema_format(Fruit)], ids=str)
def test_a_form_under_a_template(
    client: pgml.OpenSourceAI, model: str, form: dict[str, Any]
) -> None:
    """White space fits every schema, and may be what the model ends with: here it is cut off."""
    asked: dict[str, Any] = {"chat_template": TEMPLATE, "response_format": form}
    completion = client.chat_completions_create(model, FRUITS, 24, 0, **asked)
    stream = client.chat_completions_create_stream(model, FRUITS, 24, 0, **asked)
    streamed = "".join(piece.choices[0].delta.content or "" for piece in stream)
    for text in (said(completion), streamed):
        begun = pydantic_core.from_json(text, allow_partial="trailing-strings")
        assert type(begun) is dict
        if form["type"] == "json_schema":
            assert list(begun) == ["zest", "name", "amount"][: len(begun)]
            assert len(begun["zest"]) <= 8


def test_text_is_a_format(client: pgml.OpenSourceAI, model: str) -> None:
    plain = client.chat_completions_create(model, FRUITS, 5, 0)
    text = client.chat_completions_create(model, FRUITS, 5, 0, response_format={"type": "text"})
    assert said(text) == said(plain)
