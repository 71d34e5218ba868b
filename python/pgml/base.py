"""The base of what a completion returns: a dict that also answers attributes.

It is a real dict: it prints, compares, pickles and goes through ``json.dumps`` as such. What is
inside it stays a plain dict or list until an attribute is asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from pgml.dump import dumped, dumped_json, options_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pgml.dump import DumpOptions

_Self = TypeVar("_Self", bound="Object")


class Object(dict[str, Any]):
    """A dict whose keys can also be read as attributes, all the way down.

    It also has the methods of a pydantic model, as the objects of the openai package are.
    """

    # The fields that OpenAI has, in its order.
    _fields: ClassVar[tuple[str, ...]] = ()
    # The classes of the objects inside, by key, and the keys that OpenAI has but may leave out.
    _classes: ClassVar[dict[str, type[Object]]] = {}
    _optional: ClassVar[frozenset[str]] = frozenset()
    # Keys by a second name, for engines that differ in the first.
    _aliases: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls) -> None:
        """Make properties of the keys that are declared: Python finds them several times faster."""
        super().__init_subclass__()
        declared = {name for base in cls.__mro__ for name in getattr(base, "__annotations__", ())}
        # One that is inherited is made anew, for what is inside it may be of another class here.
        for name in {*cls.__annotations__, *cls._classes} & declared:
            if not name.startswith("_"):
                setattr(cls, name, _property(name, cls._classes.get(name, Object)))

    def __getattr__(self, name: str) -> Any:
        """Return the value of a key, an object inside as an object that answers attributes too."""
        return _read(self, name, self._classes.get(name, Object))

    def _missing(self, name: str) -> Any:
        """Return what an attribute is that there is no key for."""
        if self._aliases.get(name) in self:
            return getattr(self, self._aliases[name])
        if name in self._optional:
            return None
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a key, or what is private to a tool and no part of the data: a name with ``_``."""
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self[name] = value

    def __delattr__(self, name: str) -> None:
        """Remove a key."""
        if name.startswith("_"):
            return super().__delattr__(name)
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}") from None

    def __bool__(self) -> bool:
        """Be true, as the objects of the openai package are, even without any key."""
        return True

    def __dir__(self) -> list[str]:
        """List the keys among the attributes."""
        return [*super().__dir__(), *self]

    def copy(self: _Self) -> _Self:
        """Return a shallow copy, of the same class."""
        return type(self)(self)

    def to_dict(self, **options: Unpack[DumpOptions]) -> dict[str, Any]:
        """Return a deep copy made of plain dicts and lists, without what is not there.

        Args:
            **options: Those of ``model_dump``. Default of ``exclude_unset``: True.

        """
        return dumped(self, options_of(options, exclude_unset=True, by_alias=True))

    def to_json(self, *, indent: int | None = 2, **options: Unpack[DumpOptions]) -> str:
        """Return the object as JSON, without what is not there.

        Args:
            indent: Spaces for each level, or None for one line. Default 2.
            **options: Those of ``model_dump``. Default of ``exclude_unset``: True.

        """
        return dumped_json(
            self, indent, False, options_of(options, exclude_unset=True, by_alias=True)
        )

    def model_dump(self, **options: Unpack[DumpOptions]) -> dict[str, Any]:
        """Return a deep copy made of plain dicts and lists, as a pydantic model's method does.

        Fields that OpenAI has and that are not there are None, unless ``exclude_unset`` is true.

        Args:
            **options: Pydantic's ``mode``, ``include``, ``exclude``, ``exclude_unset``,
                ``exclude_defaults`` and ``exclude_none``. Its others make a difference only to
                what ``parse`` has read.

        Raises:
            TypeError: Pydantic has no such option.

        """
        return dumped(self, options_of(options))

    def model_dump_json(
        self,
        *,
        indent: int | None = None,
        ensure_ascii: bool = False,
        **options: Unpack[DumpOptions],
    ) -> str:
        """Return what ``model_dump`` returns as JSON.

        Args:
            indent: Spaces for each level. Default None: one line.
            ensure_ascii: Whether to write other characters as escapes. Default False.
            **options: Those of ``model_dump``, but for ``mode``.

        """
        return dumped_json(self, indent, ensure_ascii, options_of(options))

    @property
    def model_extra(self) -> dict[str, Any]:
        """What there is besides the fields that OpenAI has."""
        return {name: self[name] for name in self if name not in self._fields}

    @property
    def model_fields_set(self) -> set[str]:
        """The fields that OpenAI has and that are there."""
        return {name for name in self if name in self._fields}

    def model_copy(
        self: _Self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> _Self:
        """Return a copy.

        Args:
            update: Keys to set in it. Default None: none.
            deep: Whether to copy what is inside too. Default False.

        """
        copied = copy.deepcopy(self) if deep else copy.copy(self)
        copied.update(update or {})
        return copied

    @classmethod
    def model_construct(
        cls: type[_Self], _fields_set: set[str] | None = None, **values: Any
    ) -> _Self:
        """Make an object of values, without checking them."""
        return cls(values)

    @classmethod
    def construct(cls: type[_Self], _fields_set: set[str] | None = None, **values: Any) -> _Self:
        """Do what ``model_construct`` does, under pydantic's old name for it."""
        return cls.model_construct(_fields_set, **values)

    @classmethod
    def model_validate(cls: type[_Self], obj: Any, **options: Any) -> _Self:
        """Make an object of a mapping, checked. It needs pydantic.

        Raises:
            ValidationError: Pydantic's: a field is missing, or of another type.

        """
        from pgml.schema import adapter

        return cast("_Self", adapter(cls).validate_python(obj, **options))

    @classmethod
    def model_validate_json(cls: type[_Self], json_data: str | bytes, **options: Any) -> _Self:
        """Make an object of a JSON text, checked. It needs pydantic."""
        from pgml.schema import adapter

        return cast("_Self", adapter(cls).validate_json(json_data, **options))

    @classmethod
    def model_json_schema(cls, **options: Any) -> dict[str, Any]:
        """Return the JSON schema of the class. It needs pydantic."""
        from pgml.schema import adapter

        return adapter(cls).json_schema(**options)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Tell pydantic how to read and write the class, for fields of it and for FastAPI."""
        from pgml.schema import core_schema_of

        return core_schema_of(cls, source, handler)


def _read(self: Object, name: str, cls: type[Object]) -> Any:
    try:
        value: Any = self[name]
    except KeyError:
        return self._missing(name)  # pyright: ignore[reportPrivateUsage]
    if type(value) is dict:
        # Wrapped values replace the plain ones, so that both ways in lead to the same object.
        value = self[name] = cls(cast("dict[str, Any]", value))
    elif type(value) is list:
        _wrap_items(cast("list[object]", value), cls)
    return cast("Any", value)


def _wrap_items(items: list[object], cls: type[Object]) -> None:
    """Make the plain dicts in a list answer attributes; lists stay the lists that they are."""
    for index, item in enumerate(items):
        if type(item) is dict:
            items[index] = cls(cast("dict[str, Any]", item))
        elif type(item) is list:
            _wrap_items(cast("list[object]", item), cls)


def _property(name: str, cls: type[Object]) -> property:
    def read(self: Object) -> Any:
        return _read(self, name, cls)

    # `__setattr__` and `__delattr__` come first: the second is there for those who look.
    def write(self: Object, value: Any) -> None:
        self[name] = value

    return property(read, write)
