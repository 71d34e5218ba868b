"""What a completion returns: dicts that also answer attributes.

They are real dicts: they print, compare, pickle and go through ``json.dumps`` as such. What is
inside them stays a plain dict or list until an attribute is asked for.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal, TypeVar, cast

_Self = TypeVar("_Self", bound="Object")


class Object(dict[str, Any]):
    """A dict whose keys can also be read as attributes, all the way down."""

    __slots__ = ()

    # The classes of the objects inside, by key, and the keys that OpenAI has but may leave out.
    _classes: ClassVar[dict[str, type[Object]]] = {}
    _optional: ClassVar[frozenset[str]] = frozenset()
    # Keys by a second name, for engines that differ in the first.
    _aliases: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls) -> None:
        """Make properties of the keys that are declared: Python finds them several times faster."""
        super().__init_subclass__()
        declared = {name for base in cls.__mro__ for name in getattr(base, "__annotations__", ())}
        # One that is inherited is made anew, for what is inside it may be of another class here.
        for name in {*cls.__annotations__, *cls._classes} & declared:
            if not name.startswith("_"):
                setattr(cls, name, _property(name, cls._classes.get(name, Object)))

    def __getattr__(self, name: str) -> Any:
        """Return the value of a key, an object inside as an object that answers attributes too."""
        return _read(self, name, self._classes.get(name, Object))

    def _missing(self, name: str) -> Any:
        """Return what an attribute is that there is no key for."""
        if self._aliases.get(name) in self:
            return getattr(self, self._aliases[name])
        if name in self._optional:
            return None
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a key."""
        self[name] = value

    def __delattr__(self, name: str) -> None:
        """Remove a key."""
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}") from None

    def __dir__(self) -> list[str]:
        """List the keys among the attributes."""
        return [*super().__dir__(), *self]

    def copy(self: _Self) -> _Self:
        """Return a shallow copy, of the same class."""
        return type(self)(self)

    def to_dict(self, *, exclude_none: bool = False, **_options: Any) -> dict[str, Any]:
        """Return a deep copy made of plain dicts and lists.

        Args:
            exclude_none: Whether to leave out what is None. Default False.
            **_options: Pydantic's other options, which make no difference to a dict.

        """
        plain: dict[str, Any] = _plain(self, exclude_none)
        return plain

    def to_json(
        self, *, indent: int | None = 2, exclude_none: bool = False, **_options: Any
    ) -> str:
        """Return the object as JSON.

        Args:
            indent: Spaces for each level, or None for one line. Default 2.
            exclude_none: Whether to leave out what is None. Default False.
            **_options: Pydantic's other options, which make no difference to a dict.

        """
        return json.dumps(_plain(self, exclude_none), indent=indent, ensure_ascii=False)

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Return what ``to_dict`` returns, under pydantic's name for it."""
        return self.to_dict(**options)

    def model_dump_json(self, *, indent: int | None = None, **options: Any) -> str:
        """Return what ``to_json`` returns, under pydantic's name for it and in one line."""
        return self.to_json(indent=indent, **options)


def _read(self: Object, name: str, cls: type[Object]) -> Any:
    try:
        value: Any = self[name]
    except KeyError:
        return self._missing(name)  # pyright: ignore[reportPrivateUsage]
    if type(value) is dict:
        # Wrapped values replace the plain ones, so that both ways in lead to the same object.
        value = self[name] = cls(cast("dict[str, Any]", value))
    elif type(value) is list:
        _wrap_items(cast("list[object]", value), cls)
    return cast("Any", value)


def _wrap_items(items: list[object], cls: type[Object]) -> None:
    """Make the plain dicts in a list answer attributes; lists stay the lists that they are."""
    for index, item in enumerate(items):
        if type(item) is dict:
            items[index] = cls(cast("dict[str, Any]", item))
        elif type(item) is list:
            _wrap_items(cast("list[object]", item), cls)


def _property(name: str, cls: type[Object]) -> property:
    def read(self: Object) -> Any:
        return _read(self, name, cls)

    # `__setattr__` and `__delattr__` come first: the second is there for those who look.
    def write(self: Object, value: Any) -> None:
        self[name] = value

    return property(read, write)


def _plain(value: Any, exclude_none: bool) -> Any:
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {
            key: _plain(item, exclude_none)
            for key, item in items
            if not (exclude_none and item is None)
        }
    if isinstance(value, list):
        return [_plain(item, exclude_none) for item in cast("list[object]", value)]
    # What `parse` read: a pydantic model.
    dump = getattr(value, "model_dump", None)
    return value if dump is None else dump(exclude_none=exclude_none)


class PromptTokensDetails(Object):
    """Tokens of the prompt, by kind, where the engine tells."""

    __slots__ = ()
    _optional = frozenset(
        {"audio_tokens", "cached_tokens", "cache_write_tokens", "image_tokens", "text_tokens"}
    )

    cached_tokens: int | None


class CompletionTokensDetails(Object):
    """Tokens of the choices, by kind, where the engine tells."""

    __slots__ = ()
    _optional = frozenset(
        {
            "accepted_prediction_tokens",
            "audio_tokens",
            "reasoning_tokens",
            "rejected_prediction_tokens",
            "text_tokens",
        }
    )

    reasoning_tokens: int | None


