"""``with_raw_response`` and ``with_streaming_response``: what comes with a result, beside it.

There is no HTTP between client and database. Of what the openai package tells about its response,
only the id of the request and how long it took have a meaning here.
"""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Iterator, Mapping
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgml.async_resources import AsyncCompletions
    from pgml.resources import Completions

T = TypeVar("T")
_C = TypeVar("_C", bound="Completions | AsyncCompletions")


class Headers(Mapping[str, str]):
    """Headers by their names, in upper or lower case."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = {name.lower(): value for name, value in headers.items()}

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)

    def __repr__(self) -> str:
        return f"Headers({self._headers!r})"


class APIResponse(Generic[T]):
    """A result, and what is known of its request."""

    status_code: Literal[200] = 200

    def __init__(self, result: T, request_id: str, elapsed: timedelta) -> None:
        self._result = result
        self.request_id = request_id
        self.elapsed = elapsed
        """How long it took: of a stream, until its first chunk."""
        self.headers = Headers({"x-request-id": request_id})

    def parse(self) -> T:
        """Return the result: what the method returns without ``with_raw_response``."""
        return self._result

    def __repr__(self) -> str:
        return f"<APIResponse [{self.status_code}] {self.request_id}>"


class AsyncAPIResponse(APIResponse[T]):
    """The same, for ``with_streaming_response`` of the asynchronous client."""

    async def parse(self) -> T:  # type: ignore[override]
        """Return the result."""
        return self._result


class _Request:
    """A request that is about to be made: its id is known before its result."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        headers: dict[str, Any] = dict(arguments.get("extra_headers") or {})
        ids = [value for name, value in headers.items() if name.lower() == "x-request-id"]
        self.id: str = ids[0] if ids else f"chatcmpl-{uuid.uuid4().hex}"
        if not ids:
            headers["x-request-id"] = self.id
        self.arguments: dict[str, Any] = {**arguments, "extra_headers": headers}
        self._begun = monotonic()

    def response(self, result: Any) -> APIResponse[Any]:
        return APIResponse(result, self.id, timedelta(seconds=monotonic() - self._begun))


class _Wrapper(Generic[_C]):
    """What has the methods of ``completions``, in another form.

    ``completions`` refers to it, so it refers back weakly: in a cycle, both would live on until the
    garbage collector finds them, and the client's connections with them.
    """

    def __init__(self, completions: _C) -> None:
        self._caller = completions._caller  # pyright: ignore[reportPrivateUsage]
        self._class = type(completions)
        self._reference = weakref.ref(completions)

    @property
    def _completions(self) -> _C:
        return self._reference() or self._class(self._caller)


class RawCompletions(_Wrapper["Completions"]):
    """The methods of ``completions``, which return an ``APIResponse``."""

    def create(self, **arguments: Any) -> APIResponse[Any]:
        """Create a chat completion; see ``Completions.create``."""
        request = _Request(arguments)
        return request.response(self._completions.create(**request.arguments))

    def parse(self, **arguments: Any) -> APIResponse[Any]:
        """Create a chat completion and read it; see ``Completions.parse``."""
        request = _Request(arguments)
        return request.response(self._completions.parse(**request.arguments))


class RawAsyncCompletions(_Wrapper["AsyncCompletions"]):
    """The methods of ``completions``, which return an ``APIResponse``."""

    async def create(self, **arguments: Any) -> APIResponse[Any]:
        """Create a chat completion; see ``Completions.create``."""
        request = _Request(arguments)
        return request.response(await self._completions.create(**request.arguments))

    async def parse(self, **arguments: Any) -> APIResponse[Any]:
        """Create a chat completion and read it; see ``Completions.parse``."""
        request = _Request(arguments)
        return request.response(await self._completions.parse(**request.arguments))


class ResponseManager:
    """A response as a context manager, which makes the request and closes a stream."""

    def __init__(self, make: Callable[[], APIResponse[Any]]) -> None:
        self._make = make

    def __enter__(self) -> APIResponse[Any]:
        """Make the request."""
        self._response = self._make()
        return self._response

    def __exit__(self, *_exception: object) -> None:
        """Close the result, if it is a stream."""
        close = getattr(self._response.parse(), "close", None)
        if close is not None:
            close()


class AsyncResponseManager:
    """A response as an asynchronous context manager."""

    def __init__(self, make: Callable[[], Awaitable[APIResponse[Any]]]) -> None:
        self._make = make

    async def __aenter__(self) -> AsyncAPIResponse[Any]:
        """Make the request."""
        made = await self._make()
        self._result = made.parse()
        return AsyncAPIResponse(self._result, made.request_id, made.elapsed)

    async def __aexit__(self, *_exception: object) -> None:
        """Close the result, if it is a stream."""
        close = getattr(self._result, "close", None)
        if close is not None:
            await close()


class StreamedCompletions(RawCompletions):
    """The methods of ``completions``, which return context managers."""

    def create(self, **arguments: Any) -> ResponseManager:  # type: ignore[override]
        """Create a chat completion; see ``Completions.create``."""
        return ResponseManager(lambda: RawCompletions.create(self, **arguments))

    def parse(self, **arguments: Any) -> ResponseManager:  # type: ignore[override]
        """Create a chat completion and read it; see ``Completions.parse``."""
        return ResponseManager(lambda: RawCompletions.parse(self, **arguments))


class StreamedAsyncCompletions(RawAsyncCompletions):
    """The methods of ``completions``, which return asynchronous context managers."""

    def create(self, **arguments: Any) -> AsyncResponseManager:  # type: ignore[override]
        """Create a chat completion; see ``Completions.create``."""
        return AsyncResponseManager(lambda: RawAsyncCompletions.create(self, **arguments))

    def parse(self, **arguments: Any) -> AsyncResponseManager:  # type: ignore[override]
        """Create a chat completion and read it; see ``Completions.parse``."""
        return AsyncResponseManager(lambda: RawAsyncCompletions.parse(self, **arguments))
