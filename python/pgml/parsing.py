"""Structured output: what a model makes, read into pydantic models, as the openai package does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

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

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pgml.types import NotGiven

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
    """Say a pydantic model as a tool, as the openai package's function of this name does.

    Args:
        model: A pydantic model: the arguments of the tool.
        name: The tool's name. Default None: that of the model.
        description: What the tool does. Default None: the model's docstring.

    """
    function = {
        "name": name or model.__name__,
        "strict": True,
        "parameters": _schema("model", model),
    }
    if description or model.__doc__:
        function["description"] = description or model.__doc__
    return {"type": "function", "function": PydanticFunction(function, model)}


def schema_format(form: Any) -> Any:
    """Say a pydantic model as OpenAI's ``response_format``; what is no class stays as it is."""
    if not isinstance(form, type):
        return form
    model = cast("type[Any]", form)
    schema = {"name": model.__name__, "strict": True, "schema": _schema("response_format", model)}
    return {"type": "json_schema", "json_schema": schema}


def functions_of(tools: Iterable[Mapping[str, Any]] | NotGiven | None) -> dict[str, Any]:
    """Return the functions of tools, by their names."""
    return {tool["function"]["name"]: tool["function"] for tool in tools or ()}


def read(
    completion: ChatCompletion, form: Any, functions: Mapping[str, Any]
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
            call.function.parsed_arguments = parsed_arguments(call.function, functions)
    return result


def parsed_content(message: Mapping[str, Any], form: Any) -> Any:
    """Read a message's content, if it is to be read and there is any."""
    if not isinstance(form, type) or not message["content"] or message.get("refusal"):
        return None
    return cast("type[Any]", form).model_validate_json(message["content"])


def parsed_arguments(made: Mapping[str, Any], functions: Mapping[str, Any]) -> Any:
    """Read a call's arguments, if its tool has a model or is strict."""
    function = functions.get(made["name"], {})
    # The openai package's own pydantic_function_tool has a model, too.
    model = getattr(function, "model", None)
    if model is not None:
        return model.model_validate_json(made["arguments"])
    return json.loads(made["arguments"]) if function.get("strict") else None


def listed(tools: Any) -> Any:
    """Make a list of tools that can be gone through once only: they are needed twice."""
    return list(tools) if is_given(tools) and tools is not None else tools


def _schema(argument: str, model: type[Any]) -> Any:
    if not hasattr(model, "model_json_schema"):
        raise TypeError(f"{argument}: must be a pydantic model, not {model!r}")
    return model.model_json_schema()
