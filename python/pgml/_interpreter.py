"""Refuses to be imported where the extension module would not work. Imported first of all."""

from __future__ import annotations

import importlib
from typing import Any


def _require_main_interpreter() -> None:
    """Raise ImportError in a sub-interpreter.

    The Rust module keeps Python objects in static variables, which belong to one interpreter.
    """
    for name in ("_interpreters", "_xxsubinterpreters"):  # Python 3.13, and before.
        try:
            current: Any = importlib.import_module(name).get_current()
        except ImportError:
            continue
        number = int(current[0] if isinstance(current, tuple) else current)  # pyright: ignore
        if number != 0:
            raise ImportError(
                f"pgml works in a process's main interpreter only, and this is interpreter "
                f"{number}. Under mod_wsgi, set WSGIApplicationGroup %{{GLOBAL}}."
            )
        return


_require_main_interpreter()
