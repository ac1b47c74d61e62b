"""The shape of recorded data, checked without building models: it was validated before it was recorded."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from projections.readmodel import Recorded, Unprojectable
from schemas.envelope import Envelope
from schemas.message import Message
from schemas.status import STATUSES, Status


@dataclass(frozen=True, slots=True)
class Shape:
    """The required and the declared fields of a message type."""

    required: frozenset[str]
    declared: frozenset[str]


def shape_of(message: type[Message]) -> Shape:
    fields = message.model_fields
    return Shape(frozenset(n for n, f in fields.items() if f.is_required()), frozenset(fields))


def shapes(messages: Iterable[type[Message]]) -> Mapping[str, Shape]:
    """By CloudEvents type."""
    return {m.type(): shape_of(m) for m in messages}


def checked_data(shape: Shape | None, envelope: Envelope) -> dict[str, Any]:
    """The data of `envelope`. Raises Unprojectable when a field is missing or unknown."""
    if shape is None:
        raise Unprojectable(f"the type {envelope.type!r} is not known here")
    data = envelope.data
    if not shape.required <= data.keys():
        raise Unprojectable(f"{envelope.type} lacks {', '.join(sorted(shape.required - data.keys()))}")
    if not data.keys() <= shape.declared:
        raise Unprojectable(f"{envelope.type} has unknown {', '.join(sorted(data.keys() - shape.declared))}")
    return data


def checked_data_of(message: type[Status], records: Iterable[Recorded]) -> Iterator[dict[str, Any]]:
    """The data of those records of the status topic that are of one type. Raises Unprojectable."""
    for record in records:
        data = checked_data(_STATUSES.get(record.envelope.type), record.envelope)
        if record.envelope.type == message.type():
            yield data


_STATUSES = shapes(STATUSES)
