"""``chat.completions.stream``: a stream told as events, as the openai package's helper does it."""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar

from pgml.objects import ChatCompletionChunk, Object
from pgml.parsing import (
    UNFINISHED,
    ParsedChatCompletion,
    parsed_arguments,
    parsed_content,
    read,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from pgml._pgml import AsyncChatCompletionStream, ChatCompletionStream
    from pgml.structured import Form

_Self = TypeVar("_Self", bound="_EventStream")

# These come whole in each piece that has them; other texts come bit by bit.
_WHOLE = frozenset({"role", "id", "type", "index", "name", "finish_reason"})


class Event(Object):
    """What happened in a stream: ``type`` says what, and which further fields there are."""

    __slots__ = ()

    type: str


class Accumulator:
    """The completion as far as its chunks have come, and what each chunk makes happen."""

    def __init__(self, form: Form | None, functions: Mapping[str, Any]) -> None:
        self.snapshot: ParsedChatCompletion[Any] = ParsedChatCompletion({"choices": []})
        self._form = form
        self._functions = functions
        self._done: set[tuple[int, str]] = set()
        # The call that each choice is making.
        self._calls: dict[int, int] = {}

    def add(self, chunk: ChatCompletionChunk) -> list[Event]:
        """Take a chunk, and return its events."""
        self.snapshot.update({name: chunk[name] for name in chunk if name != "choices"})
        self.snapshot["object"] = "chat.completion"
        events = [_event("chunk", chunk=chunk, snapshot=self.snapshot)]
        choices: list[Any] = self.snapshot["choices"]
        for piece in chunk["choices"]:
            while len(choices) <= piece["index"]:
                message = {"role": "assistant", "content": None}
                choices.append({"index": len(choices), "message": message})
            choice = choices[piece["index"]]
            _merge(choice, {"message" if name == "delta" else name: piece[name] for name in piece})
            if choice["finish_reason"] in UNFINISHED and (self._form or self._strict()):
                self.completion()
            events += self._deltas(piece, choice)
            events += self._ends(piece, choice)
        return events

    def _strict(self) -> bool:
        return any(function.get("strict") for function in self._functions.values())

    def completion(self) -> ParsedChatCompletion[Any]:
        """Return what has come, read. It raises if a choice was cut off."""
        return read(self.snapshot, self._form, self._functions)

    def _deltas(self, piece: Any, choice: Any) -> Iterator[Event]:
        delta, message = piece["delta"], choice["message"]
        if delta.get("content") is not None:
            text = message["content"]
            parsed = _begun(text) if self._form else None
            yield _event("content.delta", delta=delta["content"], snapshot=text, parsed=parsed)
        if delta.get("refusal") is not None:
            yield _event("refusal.delta", delta=delta["refusal"], snapshot=message["refusal"])
        calls: Any = delta.get("tool_calls") or []
        for call in calls:
            made = _part(message["tool_calls"], call)["function"]
            strict = self._functions.get(made["name"], {}).get("strict")
            yield _event(
                "tool_calls.function.arguments.delta",
                name=made["name"],
                index=call["index"],
                arguments=made["arguments"],
                parsed_arguments=_begun(made["arguments"]) if strict else None,
                arguments_delta=call["function"].get("arguments") or "",
            )
        logprobs: Any = piece.get("logprobs") or {}
        for part, tokens in logprobs.items():
            if tokens:
                so_far = choice["logprobs"][part]
                yield _event(f"logprobs.{part}.delta", **{part: tokens}, snapshot=so_far)

    def _ends(self, piece: Any, choice: Any) -> Iterator[Event]:
        index = choice["index"]
        if choice["finish_reason"]:
            yield from self._end_of_text(choice)
            yield from self._end_of_call(choice)
        calls: Any = piece["delta"].get("tool_calls") or []
        for call in calls:
            if self._calls.get(index) != call["index"]:
                yield from self._end_of_text(choice)
                yield from self._end_of_call(choice)
            self._calls[index] = call["index"]

    def _end_of_text(self, choice: Any) -> Iterator[Event]:
        message: Any = choice["message"]
        logprobs: Any = choice.get("logprobs") or {}
        if message["content"] and self._first(choice, "content"):
            message["parsed"] = parsed = parsed_content(message, self._form)
            yield _event("content.done", content=message["content"], parsed=parsed)
        if message.get("refusal") is not None and self._first(choice, "refusal"):
            yield _event("refusal.done", refusal=message["refusal"])
        for part, tokens in logprobs.items():
            if tokens is not None and self._first(choice, f"logprobs.{part}"):
                yield _event(f"logprobs.{part}.done", **{part: tokens})

    def _end_of_call(self, choice: Any) -> Iterator[Event]:
        index = self._calls.get(choice["index"])
        if index is not None and self._first(choice, f"call {index}"):
            made = _part(choice["message"]["tool_calls"], {"index": index})["function"]
            made["parsed_arguments"] = parsed_arguments(made, self._functions)
            yield _event("tool_calls.function.arguments.done", index=index, **made)

    def _first(self, choice: Any, what: str) -> bool:
        before = len(self._done)
        self._done.add((choice["index"], what))
        return len(self._done) > before


class _EventStream:
    """What the synchronous and the asynchronous stream share."""

    def __init__(self, accumulator: Accumulator) -> None:
        self._accumulator = accumulator
        self._ready: deque[Event] = deque()

    @property
    def current_completion_snapshot(self) -> ParsedChatCompletion[Any]:
        """The completion as far as it has come."""
        return self._accumulator.snapshot


class EventStream(_EventStream):
    """An iterator over the events of a stream."""

    def __init__(self, stream: ChatCompletionStream, accumulator: Accumulator) -> None:
        super().__init__(accumulator)
        self._stream = stream

    def __iter__(self: _Self) -> _Self:
        return self

    def __next__(self) -> Event:
        """Return the next event, for which a chunk may have to come."""
        while not self._ready:
            self._ready.extend(self._accumulator.add(next(self._stream)))
        return self._ready.popleft()

    def until_done(self: EventStream) -> EventStream:
        """Read the stream to its end."""
        for _ in self:
            pass
        return self

    def get_final_completion(self) -> ParsedChatCompletion[Any]:
        """Read the stream to its end, and return the completion that its chunks make."""
        return self.until_done()._accumulator.completion()

    def close(self) -> None:
        """End the generation."""
        self._stream.close()


class AsyncEventStream(_EventStream):
    """An asynchronous iterator over the events of a stream."""

    def __init__(self, stream: AsyncChatCompletionStream, accumulator: Accumulator) -> None:
        super().__init__(accumulator)
        self._stream = stream

    def __aiter__(self: _Self) -> _Self:
        return self

    async def __anext__(self) -> Event:
        """Return the next event, for which a chunk may have to come."""
        while not self._ready:
            self._ready.extend(self._accumulator.add(await self._stream.__anext__()))
        return self._ready.popleft()

    async def until_done(self: AsyncEventStream) -> AsyncEventStream:
        """Read the stream to its end."""
        async for _ in self:
            pass
        return self

    async def get_final_completion(self) -> ParsedChatCompletion[Any]:
        """Read the stream to its end, and return the completion that its chunks make."""
        return (await self.until_done())._accumulator.completion()

    async def close(self) -> None:
        """End the generation."""
        await self._stream.aclose()


class EventStreamManager:
    """What ``chat.completions.stream`` returns: the request is made when its block is entered."""

    def __init__(
        self, create: Callable[[], ChatCompletionStream], accumulator: Accumulator
    ) -> None:
        self._create = create
        self._accumulator = accumulator

    def __enter__(self) -> EventStream:
        """Make the request."""
        self._stream = EventStream(self._create(), self._accumulator)
        return self._stream

    def __exit__(self, *_exception: object) -> None:
        """End the generation."""
        self._stream.close()


class AsyncEventStreamManager:
    """What ``chat.completions.stream`` returns: the request is made when its block is entered."""

    def __init__(
        self, create: Callable[[], Awaitable[AsyncChatCompletionStream]], accumulator: Accumulator
    ) -> None:
        self._create = create
        self._accumulator = accumulator

    async def __aenter__(self) -> AsyncEventStream:
        """Make the request."""
        self._stream = AsyncEventStream(await self._create(), self._accumulator)
        return self._stream

    async def __aexit__(self, *_exception: object) -> None:
        """End the generation."""
        await self._stream.close()


def _event(kind: str, **fields: Any) -> Event:
    return Event({"type": kind, **fields})


def _merge(so_far: Any, piece: Any) -> None:
    """Add a piece of a streamed object to what has come of it."""
    for name, value in piece.items():
        before = so_far.get(name)
        if before is None or (name in _WHOLE and value is not None):
            # What is added to must not be the chunk's own.
            so_far[name] = deepcopy(value)
        elif isinstance(value, str):
            so_far[name] = before + value
        elif isinstance(value, dict):
            _merge(before, value)
        elif isinstance(value, list):
            _extend(before, value)


def _extend(so_far: Any, pieces: Any) -> None:
    """Add parts to a list, or to the parts of it that they belong to."""
    for piece in pieces:
        part = _part(so_far, piece)
        if part is None:
            so_far.append(deepcopy(piece))
        else:
            _merge(part, piece)


def _part(parts: list[Any], piece: Any) -> Any:
    """Return the part of a list that a piece belongs to, by its index, if there is one."""
    index = piece.get("index")
    return next((part for part in parts if index is not None and part["index"] == index), None)


def _begun(text: str) -> Any:
    """Read the beginning of a JSON text, as far as pydantic is there to do it."""
    try:
        from pydantic_core import from_json
    except ImportError:
        return None
    return from_json(text, allow_partial=True) if text else None
