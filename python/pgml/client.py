"""``OpenSourceAI``: OpenAI's chat completions, from your own Postgres."""

from __future__ import annotations

import logging
import os
import sys
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeVar

from pgml._pgml import Client, find_database_url
from pgml.async_resources import AsyncBeta, AsyncChat, AsyncTextCompletions
from pgml.errors import APIConnectionError
from pgml.models import AsyncModels, Models
from pgml.request import DEFAULT_TEMPERATURE, Caller, is_given, request_body
from pgml.resources import Beta, Chat, TextCompletions
from pgml.types import NOT_GIVEN, NotGiven, TimeoutLike

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Unpack

    from pgml._pgml import AsyncChatCompletionStream, ChatCompletionStream
    from pgml.objects import ChatCompletion
    from pgml.types import Message, Model, Parameters

_Self = TypeVar("_Self", bound="_Base")
_log = logging.getLogger("pgml")
# The local instances that have been named in a warning.
_told: set[str] = set()


class _Base:
    """What the synchronous and the asynchronous client share: one database and its settings."""

    def __init__(
        self,
        database_url: str | None = None,
        *,
        timeout: float | TimeoutLike | None = 600.0,
        max_retries: int = 2,
        max_connections: int = 40,
        connect_timeout: float = 10.0,
        acquire_timeout: float = 60.0,
        streaming: Literal["push", "cursor"] = "push",
    ) -> None:
        client = Client(
            _resolve(database_url),
            max_connections=max_connections,
            connect_timeout=connect_timeout,
            acquire_timeout=acquire_timeout,
            streaming=streaming,
        )
        self._caller = Caller(client, timeout, max_retries)

    def __repr__(self) -> str:
        """Name the database, without the password."""
        return f"<{type(self).__name__} of {self._client.describe()}>"

    @property
    def _client(self) -> Client:
        return self._caller.client

    @property
    def timeout(self) -> float | TimeoutLike | None:
        """Seconds that a completion may send nothing, or None for no limit."""
        return self._caller.timeout

    @timeout.setter
    def timeout(self, timeout: float | TimeoutLike | None) -> None:
        self._caller.timeout = timeout

    @property
    def max_retries(self) -> int:
        """How often a completion is tried again."""
        return self._caller.max_retries

    @max_retries.setter
    def max_retries(self, max_retries: int) -> None:
        self._caller.max_retries = max_retries

    def with_options(
        self: _Self,
        *,
        timeout: float | TimeoutLike | NotGiven | None = NOT_GIVEN,
        max_retries: int | NotGiven | None = NOT_GIVEN,
    ) -> _Self:
        """Return a client with other settings, over the same connections.

        Args:
            timeout: Seconds, or None for no limit. Default: as it is.
            max_retries: A number, as in the constructor. Default, and None: as it is.

        """
        other = copy(self)
        # What hangs on this client, such as a patched `chat`, stays with it.
        for name in ("chat", "beta", "completions", "models"):
            vars(other).pop(name, None)
        other._caller = Caller(
            self._client,
            timeout if is_given(timeout) else self.timeout,
            max_retries if is_given(max_retries) and max_retries is not None else self.max_retries,
        )
        return other

    # The openai package has both names.
    copy = with_options

    def is_closed(self) -> bool:
        """Whether it has been closed."""
        return self._client.is_closed()


