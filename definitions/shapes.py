"""The file form of models: field names in camelCase, durations as text. Derived from the models."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from definitions.durations import milliseconds
from definitions.source.document_reader import Node
from schemas.aggregates.api import Milliseconds


@dataclass(frozen=True, slots=True)
class Leaf:
    """A value with the same form in the file and in the model."""


@dataclass(frozen=True, slots=True)
class Duration:
    """Milliseconds in the model, `15s` in the file."""


@dataclass(frozen=True, slots=True)
class ListOf:
    item: "Shape"


@dataclass(frozen=True, slots=True)
class Member:
    """A field of a model: its name in the model, and the shape of its value."""

    name: str
    shape: "Shape"
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A mapping: fields by their name in the file."""

    members: Mapping[str, Member]

    def by_name(self, name: str) -> tuple[str, Member] | None:
        """The field `name` of the model, with its name in the file."""
        return next(((written, m) for written, m in self.members.items() if m.name == name), None)


Shape = Leaf | Duration | ListOf | Record


@cache
def record(model: type[BaseModel]) -> Record:
    hints = get_type_hints(model, include_extras=True)
    return Record(
        {
            to_camel(name): Member(name, _shape(hints[name]), _hint(info.description, info.examples))
            for name, info in model.model_fields.items()
        }
    )


def _hint(description: str | None, examples: Sequence[Any] | None) -> str:
    if not examples:
        return description or ""
    return f"{description} Such as {examples[0]}" if description else f"it must be like {examples[0]}"


def _shape(hint: Any) -> Shape:
    if hint == Milliseconds:
        return Duration()
    origin = get_origin(hint)
    if origin is Annotated:
        return _shape(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        branches = [_shape(arg) for arg in get_args(hint) if arg is not type(None)]
        return branches[0] if len(branches) == 1 else Leaf()
    if origin in (tuple, list):
        return ListOf(_shape(get_args(hint)[0]))
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return record(hint)
    return Leaf()


def translated(node: Node, shape: Shape) -> Any:
    """The data for the model, not validated. Unknown fields and invalid durations are errors and left out."""
    value = node.value
    if isinstance(shape, Record) and isinstance(value, dict):
        fields = node.fields(shape.members)
        return {shape.members[k].name: translated(n, shape.members[k].shape) for k, n in fields.items()}
    if isinstance(shape, ListOf) and isinstance(value, list):
        return [translated(item, shape.item) for item in node.items()]
    if isinstance(shape, Duration) and value is not None:
        return milliseconds_at(node)
    return value


def milliseconds_at(node: Node) -> int | None:
    """The duration at `node`; None, and an error, when it is invalid."""
    value = node.value
    if isinstance(value, int) and not isinstance(value, bool) and value == 0:
        return 0
    try:
        return milliseconds(
            value if isinstance(value, str) else node.reader.source_map.plain(node.pointer) or ""
        )
    except ValueError as error:
        node.error("duration", str(error))
        return None
