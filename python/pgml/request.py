"""A request on its way from a method's arguments to the Rust client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar, cast

from pgml._pgml import whole_number
from pgml.types import NOT_GIVEN, NotGiven, Parameters

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgml._pgml import Client
    from pgml.types import Message, Model, TimeoutLike

_T = TypeVar("_T")
# The specification's default. It is told from a caller's own 0.8 by being this very object.
DEFAULT_TEMPERATURE = float("0.8")
_FURTHER_PARAMETERS = frozenset(Parameters.__annotations__)
_HEADERS = frozenset({"x-request-id", "traceparent", "tracestate", "baggage"})
# A year. The Rust client wants a number.
_MOST_RETRIES = 1000
_FOREVER = 1e18
_NO_LIMIT = 365 * 24 * 60 * 60.0


class Caller:
    """The Rust client, with the settings of the Python client that calls it.

    The client and its namespace share it, so that ``client.timeout = …`` holds for both without the
    namespace referring to the client: a cycle would leave the closing to the garbage collector.
    """

    def __init__(
        self, client: Client, timeout: float | TimeoutLike | None, max_retries: int
    ) -> None:
        self.client = client
        self.timeout = timeout
        self.max_retries = whole_number("max_retries", max_retries, 0, _MOST_RETRIES)
        # Said now, not at the first call.
        self.seconds()

    def seconds(self, timeout: float | TimeoutLike | NotGiven | None = NOT_GIVEN) -> float:
        """Return the timeout of a call: its own, or else the client's."""
        seconds: Any = timeout if is_given(timeout) else self.timeout
        if hasattr(seconds, "read") and hasattr(seconds, "connect"):
            # httpx's Timeout, ours, or the openai package's. What it says of connections is for the
            # client's connect_timeout and acquire_timeout to say.
            seconds = seconds.read
        if seconds is None:
            return _NO_LIMIT
        if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
            # 0 < seconds is false for NaN, too.
            if 0 < seconds < _FOREVER:
                return float(seconds)
            raise ValueError(f"timeout: must be a number of seconds above 0, not {seconds}")
        raise TypeError(
            f"timeout: must be a number of seconds, a Timeout or None, not {seconds!r}: "
            "connect_timeout and acquire_timeout are arguments of the client"
        )


def request_body(
    model: Model,
    messages: Iterable[Message],
    max_tokens: int | NotGiven | None,
    temperature: float | NotGiven | None,
    n: int | NotGiven | None,
    chat_template: str | NotGiven | None,
    parameters: Parameters,
) -> dict[str, Any]:
    """Put the arguments into OpenAI's request body. What they may say is checked by the server."""
    if not _FURTHER_PARAMETERS.issuperset(parameters):
        name = min(parameters.keys() - _FURTHER_PARAMETERS)
        if name == "stream":
            raise TypeError(
                "unexpected keyword argument 'stream': which method is called says whether it "
                "streams; chat.completions.create has the argument"
            )
        raise TypeError(
            f"unexpected keyword argument {name!r}: "
            f"a parameter of the engine's own goes into extra_body={{{name!r}: …}}"
        )
    body: dict[str, Any] = {
        # A dict, from which the Rust client takes the token.
        "model": model if isinstance(model, str) else _plain_mapping(model),
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "n": n,
        "chat_template": chat_template,
        **parameters,
    }
    if temperature is DEFAULT_TEMPERATURE:
        # The extension fills it in, or what its administrator has set for the engine.
        del body["temperature"]
    if body.pop("extra_query", None):
        raise TypeError(
            "extra_query: cannot be sent: a statement has no query; "
            "what the engine is to know goes into extra_body"
        )
    headers = _headers(body.pop("extra_headers", None))
    if headers:
        body["extra_headers"] = headers
    if "response_format" in body:
        _check_format(body["response_format"])
    extra_body = body.pop("extra_body", None)
    if extra_body is not None and is_given(extra_body):
        if not isinstance(extra_body, Mapping):
            raise TypeError(f"extra_body: must be a mapping, but is a {type(extra_body).__name__}")
        body.update(cast("Mapping[str, Any]", extra_body))
    # The Rust client leaves out what is not given, here and further inside.
    return body


def is_given(value: _T | NotGiven) -> TypeGuard[_T]:
    """Whether a value is none of those that the openai package and this one leave out."""
    # By name, since the openai package need not be there.
    return type(value).__name__ not in ("NotGiven", "Omit")


def _headers(given: Any) -> dict[str, Any]:
    """Check the names of headers, by which the Rust client and the database find their values."""
    if not is_given(given) or given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"extra_headers: must be a mapping, but is a {type(given).__name__}")
    headers = cast("Mapping[str, Any]", given)
    for name in cast("Mapping[object, Any]", given):
        if not isinstance(name, str):
            raise TypeError(f"extra_headers: has a key that is not a str: {name!r}")
    # What names the calling program to an HTTP server has nobody to tell it to.
    headers = {
        name: value
        for name, value in headers.items()
        if is_given(value) and not name.lower().startswith(("user-agent", "x-stainless-"))
    }
    for name in headers:
        if name.lower() not in _HEADERS:
            raise TypeError(
                f"extra_headers: {name!r} cannot be sent: an engine gets X-Request-Id, "
                "traceparent, tracestate and baggage; what else it is to know goes into "
                "extra_body"
            )
    return {name.lower(): value for name, value in headers.items()}


def _check_format(form: Any) -> None:
    # `list[int]` is not a class, but has the class that it is made from.
    if isinstance(form, type) or isinstance(getattr(form, "__origin__", None), type):
        name = getattr(form, "__name__", repr(form))
        raise TypeError(
            f"response_format: must be a mapping such as {{'type': 'json_object'}}, not the class "
            f"{name}: to have the answer read into a class, call chat.completions.parse"
        )


def _plain_mapping(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    dump = getattr(value, "model_dump", None)
    return value if dump is None else dump(exclude_unset=True, mode="json")
