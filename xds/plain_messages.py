"""Envoy's messages as standard dataclasses.

envoy-data-plane generates pydantic dataclasses, whose validators take most of the time of importing it.
Nothing uses them: `xds.encoding.build` makes messages without, and tests ask Envoy whether they are valid.
The library's own functions take both forms.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from pydantic import dataclasses as validated

_LIBRARY = "envoy_data_plane."
_validated: Callable[..., Any] = validated.dataclass


def _dataclass(_cls: type[Any] | None = None, /, **options: Any) -> Any:
    """As `pydantic.dataclasses.dataclass`, but for the classes of the library."""

    def decorated(cls: type[Any]) -> Any:
        if not cls.__module__.startswith(_LIBRARY):
            return _validated(**options)(cls)
        return dataclasses.dataclass(**{name: value for name, value in options.items() if name != "config"})(
            cls
        )

    return decorated if _cls is None else decorated(_cls)


def use() -> None:
    """For the modules of the library that are imported from now on."""
    validated.__dict__["dataclass"] = _dataclass
