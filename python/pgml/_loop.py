"""Event loops: the waker of each, and futures to wait for. See ``src/python/event_loop.rs``."""

from __future__ import annotations

import contextlib
import sys
from asyncio import AbstractEventLoop, get_running_loop
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pgml._pgml import LoopWaker

if TYPE_CHECKING:
    from collections.abc import Generator

_wakers: WeakKeyDictionary[Any, LoopWaker] = WeakKeyDictionary()


def new_future() -> tuple[Any, LoopWaker]:
    """Return a future of the running event loop, and the loop's waker.

    A future is something to be awaited, with ``done()`` and ``set_result()``.

    Raises:
        RuntimeError: No event loop is running, or one that is neither asyncio's nor trio's.

    """
    # In trio's guest mode asyncio's loop is the running one, too.
    if "trio" in sys.modules and _in_trio():
        return _TrioFuture(), _trio_waker()
    try:
        loop = get_running_loop()
    except RuntimeError:
        raise _no_loop() from None
    waker = _wakers.get(loop)
    if waker is None:
        waker = _watched_by_asyncio(loop)
    return loop.create_future(), waker


def _watched_by_asyncio(loop: AbstractEventLoop) -> LoopWaker:
    """Make the waker of a loop, which watches it from now on."""
    waker = _wakers[loop] = LoopWaker()
    loop.add_reader(waker.fileno(), waker.drain)
    return waker


def _in_trio() -> bool:
    from sniffio import AsyncLibraryNotFoundError, current_async_library

    try:
        return current_async_library() == "trio"
    except AsyncLibraryNotFoundError:
        return False


class _TrioFuture:
    """What asyncio's future is to asyncio."""

    def __init__(self) -> None:
        import trio

        self._event = trio.Event()

    def done(self) -> bool:
        return self._event.is_set()

    def set_result(self, _: None) -> None:
        self._event.set()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._event.wait().__await__()


def _trio_waker() -> LoopWaker:
    """Return the waker of the running trio loop, with a system task that watches it."""
    import trio

    token = trio.lowlevel.current_trio_token()
    waker = _wakers.get(token)
    if waker is None:
        waker = _wakers[token] = LoopWaker()
        trio.lowlevel.spawn_system_task(_watch_in_trio, waker)
    return waker


async def _watch_in_trio(waker: LoopWaker) -> None:
    import trio

    while True:
        await trio.lowlevel.wait_readable(waker.fileno())
        waker.drain()


def _no_loop() -> RuntimeError:
    name = "none is running"
    if "sniffio" in sys.modules:
        from sniffio import AsyncLibraryNotFoundError, current_async_library

        with contextlib.suppress(AsyncLibraryNotFoundError):
            name = f"this is {current_async_library()}"
    return RuntimeError(
        f"pgml's asynchronous calls need an event loop of asyncio or trio, and {name}; "
        "the synchronous OpenSourceAI works in any thread"
    )
