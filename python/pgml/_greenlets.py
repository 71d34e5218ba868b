# pyright: basic, reportOptionalMemberAccess=false, reportMissingImports=false, reportMissingModuleSource=false, reportArgumentType=false
# (gevent and eventlet have no types, and need not be installed.)
"""Greenlets: how a synchronous call lets others run while it waits, under gevent and eventlet."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_function() -> Callable[[int, float], None] | None:
    """Return what waits for a descriptor to be readable, at most some seconds, in a greenlet.

    Returns:
        None if this thread runs no greenlets, which then can be blocked.

    """
    modules = sys.modules
    if "gevent" in modules and _is_gevent_thread():
        return _wait_with_gevent
    if "eventlet" in modules and _is_eventlet_thread():
        return _wait_with_eventlet
    return None


def start_native_thread(run: Callable[[], None]) -> None:
    """Start a thread of the operating system, also where ``threading`` makes greenlets."""
    # gevent and eventlet replace `_thread.start_new_thread` by a function in Python.
    import _thread

    start: Any = _thread.start_new_thread
    if "gevent" in sys.modules:
        from gevent.monkey import get_original

        start = get_original("_thread", "start_new_thread")
    elif "eventlet" in sys.modules:
        from eventlet.patcher import original

        start = original("threading")._start_new_thread
    start(run, ())


def _is_gevent_thread() -> bool:
    import gevent.hub
    from gevent._hub_local import get_hub_if_exists
    from gevent.monkey import is_module_patched

    hub = get_hub_if_exists()
    if hub is None:
        return bool(is_module_patched("socket"))
    # The hub itself runs callbacks, which must not wait for it.
    return gevent.getcurrent() is not hub


def _wait_with_gevent(descriptor: int, seconds: float) -> None:
    from gevent.socket import wait_read

    with contextlib.suppress(TimeoutError):
        wait_read(descriptor, seconds, TimeoutError())


def _is_eventlet_thread() -> bool:
    import eventlet.hubs
    from eventlet.patcher import is_monkey_patched

    hub = getattr(eventlet.hubs._threadlocal, "hub", None)
    if hub is None:
        return bool(is_monkey_patched("socket"))
    return eventlet.getcurrent() is not hub.greenlet


def _wait_with_eventlet(descriptor: int, seconds: float) -> None:
    from eventlet.hubs import trampoline

    with contextlib.suppress(TimeoutError):
        trampoline(descriptor, read=True, timeout=seconds, timeout_exc=TimeoutError)
