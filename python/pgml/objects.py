"""What a completion returns: OpenAI's objects, as dicts that also answer attributes."""

from __future__ import annotations

from typing import ClassVar, Literal

from pgml.base import Object

__all__ = ["Object"]


class PromptTokensDetails(Object):
    """Tokens of the prompt, by kind, where the engine tells."""

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = (
        "audio_tokens",
        "cache_write_tokens",
        "cached_tokens",
        "image_tokens",
        "text_tokens",
    )
    _optional = frozenset(
        {"audio_tokens", "cached_tokens", "cache_write_tokens", "image_tokens", "text_tokens"}
    )

    cached_tokens: int | None


class CompletionTokensDetails(Object):
    """Tokens of the choices, by kind, where the engine tells."""

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = (
        "accepted_prediction_tokens",
        "audio_tokens",
        "reasoning_tokens",
        "rejected_prediction_tokens",
        "text_tokens",
    )
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
    _fields: ClassVar[tuple[str, ...]] = (
        "completion_tokens",
        "prompt_tokens",
        "total_tokens",
        "completion_tokens_details",
        "prompt_tokens_details",
    )
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
    _fields: ClassVar[tuple[str, ...]] = (
        "arguments",
        "name",
    )
    _optional = frozenset({"name", "arguments"})

    name: str
    arguments: str


class ToolCall(Object):
    """A call of a tool that the model asks for."""

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = (
        "id",
        "function",
        "type",
    )
    _classes: ClassVar[dict[str, type[Object]]] = {"function": Function}
    _optional = frozenset({"id", "type", "function"})

    id: str
    type: Literal["function"]
    function: Function


class ChoiceDeltaToolCall(ToolCall):
    """In a delta, a piece of the call at ``index``."""

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = ("index", *ToolCall._fields)

    index: int


_MESSAGE_OPTIONAL = frozenset(
    {"content", "refusal", "tool_calls", "function_call", "annotations", "audio"}
)
# vLLM says the one, llama.cpp the other. As in the openai package there is neither where the engine
# sends neither.
_REASONING = {"reasoning": "reasoning_content", "reasoning_content": "reasoning"}


class ChatCompletionMessage(Object):
    """A message that the model made."""

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = (
        "content",
        "refusal",
        "role",
        "annotations",
        "audio",
        "function_call",
        "tool_calls",
    )
    _classes: ClassVar[dict[str, type[Object]]] = {
        "tool_calls": ToolCall,
        "function_call": Function,
    }
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
    _fields: ClassVar[tuple[str, ...]] = (
        "audio",
        "content",
        "function_call",
        "refusal",
        "role",
        "tool_calls",
    )
    _classes: ClassVar[dict[str, type[Object]]] = {
        "tool_calls": ChoiceDeltaToolCall,
        "function_call": Function,
    }
    _optional = _MESSAGE_OPTIONAL | {"role"}
    _aliases = _REASONING

    role: Literal["assistant"] | None
    content: str | None
    refusal: str | None
    reasoning: str | None
    reasoning_content: str | None
    tool_calls: list[ChoiceDeltaToolCall] | None


FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class TopLogprob(Object):
    """A token that the model could have said, and the logarithm of its probability."""

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = (
        "token",
        "bytes",
        "logprob",
    )
    _optional = frozenset({"bytes"})

    token: str
    bytes: list[int] | None
    logprob: float


class TokenLogprob(TopLogprob):
    """A token that the model said, with the likeliest ones at its place."""

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = (*TopLogprob._fields, "top_logprobs")
    _classes: ClassVar[dict[str, type[Object]]] = {"top_logprobs": TopLogprob}

    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Object):
    """Log probabilities of the tokens of a choice, or of a chunk's part of it."""

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = (
        "content",
        "refusal",
    )
    _classes: ClassVar[dict[str, type[Object]]] = {"content": TokenLogprob, "refusal": TokenLogprob}
    _optional = frozenset({"content", "refusal"})

    content: list[TokenLogprob] | None
    refusal: list[TokenLogprob] | None


class Choice(Object):
    """One of the n answers of a completion."""

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = (
        "finish_reason",
        "index",
        "logprobs",
        "message",
    )
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
    _fields: ClassVar[tuple[str, ...]] = (
        "delta",
        "index",
        "finish_reason",
        "logprobs",
    )
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
    _fields: ClassVar[tuple[str, ...]] = (
        "id",
        "choices",
        "created",
        "model",
        "object",
        "metadata",
        "moderation",
        "service_tier",
        "system_fingerprint",
        "usage",
    )
    _classes: ClassVar[dict[str, type[Object]]] = {"choices": Choice, "usage": Usage}
    _optional = frozenset({"usage", "system_fingerprint", "service_tier", "moderation", "metadata"})

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str | None
    choices: list[Choice]
    usage: Usage | None

    @property
    def _request_id(self) -> str | None:
        """The id of the request, by which the logs of database and engine call it."""
        return self.get("id")


class ChatCompletionChunk(Object):
    """OpenAI's ``chat.completion.chunk`` object: a piece of a streamed completion."""

    __slots__ = ()
    _fields: ClassVar[tuple[str, ...]] = (
        "id",
        "choices",
        "created",
        "model",
        "object",
        "moderation",
        "obfuscation",
        "service_tier",
        "system_fingerprint",
        "usage",
    )
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
    _fields: ClassVar[tuple[str, ...]] = (
        "id",
        "created",
        "object",
        "owned_by",
        "shutdown_date",
    )
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
