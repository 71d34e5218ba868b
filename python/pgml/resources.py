"""The openai package's namespace: ``client.chat.completions``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

from pgml.errors import BadRequestError
from pgml.parsing import ParsedChatCompletion, functions_of, listed, read
from pgml.raw import RawCompletions, StreamedCompletions
from pgml.request import Caller, request_body
from pgml.structured import form_of, wire_format
from pgml.types import NOT_GIVEN, NotGiven

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Unpack

    from pgml._pgml import ChatCompletionStream
    from pgml.events import EventStreamManager
    from pgml.objects import ChatCompletion
    from pgml.types import Message, Parameters, ParseParameters, TimeoutLike
    from pgml.types import Model as ModelParam

T = TypeVar("T")


class Completions:
    """The openai package's ``client.chat.completions``."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @overload
    def create(
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
    def create(
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
    ) -> ChatCompletionStream: ...

    @overload
    def create(
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
    ) -> ChatCompletion | ChatCompletionStream: ...

    def create(
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
    ) -> ChatCompletion | ChatCompletionStream:
        """Create a chat completion, as the openai package's method of this name does.

        Args:
            messages: The conversation so far.
            model: The model's name, or an object with the key ``model``.
            stream: Whether to get chunks as they are made. Default None: no.
            max_tokens: The most tokens to make. Default None: as many as the model will.
            temperature: From 0 to 2. Default: 0.8, or that of the engine's server. None: the
                engine's own.
            n: How many answers to make. Default None: 1.
            chat_template: A Jinja template, in place of the model's own.
            timeout: Seconds that it may send nothing, or None for no limit. Default: the client's.
            **parameters: OpenAI's further parameters, and ``extra_body`` for an engine's own.

        Returns:
            A completion, or with ``stream=True`` an iterator over chunks.

        Raises:
            APIError: As ``OpenSourceAI.chat_completions_create`` raises it.

        """
        caller = self._caller
        body = request_body(model, messages, max_tokens, temperature, n, chat_template, parameters)
        seconds = caller.seconds(timeout)
        if stream:
            return caller.client.stream(body, seconds, caller.max_retries)
        return caller.client.completion(body, seconds, caller.max_retries)

    @overload
    def parse(
        self,
        *,
        messages: Iterable[Message],
        model: ModelParam,
        response_format: type[T],
        **parameters: Unpack[ParseParameters],
    ) -> ParsedChatCompletion[T]: ...

    @overload
    def parse(
        self,
        *,
        messages: Iterable[Message],
        model: ModelParam,
        response_format: Mapping[str, Any] | NotGiven | None = None,
        **parameters: Unpack[ParseParameters],
    ) -> ParsedChatCompletion[None]: ...

    def parse(
        self,
        *,
        messages: Iterable[Message],
        model: ModelParam,
        response_format: Any = None,
        **parameters: Unpack[ParseParameters],
    ) -> ParsedChatCompletion[Any]:
        """Create a chat completion in the form of a pydantic model, and read it into one.

        Args:
            messages: The conversation so far.
            model: The model's name, or an object with the key ``model``.
            response_format: A pydantic model or dataclass, or another type that pydantic knows
                (``pip install 'pgml[pydantic]'``). The engine is held to its JSON schema, made
                strict. Default None: only arguments of tool calls are read.
            **parameters: As in ``create``. Tools made by ``pgml.pydantic_function_tool`` have
                their arguments read into their models.

        Returns:
            A completion whose ``choices[i].message.parsed`` is an instance of that model, and
            whose tool calls have ``function.parsed_arguments``.

        Raises:
            LengthFinishReasonError: A choice was cut off by its limit of tokens.
            APIError: As ``create`` raises it.

        """
        # Not by `self.create`: who wraps both methods would see this request twice.
        parameters["tools"] = tools = listed(parameters.get("tools"))
        form = form_of(response_format)
        completion: ChatCompletion = Completions.create(
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
    ) -> EventStreamManager:
        """Create a chat completion, told as events while it is made.

        Args:
            messages: The conversation so far.
            model: The model's name, or an object with the key ``model``.
            response_format: As in ``parse``.
            **parameters: As in ``parse``.

        Returns:
            A context manager. In its block there is an iterator over events, which has
            ``get_final_completion()`` too.

        """
        # Not at the top: `import pgml` has to be quick, and few want this.
        from pgml.events import Accumulator, EventStreamManager

        parameters["tools"] = tools = listed(parameters.get("tools"))
        form = form_of(response_format)
        asked = wire_format(response_format, form)
        return EventStreamManager(
            lambda: self.create(
                messages=messages, model=model, stream=True, response_format=asked, **parameters
            ),
            Accumulator(form, functions_of(tools)),
        )

    @cached_property
    def with_raw_response(self) -> RawCompletions:
        """The openai package's ``with_raw_response``: what comes with a result, beside it."""
        return RawCompletions(self)

    @cached_property
    def with_streaming_response(self) -> StreamedCompletions:
        """The openai package's ``with_streaming_response``: as context managers."""
        return StreamedCompletions(self)


class Chat:
    """The openai package's ``client.chat``."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @cached_property
    def completions(self) -> Completions:
        """The openai package's ``client.chat.completions``."""
        return Completions(self._caller)


class Beta:
    """The openai package's ``client.beta``, where ``parse`` once was."""

    def __init__(self, caller: Caller) -> None:
        self.chat = Chat(caller)


class TextCompletions:
    """The openai package's ``client.completions``, for tools that wrap its ``create`` too."""

    def create(self, **_parameters: Any) -> NoReturn:
        """Refuse: pgml makes chat completions.

        Raises:
            BadRequestError: Always.

        """
        raise refusal()


def refusal() -> BadRequestError:
    """Return the error for a text completion."""
    return BadRequestError(
        "completions.create: is not supported: pgml makes chat completions",
        sqlstate="0A000",
        hint="Call client.chat.completions.create. To send a text without a template, pass "
        "chat_template='{{ messages[0].content }}'.",
    )
