"""Types for what goes into a completion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypedDict

Message = Mapping[str, Any]
"""A message: ``role`` and ``content``, and what else a role needs."""

Model = str | Mapping[str, Any]
"""A model's name, or an object with the key ``model`` and further ones such as ``revision``."""


class StreamOptions(TypedDict, total=False):
    """OpenAI's ``stream_options``."""

    include_usage: bool


class NotGiven:
    """The class of ``NOT_GIVEN``, which an argument has as long as nobody gives it.

    The openai package has two such classes, ``NotGiven`` and ``Omit``. Their values, and this one,
    may stand for any parameter that is to be left out.
    """

    def __bool__(self) -> Literal[False]:
        """Be false, as the openai package's are."""
        return False

    def __repr__(self) -> str:
        """Return the name of the value."""
        return "NOT_GIVEN"


NOT_GIVEN = NotGiven()


class Timeout:
    """The openai package's ``Timeout``, of which pgml uses ``read``: the longest silence.

    Args:
        timeout: Seconds, or None for no limit, for each of the others that is not given.
        connect: Kept for the openai package's sake: use ``connect_timeout`` of the client.
        read: Seconds that an answer may be silent.
        write: Kept for the openai package's sake.
        pool: Kept for the openai package's sake: use ``acquire_timeout`` of the client.

    """

    def __init__(
        self,
        timeout: float | NotGiven | None = NOT_GIVEN,
        *,
        connect: float | NotGiven | None = NOT_GIVEN,
        read: float | NotGiven | None = NOT_GIVEN,
        write: float | NotGiven | None = NOT_GIVEN,
        pool: float | NotGiven | None = NOT_GIVEN,
    ) -> None:
        def chosen(own: float | NotGiven | None) -> float | None:
            value = timeout if isinstance(own, NotGiven) else own
            if isinstance(value, NotGiven):
                raise ValueError("timeout: is required, unless all four others are given")
            return value

        self.connect = chosen(connect)
        self.read = chosen(read)
        self.write = chosen(write)
        self.pool = chosen(pool)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timeout) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __repr__(self) -> str:
        return f"Timeout({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class TimeoutLike(Protocol):
    """httpx's ``Timeout``, the openai package's, or pgml's."""

    connect: float | None
    read: float | None


class CommonParameters(TypedDict, total=False):
    """OpenAI's further request parameters that both ``create`` and ``parse`` take."""

    max_completion_tokens: int | NotGiven | None
    top_p: float | NotGiven | None
    stop: str | Sequence[str] | NotGiven | None
    seed: int | NotGiven | None
    frequency_penalty: float | NotGiven | None
    presence_penalty: float | NotGiven | None
    logit_bias: Mapping[str, int] | NotGiven | None
    logprobs: bool | NotGiven | None
    top_logprobs: int | NotGiven | None
    tools: Iterable[Mapping[str, Any]] | NotGiven | None
    tool_choice: Literal["none", "auto", "required"] | Mapping[str, Any] | NotGiven | None
    parallel_tool_calls: bool | NotGiven | None
    stream_options: StreamOptions | NotGiven | None
    reasoning_effort: str | NotGiven | None
    verbosity: Literal["low", "medium", "high"] | NotGiven | None
    user: str | NotGiven | None
    metadata: Mapping[str, str] | NotGiven | None
    store: bool | NotGiven | None
    service_tier: str | NotGiven | None
    safety_identifier: str | NotGiven | None
    prompt_cache_key: str | NotGiven | None
    prompt_cache_options: Mapping[str, Any] | NotGiven | None
    prompt_cache_retention: str | NotGiven | None
    prediction: Mapping[str, Any] | NotGiven | None
    # Accepted, to be refused with the reason.
    audio: Mapping[str, Any] | NotGiven | None
    function_call: str | Mapping[str, Any] | NotGiven | None
    functions: Iterable[Mapping[str, Any]] | NotGiven | None
    modalities: Sequence[str] | NotGiven | None
    moderation: Mapping[str, Any] | NotGiven | None
    web_search_options: Mapping[str, Any] | NotGiven | None
    extra_headers: Mapping[str, str] | NotGiven | None
    extra_query: Mapping[str, object] | NotGiven | None
    extra_body: Mapping[str, Any] | NotGiven | None
    """Parameters that an engine has and OpenAI has not: ``top_k``, ``min_p``, ``grammar``, …"""


class Parameters(CommonParameters, total=False):
    """OpenAI's further request parameters, as its API reference describes them."""

    response_format: Mapping[str, Any] | NotGiven | None


class ParseParameters(CommonParameters, total=False):
    """What ``parse`` takes besides the model, the messages and the form of the answer."""

    max_tokens: int | NotGiven | None
    temperature: float | NotGiven | None
    n: int | NotGiven | None
    chat_template: str | NotGiven | None
    timeout: float | TimeoutLike | NotGiven | None
