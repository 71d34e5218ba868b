"""What pydantic and FastAPI need in order to read and to write the objects."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Optional, get_args, get_type_hints

from pydantic import TypeAdapter
from pydantic_core import core_schema

from pgml.dump import DumpOptions, dumped

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import GetCoreSchemaHandler

    from pgml.base import Object


_adapters: dict[type[Object], TypeAdapter[Any]] = {}


def adapter(cls: type[Object]) -> TypeAdapter[Any]:
    """Return what validates a class, which takes a while to make."""
    if cls not in _adapters:
        _adapters[cls] = TypeAdapter(cls)
    return _adapters[cls]


def core_schema_of(
    cls: type[Object], source: Any, handler: GetCoreSchemaHandler
) -> core_schema.CoreSchema:
    """Return pydantic's schema of a class: a dict with the fields that are declared, and others."""
    # What a generic class is of: `ParsedChatCompletion[Weather]`.
    parameters = dict(zip(getattr(cls, "__parameters__", ()), get_args(source), strict=False))
    # Not of the class's own names: there `bytes` and `object` are fields.
    names: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        names.update(vars(sys.modules[base.__module__]))
    hints = get_type_hints(cls, names, {})
    fields: dict[str, core_schema.TypedDictField] = {}
    declared, optional = cls._fields, cls._optional  # pyright: ignore[reportPrivateUsage]
    for name in (*declared, *hints):
        if name.startswith("_") or name in fields:
            continue
        hint = hints.get(name, Any)
        open_to = getattr(hint, "__parameters__", ())
        if open_to:
            hint = hint[tuple(parameters.get(parameter, Any) for parameter in open_to)]
        elif hint in parameters:
            hint = parameters[hint]
        if name in optional:
            # An engine may write null, where OpenAI leaves a field out.
            hint = Optional[hint]  # noqa: UP045
        fields[name] = core_schema.typed_dict_field(
            handler.generate_schema(hint), required=name in declared and name not in optional
        )

    def validate(value: Any, inner: Callable[[Any], Any]) -> Any:
        return value if isinstance(value, cls) else cls(inner(value))

    return core_schema.no_info_wrap_validator_function(
        validate,
        core_schema.typed_dict_schema(
            fields,
            extra_behavior="allow",
            cls=cls,
            cls_name=cls.__name__,
        ),
        serialization=core_schema.plain_serializer_function_ser_schema(_serialized, info_arg=True),
    )


def _serialized(value: Any, info: core_schema.SerializationInfo) -> Any:
    names = DumpOptions.__annotations__.keys()
    options: Any = {name: getattr(info, name) for name in names if hasattr(info, name)}
    return dumped(value, options)
