"""The openai package's namespace, as coroutines: ``client.chat.completions``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

from pgml.parsing import ParsedChatCompletion, functions_of, listed, read
from pgml.raw import RawAsyncCompletions, StreamedAsyncCompletions
from pgml.request import Caller, request_body
from pgml.resources import refusal
from pgml.structured import form_of, wire_format
from pgml.types import NOT_GIVEN, NotGiven

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Unpack

    from pgml._pgml import AsyncChatCompletionStream
    from pgml.events import AsyncEventStreamManager
    from pgml.objects import ChatCompletion
    from pgml.types import Message, Parameters, ParseParameters, TimeoutLike
    from pgml.types import Model as ModelParam

T = TypeVar("T")


class AsyncCompletions:
    """The openai package's ``client.chat.completions``."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @overload
    async def create(
        self,
        *,
        messages: Iterable[Message],
        model: ModelParam,
        stream: Literal[False] | NotGiven | None = None,
        max_tokens: int | NotGiven | None = None,
        temperature: float | NotGiven | None = NOT_GIVEN,
        n: int | NotGiven | None = None,
        chat_template: str | NotGiven | None = None,
        timeout: float | TimeoutLike | NotGiven | None = NOT_GIVEN,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletion: ...

    @overload
    async def create(
        self,
        *,
        messages: Iterable[Message],
        model: ModelParam,
        stream: Literal[True],
        max_tokens: int | NotGiven | None = None,
        temperature: float | NotGiven | None = NOT_GIVEN,
        n: int | NotGiven | None = None,
        chat_template: str | NotGiven | None = None,
        timeout: float | TimeoutLike | NotGiven | None = NOT_GIVEN,
        **parameters: Unpack[Parameters],
    ) -> AsyncChatCompletionStream: ...

    @overload
    async def create(
        self,
        *,
        messages: Iterable[Message],
        model: ModelParam,
        stream: bool,
        max_tokens: int | NotGiven | None = None,
        temperature: float | NotGiven | None = NOT_GIVEN,
        n: int | NotGiven | None = None,
        chat_template: str | NotGiven | None = None,
        timeout: float | TimeoutLike | NotGiven | None = NOT_GIVEN,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletion | AsyncChatCompletionStream: ...

    async def create(
        self,
        *,
        messages: Iterable[Message],
        model: ModelParam,
        stream: bool | NotGiven | None = None,
        max_tokens: int | NotGiven | None = None,
        temperature: float | NotGiven | None = NOT_GIVEN,
        n: int | NotGiven | None = None,
        chat_template: str | NotGiven | None = None,
        timeout: float | TimeoutLike | NotGiven | None = NOT_GIVEN,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletion | AsyncChatCompletionStream:
        """Create a chat completion; see ``Completions.create``."""
        caller = self._caller
        body = request_body(model, messages, max_tokens, temperature, n, chat_template, parameters)
        seconds = caller.seconds(timeout)
        if stream:
            return await caller.client.stream_async(body, seconds, caller.max_retries)
        return await caller.client.completion_async(body, seconds, caller.max_retries)

    @overload
    async def parse(
        self,
        *,
        messages: Iterable[Message],
        model: ModelParam,
        response_format: type[T],
        **parameters: Unpack[ParseParameters],
    ) -> ParsedChatCompletion[T]: ...

    @overload
    async def parse(
        self,
        *,
        messages: Iterable[Message],
        model: ModelParam,
        response_format: Mapping[str, Any] | NotGiven | None = None,
        **parameters: Unpack[ParseParameters],
    ) -> ParsedChatCompletion[None]: ...

    async def parse(
        self,
        *,
        messages: Iterable[Message],
        model: ModelParam,
        response_format: Any = None,
        **parameters: Unpack[ParseParameters],
    ) -> ParsedChatCompletion[Any]:
        """Create a completion in the form of a pydantic model; see ``Completions.parse``."""
        # Not by `self.create`: who wraps both methods would see this request twice.
        parameters["tools"] = tools = listed(parameters.get("tools"))
        form = form_of(response_format)
        completion: ChatCompletion = await AsyncCompletions.create(
            self,
            messages=messages,
            model=model,
            stream=False,
            response_format=wire_format(response_format, form),
            **parameters,
        )
        return read(completion, form, functions_of(tools))

    def stream(
        self,
        *,
        messages: Iterable[Message],
        model: ModelParam,
        response_format: Any = None,
        **parameters: Unpack[ParseParameters],
    ) -> AsyncEventStreamManager:
        """Create a chat completion, told as events while it is made; see ``Completions.stream``."""
        # Not at the top: `import pgml` has to be quick, and few want this.
        from pgml.events import Accumulator, AsyncEventStreamManager

        parameters["tools"] = tools = listed(parameters.get("tools"))
        form = form_of(response_format)
        asked = wire_format(response_format, form)
        return AsyncEventStreamManager(
            lambda: self.create(
                messages=messages, model=model, stream=True, response_format=asked, **parameters
            ),
            Accumulator(form, functions_of(tools)),
        )

    @cached_property
    def with_raw_response(self) -> RawAsyncCompletions:
        """The openai package's ``with_raw_response``: what comes with a result, beside it."""
        return RawAsyncCompletions(self)

    @cached_property
    def with_streaming_response(self) -> StreamedAsyncCompletions:
        """The openai package's ``with_streaming_response``: as context managers."""
        return StreamedAsyncCompletions(self)


class AsyncChat:
    """The openai package's ``client.chat``."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @cached_property
    def completions(self) -> AsyncCompletions:
        """The openai package's ``client.chat.completions``."""
        return AsyncCompletions(self._caller)


class AsyncBeta:
    """The openai package's ``client.beta``, where ``parse`` once was."""

    def __init__(self, caller: Caller) -> None:
        self.chat = AsyncChat(caller)


class AsyncTextCompletions:
    """The openai package's ``client.completions``, for tools that wrap its ``create`` too."""

    async def create(self, **_parameters: Any) -> NoReturn:
        """Refuse: pgml makes chat completions.

        Raises:
            BadRequestError: Always.

        """
        raise refusal()
