"""``model_dump`` of the objects: pydantic's options, for dicts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Literal, TypedDict, cast

IncEx = AbstractSet[int] | AbstractSet[str] | Mapping[int, Any] | Mapping[str, Any]
"""Which keys: a set of them, or a mapping to True or to keys further inside."""

_BASIC = (str, int, float, bool, type(None))


class DumpOptions(TypedDict, total=False):
    """The options of pydantic's ``model_dump``."""

    mode: Literal["json", "python"] | str
    include: IncEx | None
    exclude: IncEx | None
    exclude_unset: bool
    exclude_defaults: bool
    exclude_none: bool
    # These make a difference only to pydantic's own models and to what they hold.
    by_alias: bool | None
    use_api_names: bool
    context: Any
    exclude_computed_fields: bool
    round_trip: bool
    warnings: bool | Literal["none", "warn", "error"]
    fallback: Callable[[Any], Any] | None
    serialize_as_any: bool
    polymorphic_serialization: bool | None


def options_of(given: DumpOptions, **defaults: Any) -> DumpOptions:
    """Check the names of options, and add defaults."""
    unknown = given.keys() - DumpOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"{min(unknown)}: there is no such option; pydantic's are known")
    options: dict[str, Any] = {**defaults, **given}
    if "use_api_names" in options:
        options["by_alias"] = options.pop("use_api_names")
    return cast("DumpOptions", options)


def dumped(value: Any, options: DumpOptions) -> dict[str, Any]:
    """Return a deep copy of an object, made of plain dicts and lists."""
    inner: dict[str, Any] = {**options}
    include, exclude = inner.pop("include", None), inner.pop("exclude", None)
    result: dict[str, Any] = _dump(value, type(value), inner, include, exclude)
    return result


def dumped_json(value: Any, indent: int | None, ascii_only: bool, options: DumpOptions) -> str:
    """Return an object as JSON, in pydantic's layout."""
    return json.dumps(
        dumped(value, {**options, "mode": "json"}),
        indent=indent,
        ensure_ascii=ascii_only,
        separators=(",", ":") if indent is None else None,
    )


def _dump(value: Any, cls: Any, options: dict[str, Any], include: Any, exclude: Any) -> Any:
    if isinstance(value, _BASIC) and type(value) in _BASIC:
        return value
    if isinstance(value, dict):
        return _dump_dict(cast("Any", value), cls, options, include, exclude)
    if isinstance(value, list):
        items = cast("list[Any]", cast("object", value))
        chosen = (
            (item, _choice(index, len(items), include, exclude)) for index, item in enumerate(items)
        )
        return [_dump(item, cls, options, *choice) for item, choice in chosen if choice is not None]
    return _dump_leaf(value, options, include, exclude)


def _dump_dict(
    value: dict[str, Any], cls: Any, options: dict[str, Any], include: Any, exclude: Any
) -> dict[str, Any]:
    if type(value) is not dict:
        cls = type(value)
    fields = getattr(cls, "_fields", ())
    optional = getattr(cls, "_optional", ())
    classes = getattr(cls, "_classes", {})
    result: dict[str, Any] = {}
    for name in (*fields, *(name for name in value if name not in fields)):
        if name not in value and (options.get("exclude_unset") or name not in optional):
            continue
        item = value.get(name)
        # What is in a plain dict is data, and not a field that is None.
        if item is None and (
            (options.get("exclude_none") and fields)
            or (options.get("exclude_defaults") and name in optional)
        ):
            continue
        choice = _choice(name, 0, include, exclude)
        if choice is not None:
            result[name] = _dump(item, classes.get(name), options, *choice)
    return result


def _dump_leaf(value: Any, options: dict[str, Any], include: Any, exclude: Any) -> Any:
    """Dump what `parse` has read: a model, or whatever else pydantic can read."""
    if hasattr(value, "model_dump"):
        return value.model_dump(include=include, exclude=exclude, **options)
    try:
        from pydantic import TypeAdapter
    except ImportError:
        return value
    anything: Any = TypeAdapter(Any)
    return anything.dump_python(value, include=include, exclude=exclude, **options)


def _choice(key: Any, length: int, include: Any, exclude: Any) -> tuple[Any, Any] | None:
    """Return what to include and to exclude inside of a key, or None to leave the key out."""
    included = _asked("include", include, key, length)
    excluded = _asked("exclude", exclude, key, length)
    if excluded is True or (include is not None and included is None):
        return None
    return (None if isinstance(included, bool) else included, excluded or None)


def _asked(name: str, keys: Any, key: Any, length: int) -> Any:
    """Return what keys say of a key: None, True, False, or the keys that are meant inside of it."""
    if keys is None:
        return None
    if not isinstance(keys, (AbstractSet, Mapping)):
        raise TypeError(f"{name}: must be a set or a mapping, but is a {type(keys).__name__}")
    # Those of a list may be counted from its end, and "__all__" means every one.
    same = {key, "__all__", *([key - length] if isinstance(key, int) else [])}
    found: list[Any] = []
    for other in cast("Any", keys):
        if other in same:
            value: Any = cast("Any", keys)[other] if isinstance(keys, Mapping) else True
            found.append(True if value is ... else value)
    if not found:
        return None
    if any(value is True for value in found):
        return True
    nested: dict[Any, Any] = {}
    for value in found:
        inside: Any = value
        if isinstance(value, Mapping):
            nested.update(inside)
        elif value:
            nested.update(dict.fromkeys(inside, True))
    return nested or False
