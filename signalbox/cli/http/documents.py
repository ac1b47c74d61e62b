"""JSON values of the server, with their expected types."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

Document = dict[str, Any]


def document(value: Any) -> Document:
    """`value`, an object or missing."""
    return value or {}


def documents(value: Any) -> Sequence[Document]:
    """`value`, a list of objects or missing."""
    return value or ()


def is_object(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def at(value: Any, path: str) -> Any:
    """The value at a dotted path; None if missing."""
    for part in path.split("."):
        if not is_object(value):
            return None
        value = value.get(part)
    return value
