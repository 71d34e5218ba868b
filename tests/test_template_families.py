"""The rules of the most used model families, as templates in our own words, rendered by ours and by
transformers' renderer: the text must be the same, or both refuse.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pgml
import pytest
from engine import Engine, answer
from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'Tells the "weather" <now> & later, in °C.',
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "number", "default": 1.5}},
            "required": ["city"],
        },
    },
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}

FAMILIES = {
    path.stem: path.read_text() for path in (Path(__file__).parent / "fixtures/templates").iterdir()
}

TALKS: dict[str, list[dict[str, Any]]] = {
    "a question": [{"role": "user", "content": "Hi, <b>you</b> & “me”?"}],
    "a system's message": [
        {"role": "system", "content": "  Be brief. "},
        {"role": "user", "content": "Hi"},
    ],
    "a talk": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": " Hello! "},
        {"role": "user", "content": "Bye 👋"},
    ],
    "a call": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ],
    "two questions": [{"role": "user", "content": "A"}, {"role": "user", "content": "B"}],
}


def theirs(template: str, messages: list[dict[str, Any]], tools: list[Any] | None) -> str | None:
    """What transformers makes of it; None where the template refuses."""
    try:
        (text,), _ = render_jinja_template(
            [messages],
            tools=tools,
            chat_template=template,
            add_generation_prompt=True,
            TOOL=TOOL,
        )
    except TemplateError:
        return None
    return str(text)


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tools", [None, [TOOL]], ids=["no tools", "tools"])
def test_the_text_is_that_of_transformers(
    client: pgml.OpenSourceAI, engine: Engine, family: str, talk: str, tools: list[Any] | None
) -> None:
    expected = theirs(FAMILIES[family], TALKS[talk], tools)
    arguments: dict[str, Any] = {
        "chat_template": FAMILIES[family],
        "extra_body": {"chat_template_kwargs": {"TOOL": TOOL}},
        **({"tools": tools} if tools else {}),
    }
    if expected is None:
        with pytest.raises(pgml.BadRequestError) as caught:
            client.chat_completions_create("scripted", TALKS[talk], **arguments)
        assert caught.value.param == "chat_template"
        return
    exchange = engine.expect(answer("ok"))
    client.chat_completions_create("scripted", TALKS[talk], **arguments)
    assert exchange.body["prompt"] == expected
