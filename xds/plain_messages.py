"""Envoy's messages as standard dataclasses, each made when it is first used.

envoy-data-plane generates pydantic dataclasses, whose validators take most of the time of importing it.
Nothing uses them: `xds.encoding.build` makes messages without, and tests ask Envoy whether they are valid.
Of the 550 classes that are imported a few are used, so a class has no fields and no `__init__` before
one of the two is asked for. The library's own functions take all these forms.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from pydantic import dataclasses as validated

_LIBRARY = "envoy_data_plane."
_FIELDS = "__dataclass_fields__"
_INIT = "__init__"
_validated: Callable[..., Any] = validated.dataclass


class _Unmade:
    """Stands for the fields of a class, and makes it a dataclass."""

    def __init__(self, cls: type[Any], options: dict[str, Any]) -> None:
        self._cls = cls
        self._options = options
        setattr(cls, _FIELDS, self)
        setattr(cls, _INIT, self._init)

    def __get__(self, _message: object, _kind: type[Any]) -> dict[str, Any]:
        cls = self._cls
        if vars(cls).get(_FIELDS) is self:
            delattr(cls, _FIELDS)
            delattr(cls, _INIT)
            dataclasses.dataclass(**self._options)(cls)
        return vars(cls)[_FIELDS]

    @property
    def _init(self) -> Callable[..., None]:
        def init(message: Any, /, *values: Any, **fields: Any) -> None:
            self.__get__(message, self._cls)
            vars(self._cls)[_INIT](message, *values, **fields)

        return init


def _dataclass(_cls: type[Any] | None = None, /, **options: Any) -> Any:
    """Like `pydantic.dataclasses.dataclass`; makes classes of the library standard dataclasses."""

    def decorated(cls: type[Any]) -> Any:
        if not cls.__module__.startswith(_LIBRARY):
            return _validated(**options)(cls)
        _Unmade(cls, {name: value for name, value in options.items() if name != "config"})
        return cls

    return decorated if _cls is None else decorated(_cls)


def use() -> None:
    """Patches pydantic, so that library modules imported from now on define standard dataclasses."""
    validated.__dict__["dataclass"] = _dataclass
