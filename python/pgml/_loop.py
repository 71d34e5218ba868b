"""The waker of each event loop. See ``src/python/wake.rs`` for what it is."""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from weakref import WeakKeyDictionary

from pgml._pgml import LoopWaker

_wakers: WeakKeyDictionary[AbstractEventLoop, LoopWaker] = WeakKeyDictionary()


def running_loop() -> tuple[AbstractEventLoop, LoopWaker]:
    """Return the running loop and its waker, which it watches from the first call on."""
    loop = get_running_loop()
    waker = _wakers.get(loop)
    if waker is None:
        waker = _wakers[loop] = LoopWaker()
        loop.add_reader(waker.fileno(), waker.drain)
    return loop, waker
