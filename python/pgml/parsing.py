"""Structured output: what a model makes, read into pydantic models, as the openai package does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Generic, TypeVar, cast

from pgml.errors import ContentFilterFinishReasonError, LengthFinishReasonError
from pgml.objects import (
    ChatCompletion,
    ChatCompletionMessage,
    Choice,
    Function,
    Object,
    ToolCall,
    Usage,
)
from pgml.request import is_given
from pgml.structured import Form, adapter_of

T = TypeVar("T")
_Object = TypeVar("_Object", bound=Object)

# What is raised for a choice that is not whole, by its finish_reason; what ended it; what helps.
UNFINISHED: dict[
    str, tuple[type[LengthFinishReasonError | ContentFilterFinishReasonError], str, str]
] = {
    "length": (
        LengthFinishReasonError,
        "its limit of tokens",
        "Raise max_tokens, or leave it out.",
    ),
    "content_filter": (
        ContentFilterFinishReasonError,
        "the engine's content filter",
        "The completion, as far as it came, is in the exception's attribute of that name.",
    ),
}

# What is read takes the place of what it was read from: the types of some keys get narrower, which
# no type checker allows for what can be set.


class ParsedFunction(Function):
    """The function of a tool call, with its arguments read."""

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = (*Function._fields, "parsed_arguments")
    _optional = Function._optional | {"parsed_arguments"}

    parsed_arguments: Any


class ParsedToolCall(ToolCall):
    """A call of a tool, its arguments read."""

    __slots__ = ()
    _classes: ClassVar[dict[str, type[Object]]] = {"function": ParsedFunction}

    function: ParsedFunction  # pyright: ignore[reportIncompatibleVariableOverride]


class ParsedChatCompletionMessage(ChatCompletionMessage, Generic[T]):
    """A message with its content read into the class that was asked for, as ``parsed``."""

    __slots__ = ()
    _classes: ClassVar[dict[str, type[Object]]] = {"tool_calls": ParsedToolCall}
    _fields: ClassVar[tuple[str, ...]] = (*ChatCompletionMessage._fields, "parsed")
    _optional = ChatCompletionMessage._optional | {"parsed"}

    parsed: T | None
    tool_calls: list[ParsedToolCall] | None  # type: ignore[assignment]


class ParsedChoice(Choice, Generic[T]):
    """One of the n answers, its message read."""

    __slots__ = ()
    _classes: ClassVar[dict[str, type[Object]]] = {
        **Choice._classes,
        "message": ParsedChatCompletionMessage,
    }

    message: ParsedChatCompletionMessage[T]  # pyright: ignore[reportIncompatibleVariableOverride]


class ParsedChatCompletion(ChatCompletion, Generic[T]):
    """A completion whose messages have been read into the class that was asked for."""

    __slots__ = ()
    _classes: ClassVar[dict[str, type[Object]]] = {"choices": ParsedChoice, "usage": Usage}

    choices: list[ParsedChoice[T]]  # type: ignore[assignment]


class PydanticFunction(dict[str, Any]):
    """The function of a tool, and the model that its arguments are read into."""

    def __init__(self, function: Mapping[str, Any], model: type[Any]) -> None:
        super().__init__(function)
        self.model = model


def pydantic_function_tool(
    model: type[Any], *, name: str | None = None, description: str | None = None
) -> dict[str, Any]:
    """Describe a pydantic model as a tool, as the openai package's function of this name does.

    Args:
        model: A pydantic model or dataclass: the arguments of the tool.
        name: The tool's name. Default None: that of the model.
        description: What the tool does. Default None: the model's docstring.

    Raises:
        TypeError: It is neither.

    """
    if not hasattr(model, "__pydantic_core_schema__"):
        raise TypeError(f"model: must be a pydantic model or dataclass, not {model!r}")
    form = Form("model", model)
    function = {"name": name or model.__name__, "strict": True, "parameters": form.schema}
    if description is None:
        description = model.__doc__
    if description is not None:
        function["description"] = description
    return {"type": "function", "function": PydanticFunction(function, model)}


def functions_of(tools: Any) -> dict[str, Any]:
    """Return the functions of tools, by their names.

    Tools of another shape are left out: the database refuses them, and says where they are wrong.
    """
    functions: dict[str, Any] = {}
    for tool in cast("list[object]", tools if isinstance(tools, list) else []):
        function: Any = _get(tool, "function")
        name: Any = _get(function, "name")
        if isinstance(name, str):
            functions[name] = function
    return functions


def _get(mapping: Any, key: str) -> Any:
    return cast("Mapping[str, Any]", mapping).get(key) if isinstance(mapping, Mapping) else None


def read(
    completion: ChatCompletion, form: Form | None, functions: Mapping[str, Any]
) -> ParsedChatCompletion[Any]:
    """Read what each choice says: its content into ``form``, and its tool calls' arguments."""
    result: ParsedChatCompletion[Any] = ParsedChatCompletion(completion)
    for choice in result.choices:
        if choice.finish_reason in UNFINISHED:
            cls, by, hint = UNFINISHED[choice.finish_reason]
            error = cls(f"choice {choice.index} was cut off by {by} before it was whole", hint=hint)
            error.completion = completion
            raise error
        message = choice.message
        message.parsed = parsed_content(message, form)
        for call in message.tool_calls or []:
            # A custom tool's call has no function.
            if call.get("function") is not None:
                call.function.parsed_arguments = parsed_arguments(call.function, functions)
    return result


def parsed_content(message: Mapping[str, Any], form: Form | None) -> Any:
    """Read a message's content, if it is to be read and there is any."""
    content = message.get("content")
    if form is None or not content or message.get("refusal"):
        return None
    return form.read(content)


def parsed_arguments(made: Mapping[str, Any], functions: Mapping[str, Any]) -> Any:
    """Read a call's arguments, if its tool has a model or is strict."""
    function = functions.get(made.get("name") or "", {})
    arguments = made.get("arguments") or ""
    # The openai package's own pydantic_function_tool has a model, too.
    model = getattr(function, "model", None)
    if model is not None:
        return adapter_of(model).validate_json(arguments)
    return json.loads(arguments) if function.get("strict") else None


def listed(tools: Any) -> Any:
    """Make a list of tools that can be gone through once only: they are needed twice."""
    if not is_given(tools) or isinstance(tools, (str, bytes, Mapping)):
        return cast("Any", tools)
    return list(cast("Any", tools)) if isinstance(tools, Iterable) else tools
