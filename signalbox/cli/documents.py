"""JSON values as they come from the server, with the types they are expected to have."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

Document = dict[str, Any]


def document(value: Any) -> Document:
    """`value`, which is an object or missing."""
    return value or {}


def documents(value: Any) -> Sequence[Document]:
    """`value`, which is a list of objects or missing."""
    return value or ()


def is_object(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def at(value: Any, path: str) -> Any:
    """The value at a dotted path, None where there is none."""
    for part in path.split("."):
        if not is_object(value):
            return None
        value = value.get(part)
    return value
