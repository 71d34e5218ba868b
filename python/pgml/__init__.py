"""Chat completions from your own Postgres: a drop-in replacement for OpenAI's endpoint.

>>> import pgml
>>> client = pgml.OpenSourceAI()
"""

import pgml._interpreter  # noqa: F401 - it checks  # pyright: ignore  # isort: split
from pgml._pgml import AsyncChatCompletionStream, ChatCompletionStream, __version__
from pgml.client import AsyncOpenSourceAI, OpenSourceAI
from pgml.errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ContentFilterFinishReasonError,
    InternalServerError,
    LengthFinishReasonError,
    NotFoundError,
    OpenAIError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)
from pgml.objects import ChatCompletion, ChatCompletionChunk
from pgml.parsing import pydantic_function_tool
from pgml.types import NOT_GIVEN, NotGiven, Timeout

__all__ = [
    "NOT_GIVEN",
    "APIConnectionError",
    "APIError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncChatCompletionStream",
    "AsyncOpenSourceAI",
    "AuthenticationError",
    "BadRequestError",
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatCompletionStream",
    "ConflictError",
    "ContentFilterFinishReasonError",
    "InternalServerError",
    "LengthFinishReasonError",
    "NotFoundError",
    "NotGiven",
    "OpenAIError",
    "OpenSourceAI",
    "PermissionDeniedError",
    "RateLimitError",
    "Timeout",
    "UnprocessableEntityError",
    "__version__",
    "pydantic_function_tool",
]
