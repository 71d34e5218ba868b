"""The openai package's namespace: ``client.chat.completions`` and ``client.models``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from pgml.errors import NotFoundError
from pgml.objects import ChatCompletion, Model, ModelList
from pgml.parsing import ParsedChatCompletion, listed, read, schema_format
from pgml.request import Caller, request_body
from pgml.types import NOT_GIVEN, NotGiven

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import Unpack

    from pgml._pgml import AsyncChatCompletionStream, ChatCompletionStream
    from pgml.types import Message, Parameters, ParseParameters
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
        temperature: float | NotGiven | None = None,
        n: int | NotGiven | None = None,
        chat_template: str | NotGiven | None = None,
        timeout: float | NotGiven | None = NOT_GIVEN,
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
        temperature: float | NotGiven | None = None,
        n: int | NotGiven | None = None,
        chat_template: str | NotGiven | None = None,
        timeout: float | NotGiven | None = NOT_GIVEN,
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
        temperature: float | NotGiven | None = None,
        n: int | NotGiven | None = None,
        chat_template: str | NotGiven | None = None,
        timeout: float | NotGiven | None = NOT_GIVEN,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletion | ChatCompletionStream: ...

    def create(
        self,
        *,
        messages: Iterable[Message],
        model: ModelParam,
        stream: bool | NotGiven | None = None,
        max_tokens: int | NotGiven | None = None,
        temperature: float | NotGiven | None = None,
        n: int | NotGiven | None = None,
        chat_template: str | NotGiven | None = None,
        timeout: float | NotGiven | None = NOT_GIVEN,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletion | ChatCompletionStream:
        """Create a chat completion, as the openai package's method of this name does.

        Args:
            messages: The conversation so far.
            model: The model's name, or an object with the key ``model``.
            stream: Whether to get chunks as they are made. Default None: no.
            max_tokens: The most tokens to make. Default None: as many as the model will.
            temperature: From 0 to 2. Default None: 0.8.
            n: How many answers to make. Default None: 1.
            chat_template: A Jinja template, in place of the model's own.
            timeout: Seconds that it may send nothing, or None for no limit. Default: the client's.
            **parameters: OpenAI's further parameters, and ``extra_body`` for an engine's own.

        Returns:
            A completion, or with ``stream=True`` an iterator over chunks.

        Raises:
            APIError: As ``OpenSourceAI.chat_completions_create`` raises it.

        """
        client, _, max_retries = self._caller
        body = request_body(model, messages, max_tokens, temperature, n, chat_template, parameters)
        timeout = self._caller.seconds(timeout)
        if stream:
            return client.stream(body, timeout, max_retries)
        return client.completion(body, timeout, max_retries)

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
            response_format: A pydantic model (``pip install 'pgml[pydantic]'``). The engine is
                held to its JSON schema. Default None: only arguments of tool calls are read.
            **parameters: As in ``create``. Tools made by ``pgml.pydantic_function_tool`` have
                their arguments read into their models.

        Returns:
            A completion whose ``choices[i].message.parsed`` is an instance of that model, and
            whose tool calls have ``function.parsed_arguments``.

        Raises:
            LengthFinishReasonError: A choice was cut off by its limit of tokens.
            APIError: As ``create`` raises it.

        """
        parameters["tools"] = tools = listed(parameters.get("tools"))
        completion: ChatCompletion = self.create(
            messages=messages,
            model=model,
            stream=False,
            response_format=schema_format(response_format),
            **parameters,
        )
        return read(completion, response_format, tools)


class Chat:
    """The openai package's ``client.chat``."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @property
    def completions(self) -> Completions:
        """The openai package's ``client.chat.completions``."""
        return Completions(self._caller)


class Beta:
    """The openai package's ``client.beta``, where ``parse`` once was."""

    def __init__(self, caller: Caller) -> None:
        self.chat = Chat(caller)


class Models:
    """The openai package's ``client.models``: what ``pgml.models`` has for the current role."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(self) -> ModelList:
        """Return the models that can be called."""
        models = self._caller.client.models(self._caller.seconds())
        return ModelList(Model(model) for model in models["data"])

    def retrieve(self, model: str) -> Model:
        """Return one of the models that can be called.

        Args:
            model: Its name.

        Raises:
            NotFoundError: There is none of that name.

        """
        return find(self.list(), model)


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
        temperature: float | NotGiven | None = None,
        n: int | NotGiven | None = None,
        chat_template: str | NotGiven | None = None,
        timeout: float | NotGiven | None = NOT_GIVEN,
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
        temperature: float | NotGiven | None = None,
        n: int | NotGiven | None = None,
        chat_template: str | NotGiven | None = None,
        timeout: float | NotGiven | None = NOT_GIVEN,
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
        temperature: float | NotGiven | None = None,
        n: int | NotGiven | None = None,
        chat_template: str | NotGiven | None = None,
        timeout: float | NotGiven | None = NOT_GIVEN,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletion | AsyncChatCompletionStream: ...

    async def create(
        self,
        *,
        messages: Iterable[Message],
        model: ModelParam,
        stream: bool | NotGiven | None = None,
        max_tokens: int | NotGiven | None = None,
        temperature: float | NotGiven | None = None,
        n: int | NotGiven | None = None,
        chat_template: str | NotGiven | None = None,
        timeout: float | NotGiven | None = NOT_GIVEN,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletion | AsyncChatCompletionStream:
        """Create a chat completion; see ``Completions.create``."""
        client, _, max_retries = self._caller
        body = request_body(model, messages, max_tokens, temperature, n, chat_template, parameters)
        timeout = self._caller.seconds(timeout)
        if stream:
            return await client.stream_async(body, timeout, max_retries)
        return await client.completion_async(body, timeout, max_retries)

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
        parameters["tools"] = tools = listed(parameters.get("tools"))
        completion: ChatCompletion = await self.create(
            messages=messages,
            model=model,
            stream=False,
            response_format=schema_format(response_format),
            **parameters,
        )
        return read(completion, response_format, tools)


class AsyncChat:
    """The openai package's ``client.chat``."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @property
    def completions(self) -> AsyncCompletions:
        """The openai package's ``client.chat.completions``."""
        return AsyncCompletions(self._caller)


class AsyncBeta:
    """The openai package's ``client.beta``, where ``parse`` once was."""

    def __init__(self, caller: Caller) -> None:
        self.chat = AsyncChat(caller)


class AsyncModels:
    """The openai package's ``client.models``: what ``pgml.models`` has for the current role."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def list(self) -> ModelList:
        """Return the models that can be called."""
        models = await self._caller.client.models_async(self._caller.seconds())
        return ModelList(Model(model) for model in models["data"])

    async def retrieve(self, model: str) -> Model:
        """Return one of the models that can be called.

        Args:
            model: Its name.

        Raises:
            NotFoundError: There is none of that name.

        """
        return find(await self.list(), model)


def find(models: ModelList, name: str) -> Model:
    """Return the model of a name, or raise what names those there are."""
    for model in models:
        if model.id == name:
            return model
    names = ", ".join(repr(model.id) for model in models) or "none"
    raise NotFoundError(
        f"model {name!r} does not exist",
        sqlstate="42704",
        param="model",
        hint=f"The models that you can call are {names}.",
    )
