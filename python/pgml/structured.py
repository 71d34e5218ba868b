"""Types that an answer is read into, and their JSON schemas, which the engine is held to.

Strict schemas follow the rules of OpenAI's structured outputs: every property is required, no
others are allowed, and a `$ref` stands alone. Otherwise a model may leave out what has a default.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from pgml.request import is_given


class Form:
    """A type that an answer is to be read into.

    Args:
        argument: The argument that gave the type, for errors.
        target: A pydantic model, or anything else that pydantic's ``TypeAdapter`` takes, or one.

    Raises:
        TypeError: Pydantic can make no JSON schema of it.

    """

    def __init__(self, argument: str, target: Any) -> None:
        # pydantic is optional, and few programs get here.
        from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

        try:
            adapter = adapter_of(target)
            schema = adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError) as error:
            raise TypeError(
                f"{argument}: must be a pydantic model, or a type that pydantic knows, not "
                f"{target!r}: {error.message}"
            ) from None
        self.read: Callable[[str], Any] = adapter.validate_json
        self.schema: dict[str, Any] = _strict(schema, copy.deepcopy(schema), frozenset())
        name: str = target.__name__ if inspect.isclass(target) else schema.get("title", "answer")
        # What OpenAI allows in a name.
        self.name = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:64]


def adapter_of(target: Any) -> Any:
    """Return pydantic's ``TypeAdapter`` of a type, or the one that is given."""
    from pydantic import TypeAdapter

    if isinstance(target, TypeAdapter):
        return cast("Any", target)
    adapter: Any = TypeAdapter
    return adapter(target)


def form_of(response_format: Any) -> Form | None:
    """Return the type of a ``response_format``; None if it is OpenAI's own, or not given."""
    if response_format is None or not is_given(response_format):
        return None
    if isinstance(response_format, Mapping):
        return None
    return Form("response_format", response_format)


def wire_format(response_format: Any, form: Form | None) -> Any:
    """Return the ``response_format`` that the engine gets."""
    if form is None:
        return response_format
    json_schema = {"name": form.name, "strict": True, "schema": form.schema}
    return {"type": "json_schema", "json_schema": json_schema}


def _strict(schema: Any, root: dict[str, Any], within: frozenset[str]) -> Any:
    """Make a schema and those inside it strict, in place.

    References lead into ``root``, which stays as it was; ``within`` are those on the way here.
    """
    if not isinstance(schema, dict):
        return schema
    node = cast("dict[str, Any]", schema)
    for name in ("$defs", "definitions"):
        for definition in cast("dict[str, Any]", node.get(name) or {}).values():
            _strict(definition, root, within)
    if node.get("type") == "object":
        node.setdefault("additionalProperties", False)
    properties = node.get("properties")
    if isinstance(properties, dict):
        named = cast("dict[str, Any]", properties)
        node["required"] = list(named)
        for name, inside in named.items():
            named[name] = _strict(inside, root, within)
    if "items" in node:
        node["items"] = _strict(node["items"], root, within)
    if isinstance(node.get("anyOf"), list):
        node["anyOf"] = [_strict(variant, root, within) for variant in node["anyOf"]]
    if isinstance(node.get("allOf"), list):
        parts = [_strict(part, root, within) for part in node["allOf"]]
        if len(parts) == 1:
            del node["allOf"]
            node.update(parts[0])
        else:
            node["allOf"] = parts
    if "default" in node and node["default"] is None:
        del node["default"]
    ref = node.get("$ref")
    if isinstance(ref, str) and len(node) > 1:
        del node["$ref"]
        if ref in within:
            # It contains itself: what stands beside the reference has to go.
            node.clear()
            node["$ref"] = ref
            return node
        beside = dict(node)
        node.update(copy.deepcopy(_resolved(ref, root)))
        node.update(beside)
        return _strict(node, root, within | {ref})
    return node


def _resolved(ref: str, root: dict[str, Any]) -> dict[str, Any]:
    found: Any = root
    for step in ref.removeprefix("#/").split("/"):
        found = found[step]
    return cast("dict[str, Any]", found)
