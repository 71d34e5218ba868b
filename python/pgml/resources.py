"""The openai package's namespace: ``client.chat.completions`` and ``client.models``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from pgml.errors import LengthFinishReasonError, NotFoundError
from pgml.objects import ChatCompletion, Model, ModelList, ParsedChatCompletion
from pgml.request import Caller, request_body

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack

    from pgml._pgml import AsyncChatCompletionStream, ChatCompletionStream
    from pgml.types import Message, Parameters
    from pgml.types import Model as ModelParam


class Completions:
    """The openai package's ``client.chat.completions``."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @overload
    def create(
        self,
        *,
        messages: Sequence[Message],
        model: ModelParam,
        stream: Literal[False] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        n: int | None = None,
        chat_template: str | None = None,
        timeout: float | None = None,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletion: ...

    @overload
    def create(
        self,
        *,
        messages: Sequence[Message],
        model: ModelParam,
        stream: Literal[True],
        max_tokens: int | None = None,
        temperature: float | None = None,
        n: int | None = None,
        chat_template: str | None = None,
        timeout: float | None = None,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletionStream: ...

    @overload
    def create(
        self,
        *,
        messages: Sequence[Message],
        model: ModelParam,
        stream: bool,
        max_tokens: int | None = None,
        temperature: float | None = None,
        n: int | None = None,
        chat_template: str | None = None,
        timeout: float | None = None,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletion | ChatCompletionStream: ...

    def create(
        self,
        *,
        messages: Sequence[Message],
        model: ModelParam,
        stream: bool | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        n: int | None = None,
        chat_template: str | None = None,
        timeout: float | None = None,
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
            timeout: Seconds that it may send nothing. Default None: the client's.
            **parameters: OpenAI's further parameters, and ``extra_body`` for an engine's own.

        Returns:
            A completion, or with ``stream=True`` an iterator over chunks.

        Raises:
            APIError: As ``OpenSourceAI.chat_completions_create`` raises it.

        """
        client, default_timeout, max_retries = self._caller
        body = request_body(model, messages, max_tokens, temperature, n, chat_template, parameters)
        timeout = default_timeout if timeout is None else timeout
        if stream:
            return client.stream(body, timeout, max_retries)
        return client.completion(body, timeout, max_retries)

    def parse(
        self,
        *,
        messages: Sequence[Message],
        model: ModelParam,
        response_format: type[Any],
        **parameters: Any,
    ) -> ParsedChatCompletion:
        """Create a chat completion in the form of a pydantic model, and read it into one.

        Args:
            messages: The conversation so far.
            model: The model's name, or an object with the key ``model``.
            response_format: A pydantic model (``pip install 'pgml[pydantic]'``). The engine is
                held to its JSON schema.
            **parameters: As in ``create``.

        Returns:
            A completion whose ``choices[i].message.parsed`` is an instance of that model.

        Raises:
            LengthFinishReasonError: A choice was cut off by its limit of tokens.
            APIError: As ``create`` raises it.

        """
        completion: ChatCompletion = self.create(
            messages=messages,
            model=model,
            stream=False,
            response_format=schema_format(response_format),
            **parameters,
        )
        return parsed(completion, response_format)


class Chat:
    """The openai package's ``client.chat``."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @property
    def completions(self) -> Completions:
        """The openai package's ``client.chat.completions``."""
        return Completions(self._caller)


class Models:
    """The openai package's ``client.models``: what ``pgml.models`` has for the current role."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(self) -> ModelList:
        """Return the models that can be called."""
        models = self._caller.client.models(self._caller.timeout)
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
        messages: Sequence[Message],
        model: ModelParam,
        stream: Literal[False] | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        n: int | None = None,
        chat_template: str | None = None,
        timeout: float | None = None,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletion: ...

    @overload
    async def create(
        self,
        *,
        messages: Sequence[Message],
        model: ModelParam,
        stream: Literal[True],
        max_tokens: int | None = None,
        temperature: float | None = None,
        n: int | None = None,
        chat_template: str | None = None,
        timeout: float | None = None,
        **parameters: Unpack[Parameters],
    ) -> AsyncChatCompletionStream: ...

    @overload
    async def create(
        self,
        *,
        messages: Sequence[Message],
        model: ModelParam,
        stream: bool,
        max_tokens: int | None = None,
        temperature: float | None = None,
        n: int | None = None,
        chat_template: str | None = None,
        timeout: float | None = None,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletion | AsyncChatCompletionStream: ...

    async def create(
        self,
        *,
        messages: Sequence[Message],
        model: ModelParam,
        stream: bool | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        n: int | None = None,
        chat_template: str | None = None,
        timeout: float | None = None,
        **parameters: Unpack[Parameters],
    ) -> ChatCompletion | AsyncChatCompletionStream:
        """Create a chat completion; see ``Completions.create``."""
        client, default_timeout, max_retries = self._caller
        body = request_body(model, messages, max_tokens, temperature, n, chat_template, parameters)
        timeout = default_timeout if timeout is None else timeout
        if stream:
            return await client.stream_async(body, timeout, max_retries)
        return await client.completion_async(body, timeout, max_retries)

    async def parse(
        self,
        *,
        messages: Sequence[Message],
        model: ModelParam,
        response_format: type[Any],
        **parameters: Any,
    ) -> ParsedChatCompletion:
        """Create a completion in the form of a pydantic model; see ``Completions.parse``."""
        completion: ChatCompletion = await self.create(
            messages=messages,
            model=model,
            stream=False,
            response_format=schema_format(response_format),
            **parameters,
        )
        return parsed(completion, response_format)


class AsyncChat:
    """The openai package's ``client.chat``."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @property
    def completions(self) -> AsyncCompletions:
        """The openai package's ``client.chat.completions``."""
        return AsyncCompletions(self._caller)


class AsyncModels:
    """The openai package's ``client.models``: what ``pgml.models`` has for the current role."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def list(self) -> ModelList:
        """Return the models that can be called."""
        models = await self._caller.client.models_async(self._caller.timeout)
        return ModelList(Model(model) for model in models["data"])

    async def retrieve(self, model: str) -> Model:
        """Return one of the models that can be called.

        Args:
            model: Its name.

        Raises:
            NotFoundError: There is none of that name.

        """
        return find(await self.list(), model)


def schema_format(model: type[Any]) -> dict[str, Any]:
    """Say a pydantic model as OpenAI's ``response_format``."""
    if not hasattr(model, "model_json_schema"):
        raise TypeError(f"response_format: must be a pydantic model, not {model!r}")
    schema = {"name": model.__name__, "strict": True, "schema": model.model_json_schema()}
    return {"type": "json_schema", "json_schema": schema}


def parsed(completion: ChatCompletion, model: type[Any]) -> ParsedChatCompletion:
    """Read the content of every choice into a pydantic model."""
    result = ParsedChatCompletion(completion)
    for choice in result.choices:
        if choice.finish_reason == "length":
            error = LengthFinishReasonError(
                f"choice {choice.index} was cut off before its JSON was whole",
                hint="Raise max_tokens, or leave it out.",
            )
            error.completion = completion
            raise error
        content = choice.message.content
        choice.message.parsed = None if content is None else model.model_validate_json(content)
    return result


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
