"""A request on its way from a method's arguments to the Rust client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pgml.types import Parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgml._pgml import Client
    from pgml.types import Message, Model

_FURTHER_PARAMETERS = frozenset(Parameters.__annotations__)


class Caller(NamedTuple):
    """The Rust client, with the settings of the Python client that calls it."""

    client: Client
    timeout: float
    max_retries: int


def request_body(
    model: Model,
    messages: Sequence[Message],
    max_tokens: int | None,
    temperature: float | None,
    n: int | None,
    chat_template: str | None,
    parameters: Parameters,
) -> dict[str, Any]:
    """Put the arguments into OpenAI's request body. What they may say is checked by the server."""
    if not _FURTHER_PARAMETERS.issuperset(parameters):
        name = min(parameters.keys() - _FURTHER_PARAMETERS)
        raise TypeError(
            f"unexpected keyword argument {name!r}: "
            f"a parameter of the engine's own goes into extra_body={{{name!r}: …}}"
        )
    body: dict[str, Any] = {
        # A dict, from which the Rust client takes the token.
        "model": model if isinstance(model, str) else _plain_mapping(model),
        "messages": messages if isinstance(messages, (list, tuple, str)) else _listed(messages),
        "max_tokens": max_tokens,
        "temperature": temperature,
        "n": n,
        "chat_template": chat_template,
        **parameters,
    }
    extra_body = body.pop("extra_body", None)
    if extra_body is not None:
        if not isinstance(extra_body, Mapping):
            raise TypeError(f"extra_body: must be a mapping, but is a {type(extra_body).__name__}")
        body.update(extra_body)
    return body


def _plain_mapping(value: Any) -> Any:
    return dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value


def _listed(value: Any) -> Any:
    """Make a list of any iterable of messages; what is none of that is the server's to refuse."""
    if isinstance(value, Iterator):
        return list(cast("Iterator[object]", value))
    return value
