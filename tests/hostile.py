"""Values that no request should hold, and what tests of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest.mock import MagicMock

import pgml
from engine import Engine, Exchange, answer
from hypothesis import strategies as st

QUESTION = [{"role": "user", "content": "hi"}]

# What JSON can say -----------------------------------------------------------------------------

# The text of `st.text()` has NUL, quotes, any plane of Unicode, and no lone surrogate.
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
messages = st.lists(
    st.builds(
        lambda more, role, content: {**more, "role": role, "content": content},
        st.dictionaries(st.text(), json_values, max_size=2),
        st.text(min_size=1),
        st.text() | st.lists(st.builds(lambda v: {"type": "text", "text": v}, json_values)),
    ),
    min_size=1,
    max_size=3,
)


# What it cannot --------------------------------------------------------------------------------


class HostileError(Exception):
    """Raised by a value's own method: no fault of whoever calls it."""


def _raise(*_: object, **__: object) -> Any:
    raise HostileError


class HostileDict(dict[str, Any]):
    __getitem__ = __iter__ = __contains__ = __len__ = _raise
    keys = values = items = get = pop = copy = _raise  # type: ignore[assignment]


class HostileMapping(Mapping[str, Any]):
    __getitem__ = __iter__ = __len__ = _raise


class HostileList(list[Any]):
    __getitem__ = __iter__ = __len__ = _raise


class HostileStr(str):
    __str__ = __repr__ = encode = _raise  # type: ignore[assignment]


class HostileInt(int):
    __index__ = __int__ = __repr__ = _raise


class Endless:
    """Its dump is one of its kind again."""

    def model_dump(self, **_: object) -> Endless:
        return self


class Growing:
    """Changes the dict that it is a value of, while that is written."""

    def __init__(self) -> None:
        self.holder: dict[str, Any] = {"a": self, "b": 1}

    def model_dump(self, **_: object) -> dict[str, Any]:
        self.holder.clear()
        self.holder.update((str(i), i) for i in range(100))
        return {}


class Unreadable:
    def __getattr__(self, name: str) -> Any:
        raise HostileError


def endless_list() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def endless_dict() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["again"] = value
    return value


def nested(depth: int, value: Any = None) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def failing() -> Iterator[Any]:
    yield QUESTION[0]
    raise HostileError


# Made anew for each use: some change, or can be used once.
HOSTILE: dict[str, Callable[[], Any]] = {
    "an endless list": endless_list,
    "an endless dict": endless_dict,
    "a deep list": lambda: nested(10_000),
    "a lone surrogate": lambda: "a\ud800b",
    "a lone surrogate as key": lambda: {"a\udfff": 1},
    "NaN": lambda: float("nan"),
    "infinity": lambda: [float("-inf")],
    "a wide int": lambda: 2**64,
    "a very wide int": lambda: {"a": -(10**5000)},
    "an int as key": lambda: {1: 2},
    "None as key": lambda: {None: 2},
    "bytes": lambda: b"\0\xff",
    "a set": lambda: {1, 2},
    "a range": lambda: range(3),
    "a complex": lambda: 1j,
    "a class": lambda: dict,
    "a function": lambda: print,
    "an iterator": lambda: iter([1]),
    "a failing generator": failing,
    "an ellipsis": lambda: ...,
    "a mock": MagicMock,
    "an endless model": Endless,
    "a growing dict": lambda: Growing().holder,
    "an unreadable object": Unreadable,
    "a hostile dict": lambda: HostileDict(a=1),
    "a hostile mapping": HostileMapping,
    "a hostile list": lambda: HostileList([1]),
    "a hostile str": lambda: HostileStr("text"),
    "a hostile int": lambda: HostileInt(1),
}

hostile_values = st.recursive(
    st.sampled_from(sorted(HOSTILE)).map(lambda name: HOSTILE[name]()) | json_values,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.none(), inner, max_size=3)
    ),
    max_leaves=4,
)


class Ready:
    """Keeps one answer ready in the engine, for a request that may or may not come."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._next = engine.expect(answer("ok"))

    def taken(self) -> Exchange | None:
        """The request that came since the last call, if one did."""
        if not self._next.arrived.is_set():
            return None
        request, self._next = self._next, self._engine.expect(answer("ok"))
        return request

    def finish(self, client: pgml.OpenSourceAI) -> None:
        """See that the client and the engine still work, and use the answer up."""
        self.taken()
        completion = client.chat_completions_create("scripted", QUESTION)
        assert completion.choices[0].message.content == "ok"
        self._next.wait_arrived()