class Usage(Object):
    """Tokens counted: those of the prompt once, those of all choices together."""

    __slots__ = ()
    _classes: ClassVar[dict[str, type[Object]]] = {
        "prompt_tokens_details": PromptTokensDetails,
        "completion_tokens_details": CompletionTokensDetails,
    }
    _optional = frozenset(_classes)

    completion_tokens: int
    prompt_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | None
    completion_tokens_details: CompletionTokensDetails | None


class Function(Object):
    """The function of a tool call: its name, and its arguments as JSON."""

    __slots__ = ()
    _optional = frozenset({"name", "arguments"})

    name: str
    arguments: str


class ToolCall(Object):
    """A call of a tool that the model asks for; in a delta, a piece of the call at ``index``."""

    __slots__ = ()
    _classes: ClassVar[dict[str, type[Object]]] = {"function": Function}
    _optional = frozenset({"id", "type", "function"})

    index: int
    id: str
    type: Literal["function"]
    function: Function


_MESSAGE_CLASSES: dict[str, type[Object]] = {"tool_calls": ToolCall, "function_call": Function}
_MESSAGE_OPTIONAL = frozenset(
    {"content", "refusal", "tool_calls", "function_call", "annotations", "audio"}
)
# vLLM says the one, llama.cpp the other. As in the openai package there is neither where the engine
# sends neither.
_REASONING = {"reasoning": "reasoning_content", "reasoning_content": "reasoning"}


class ChatCompletionMessage(Object):
    """A message that the model made."""

    __slots__ = ()
    _classes = _MESSAGE_CLASSES
    _optional = _MESSAGE_OPTIONAL
    _aliases = _REASONING

    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    reasoning: str | None
    reasoning_content: str | None
    tool_calls: list[ToolCall] | None


class ChoiceDelta(Object):
    """What a chunk adds to the message of a choice."""

    __slots__ = ()
    _classes = _MESSAGE_CLASSES
    _optional = _MESSAGE_OPTIONAL | {"role"}
    _aliases = _REASONING

    role: Literal["assistant"] | None
    content: str | None
    refusal: str | None
    reasoning: str | None
    reasoning_content: str | None
    tool_calls: list[ToolCall] | None


FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class TopLogprob(Object):
    """A token that the model could have said, and the logarithm of its probability."""

    __slots__ = ()
    _optional = frozenset({"bytes"})

    token: str
    bytes: list[int] | None
    logprob: float


class TokenLogprob(TopLogprob):
    """A token that the model said, with the likeliest ones at its place."""

    __slots__ = ()
    _classes: ClassVar[dict[str, type[Object]]] = {"top_logprobs": TopLogprob}

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Object):
    """Log probabilities of the tokens of a choice, or of a chunk's part of it."""

    __slots__ = ()
    _classes: ClassVar[dict[str, type[Object]]] = {"content": TokenLogprob, "refusal": TokenLogprob}
    _optional = frozenset({"content", "refusal"})

    content: list[TokenLogprob] | None
    refusal: list[TokenLogprob] | None


class Choice(Object):
    """One of the n answers of a completion."""

    __slots__ = ()
    _classes: ClassVar[dict[str, type[Object]]] = {
        "message": ChatCompletionMessage,
        "logprobs": ChoiceLogprobs,
    }
    _optional = frozenset({"logprobs"})

    index: int
    message: ChatCompletionMessage
    finish_reason: FinishReason
    logprobs: ChoiceLogprobs | None


class ChunkChoice(Object):
    """What a chunk says of one choice."""

    __slots__ = ()
    _classes: ClassVar[dict[str, type[Object]]] = {"delta": ChoiceDelta, "logprobs": ChoiceLogprobs}
    _optional = frozenset({"logprobs", "finish_reason"})

    index: int
    delta: ChoiceDelta
    finish_reason: FinishReason | None
    logprobs: ChoiceLogprobs | None


class ChatCompletion(Object):
    """OpenAI's ``chat.completion`` object.

    Against a PostgresML server, which tells neither, ``usage`` and ``finish_reason`` are None.
    """

    __slots__ = ()
    _classes: ClassVar[dict[str, type[Object]]] = {"choices": Choice, "usage": Usage}
    _optional = frozenset({"usage", "system_fingerprint", "service_tier", "moderation", "metadata"})

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[Choice]
    usage: Usage | None


class ChatCompletionChunk(Object):
    """OpenAI's ``chat.completion.chunk`` object: a piece of a streamed completion."""

    __slots__ = ()
    _classes: ClassVar[dict[str, type[Object]]] = {"choices": ChunkChoice, "usage": Usage}
    _optional = frozenset(
        {"usage", "system_fingerprint", "service_tier", "moderation", "obfuscation"}
    )

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[ChunkChoice]
    usage: Usage | None


class Model(Object):
    """OpenAI's ``model`` object: a name that can be called."""

    __slots__ = ()
    _optional = frozenset({"shutdown_date"})

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(list[Model]):
    """The models that can be called: a list, which is also its own ``data``."""

    __slots__ = ()
    object: ClassVar[Literal["list"]] = "list"

    @property
    def data(self) -> list[Model]:
        """The models, under the name that OpenAI's page of them has."""
        return self