class OpenSourceAI(_Base):
    """Chat completions from the open models behind a Postgres database.

    Nothing is connected before the first completion, and connections are kept for the next. A
    client may be used from any number of threads, event loops and tasks, and over a fork.

    Args:
        database_url: ``postgresql://user:password@host:port/database``. Where it is None, the
            environment variable ``DATABASE_URL`` counts, then ``PGML_DATABASE_URL``, and then the
            local instance of ``pgml[local]``, which is started if it does not run.
        timeout: Seconds that a completion may send nothing, or None for no limit. Default 600, as
            in the openai package.
        max_retries: How often a completion is tried again after an error that may pass (no
            connection, an engine that is overloaded or fails), as long as nothing of it has come.
            Default 2, half a second and then a second apart, as in the openai package.
        max_connections: The most connections open at a time; each completion holds one until it
            ends. Default 40: a Postgres allows 100 by default, to all of its clients together.
        connect_timeout: Seconds that a connection attempt may take. Default 10.
        acquire_timeout: Seconds that a completion may wait for a connection while all are in use.
            Default 60.
        streaming: ``"push"``: the server sends each row as it is made. ``"cursor"``: rows are
            fetched, for poolers (pgcat, PgDog) that hold rows back. Default ``"push"``.

    Raises:
        APIConnectionError: There is no database URL and no local instance, or the URL is that of
            another kind of database, or not valid; the message says where it was set.
        ValueError: A setting is out of its range; the message names it.
        TypeError: A setting is of another type; the message names it.

    """

    @cached_property
    def chat(self) -> Chat:
        """The openai package's ``client.chat``."""
        return Chat(self._caller)

    @cached_property
    def beta(self) -> Beta:
        """The openai package's ``client.beta``: its ``chat``."""
        return Beta(self._caller)

    @cached_property
    def completions(self) -> TextCompletions:
        """The openai package's ``client.completions``, which says to use ``client.chat``."""
        return TextCompletions()

    @cached_property
    def models(self) -> Models:
        """The openai package's ``client.models``."""
        return Models(self._caller)

    def close(self) -> None:
        """Close the connections: idle ones at once, others when their completion ends.

        No completion can be made any more, by clients that ``with_options`` returned either.
        """
        self._client.close()

    def __enter__(self: _Self) -> _Self:
        """Return the client, which is closed when the block is left."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the client."""
        self.close()

    def chat_completions_create(
        self,
        model: Model,
        messages: Iterable[Message],
        max_tokens: int | None = None,
        temperature: float | None = DEFAULT_TEMPERATURE,
        n: int = 1,
        chat_template: str | None = None,
        *,
        timeout: float | TimeoutLike | NotGiven | None = NOT_GIVEN,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletion:
        """Create a chat completion, and wait for the whole of it.

        The GIL is released meanwhile, and Ctrl-C ends it, in the engine too.

        Args:
            model: The model's name, or an object with the key ``model`` and any of ``revision``,
                ``device_map``, ``torch_dtype``, ``token`` and others. Its ``token`` is sent to a
                PostgresML server only, which fetches models itself.
            messages: The conversation so far, each message a dict with ``role`` and ``content``.
            max_tokens: The most tokens to make. Default None: as many as the model will.
            temperature: From 0, the likeliest answer, to 2. Default 0.8, unless an administrator
                has set another for the engine. None: the engine's own.
            n: How many answers to make, from 1 to 128. Default 1.
            chat_template: A Jinja template for the messages, in place of the model's own. It gets
                ``messages``, ``add_generation_prompt``, ``bos_token`` and ``eos_token``.
            timeout: Seconds that it may send nothing, or None for no limit. Default: the client's.
            **parameters: OpenAI's further parameters, and ``extra_body`` for an engine's own.

        Returns:
            OpenAI's ``chat.completion`` object: a dict that also answers attributes.

        Raises:
            BadRequestError: A parameter is not as it must be; ``param`` names it.
            NotFoundError: No such model (the message names those there are), or the database has
                no pgml.
            PermissionDeniedError: The role may not use the model's engine.
            RateLimitError: The engine has more to do than it can.
            APIConnectionError: The database or the engine cannot be reached, or was lost.
            APITimeoutError: It took longer than it may.
            InternalServerError: The database or the engine failed.
            TypeError: A parameter holds something that is not valid JSON; the message says where.
            ValueError: A text or number in it cannot be said in JSON; the message says where.

        """
        body = request_body(model, messages, max_tokens, temperature, n, chat_template, parameters)
        seconds = self._caller.seconds(timeout)
        return self._client.completion(body, seconds, self.max_retries)

    async def chat_completions_create_async(
        self,
        model: Model,
        messages: Iterable[Message],
        max_tokens: int | None = None,
        temperature: float | None = DEFAULT_TEMPERATURE,
        n: int = 1,
        chat_template: str | None = None,
        *,
        timeout: float | TimeoutLike | NotGiven | None = NOT_GIVEN,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletion:
        """Create a chat completion without blocking the event loop.

        Cancelling the task ends the generation in the engine. Arguments, result and exceptions
        are those of ``chat_completions_create``.
        """
        body = request_body(model, messages, max_tokens, temperature, n, chat_template, parameters)
        seconds = self._caller.seconds(timeout)
        return await self._client.completion_async(body, seconds, self.max_retries)

    def chat_completions_create_stream(
        self,
        model: Model,
        messages: Iterable[Message],
        max_tokens: int | None = None,
        temperature: float | None = DEFAULT_TEMPERATURE,
        n: int = 1,
        chat_template: str | None = None,
        *,
        timeout: float | TimeoutLike | NotGiven | None = NOT_GIVEN,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletionStream:
        """Create a chat completion, and get its pieces as the model makes them.

        Returns, or raises, when the first piece or an error in its place is there. Arguments and
        exceptions are those of ``chat_completions_create``; the latter can also come half-way.

        Returns:
            An iterator over OpenAI's ``chat.completion.chunk`` objects, which is also a context
            manager and has ``close()``. Dropping it ends the generation.

        """
        body = request_body(model, messages, max_tokens, temperature, n, chat_template, parameters)
        seconds = self._caller.seconds(timeout)
        return self._client.stream(body, seconds, self.max_retries)

    async def chat_completions_create_stream_async(
        self,
        model: Model,
        messages: Iterable[Message],
        max_tokens: int | None = None,
        temperature: float | None = DEFAULT_TEMPERATURE,
        n: int = 1,
        chat_template: str | None = None,
        *,
        timeout: float | TimeoutLike | NotGiven | None = NOT_GIVEN,
        **parameters: Unpack[Parameters],
    ) -> AsyncChatCompletionStream:
        """Create a chat completion, and get its pieces without blocking the event loop.

        Arguments and exceptions are those of ``chat_completions_create``.

        Returns:
            An asynchronous iterator over OpenAI's ``chat.completion.chunk`` objects, which is also
            an asynchronous context manager and has ``aclose()``. Dropping it, and cancelling the
            task that waits for a piece, ends the generation.

        """
        body = request_body(model, messages, max_tokens, temperature, n, chat_template, parameters)
        seconds = self._caller.seconds(timeout)
        return await self._client.stream_async(body, seconds, self.max_retries)


class AsyncOpenSourceAI(_Base):
    """The openai package's ``AsyncOpenAI``, over Postgres: all calls are coroutines.

    Arguments and exceptions are those of ``OpenSourceAI``, whose ``…_async`` methods do the same.
    """

    @cached_property
    def chat(self) -> AsyncChat:
        """The openai package's ``client.chat``."""
        return AsyncChat(self._caller)

    @cached_property
    def beta(self) -> AsyncBeta:
        """The openai package's ``client.beta``: its ``chat``."""
        return AsyncBeta(self._caller)

    @cached_property
    def completions(self) -> AsyncTextCompletions:
        """The openai package's ``client.completions``, which says to use ``client.chat``."""
        return AsyncTextCompletions()

    @cached_property
    def models(self) -> AsyncModels:
        """The openai package's ``client.models``."""
        return AsyncModels(self._caller)

    async def close(self) -> None:
        """Close the connections; see ``OpenSourceAI.close``."""
        self._client.close()

    async def __aenter__(self: _Self) -> _Self:
        """Return the client, which is closed when the block is left."""
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Close the client."""
        await self.close()


def _resolve(database_url: str | None) -> str:
    """Choose the database: the argument, the environment, or the local instance."""
    url = find_database_url(database_url)
    if url:
        return url
    from pgml import local

    if os.environ.get("PGML_LOCAL") == "0":
        raise APIConnectionError(
            "no database to ask, and PGML_LOCAL=0 forbids the local instance",
            hint="Pass database_url, or set DATABASE_URL or PGML_DATABASE_URL.",
        )
    if local.is_installed():
        url = local.start(_show_progress if sys.stderr.isatty() else None)
        _tell_once(url)
        return url
    raise APIConnectionError(
        "no database to ask",
        hint="Pass database_url, set DATABASE_URL or PGML_DATABASE_URL, "
        "or install the local instance: pip install 'pgml[local]'.",
    )


def _tell_once(url: str) -> None:
    """Log that the local instance is asked: in production that is seldom meant."""
    if url in _told:
        return
    _told.add(url)
    _log.warning(
        "no database_url, DATABASE_URL or PGML_DATABASE_URL: the local instance at %s is used "
        "(PGML_LOCAL=0 forbids that)",
        url,
    )


def _show_progress(line: str) -> None:
    """Tell a person at a terminal what the first start is busy with."""
    print(f"pgml: {line}", file=sys.stderr)
