"""What tests of parameters ask, and which parameters they show to be in force."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from conftest import QUESTION

# Of the stand-in for an engine.
ASKED: dict[str, Any] = {"model": "scripted", "messages": QUESTION}
# No test waits for this: the engine that it is for never answers.
AT_ONCE = 0.05
FRUITS = [{"role": "user", "content": "Name three fruits."}]
WEATHER = [{"role": "user", "content": "What is the weather in Paris in celsius?"}]

# The model's own, said again: what goes through a text and not through messages.
TEMPLATE = """\
{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}<|im_start|>assistant
"""

_Test = TypeVar("_Test", bound=Callable[..., Any])


def honours(*names: str) -> Callable[[_Test], _Test]:
    """Say which parameters a test shows to be in force."""

    def mark(test: _Test) -> _Test:
        test.honours = names
        return test

    return mark


def honoured(*modules: ModuleType) -> set[str]:
    """Return what the tests of these modules show to be in force."""
    tests = (test for module in modules for test in vars(module).values())
    return {name for test in tests for name in getattr(test, "honours", ())}


def said(completion: Any, index: int = 0) -> str:
    return completion.choices[index].message.content
