"""Types for what goes into a completion: importable, and of use to type checkers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

Message = Mapping[str, Any]
"""A message: ``role`` and ``content``, and what else a role needs."""

Model = str | Mapping[str, Any]
"""A model's name, or an object with the key ``model`` and further ones such as ``revision``."""


class StreamOptions(TypedDict, total=False):
    """OpenAI's ``stream_options``."""

    include_usage: bool


class Parameters(TypedDict, total=False):
    """OpenAI's further request parameters, as its API reference describes them."""

    max_completion_tokens: int | None
    top_p: float | None
    stop: str | Sequence[str] | None
    seed: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logit_bias: Mapping[str, int] | None
    logprobs: bool | None
    top_logprobs: int | None
    response_format: Mapping[str, Any] | None
    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    stream_options: StreamOptions | None
    reasoning_effort: str | None
    verbosity: Literal["low", "medium", "high"] | None
    user: str | None
    metadata: Mapping[str, str] | None
    store: bool | None
    service_tier: str | None
    safety_identifier: str | None
    prompt_cache_key: str | None
    prompt_cache_options: Mapping[str, Any] | None
    prompt_cache_retention: str | None
    prediction: Mapping[str, Any] | None
    # Accepted, to be refused with the reason.
    audio: Mapping[str, Any] | None
    function_call: str | Mapping[str, Any] | None
    functions: Sequence[Mapping[str, Any]] | None
    modalities: Sequence[str] | None
    moderation: Mapping[str, Any] | None
    web_search_options: Mapping[str, Any] | None
    extra_body: Mapping[str, Any] | None
    """Parameters that an engine has and OpenAI has not: ``top_k``, ``min_p``, ``grammar``, …"""
