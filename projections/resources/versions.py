"""Computes a resource's document from its events. Pure; the tables are in `projections.resources.tables`.

A fold replaces fields of the document with those of an event; fields that the event declares and does not
carry are removed. An event that is also an entry of a part (a revision) has its objects and lists in that
entry only: the document refers to the entry and has the scalar values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from projections.readmodel import Recorded
from projections.shape import Shape, checked_data, shape_of
from schemas.aggregate import Aggregate
from schemas.catalog import AGGREGATES
from schemas.envelope import QualifiedName
from schemas.message import Event

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventEffect:
    """The effect of an event type on its aggregate. `parts` are indexes into the aggregate's parts.

    `nothing` are the entries of a resource that has none.
    """

    aggregate: Aggregate
    shape: Shape
    declared: frozenset[str]
    ends: bool
    parts: tuple[int, ...]
    nothing: tuple[None, ...]


def _effect(aggregate: Aggregate, event: type[Event]) -> EventEffect:
    shape = shape_of(event)
    return EventEffect(
        aggregate=aggregate,
        shape=shape,
        declared=shape.declared - {"organization", "name"},
        ends=event.effect == "end",
        parts=tuple(i for i, p in enumerate(aggregate.parts) if p.event is event),
        nothing=(None,) * len(aggregate.parts),
    )


EFFECTS: Mapping[str, EventEffect] = MappingProxyType(
    {e.type(): _effect(a, e) for a in AGGREGATES for e in a.events}
)


_CONTAINERS = (dict, list)


class Version(NamedTuple):
    """A resource from one event to the next. `document` is None once it ended.

    `entries` has, per part of the aggregate, the position of the newest entry.
    """

    organization: str
    name: str
    version: int
    position: int
    since: str
    created: str
    document: Document | None
    entries: tuple[int | None, ...]


def fold(
    before: Version | None, effect: EventEffect, position: int, time: str, data: Mapping[str, Any]
) -> Version:
    """The resource after one more event."""
    # Intervals of one resource never overlap, also when the clock went back between two events.
    since = time if before is None or time > before.since else before.since
    version = 1 if before is None else before.version + 1
    organization, name = data["organization"], data["name"]
    if effect.ends:
        created = since if before is None else before.created
        return Version(organization, name, version, position, since, created, None, effect.nothing)
    if before is None or before.document is None:
        created, entries, document = since, effect.nothing, Document()
    else:
        created, entries, document = before.created, before.entries, before.document
        if document.keys() <= effect.declared:
            document = Document()
        else:
            document = {f: value for f, value in document.items() if f not in effect.declared}
    fields = own_fields(data)
    if effect.parts:
        document |= {f: value for f, value in fields.items() if not isinstance(value, _CONTAINERS)}
        entries = tuple([position if i in effect.parts else e for i, e in enumerate(entries)])
    else:
        document |= fields
        if any(entries):
            for field in effect.declared - fields.keys():
                document[field] = None  # hides the field of an entry
    return Version(organization, name, version, position, since, created, document, entries)


def own_fields(data: Mapping[str, Any]) -> Document:
    """The fields of checked data without `organization` and `name`."""
    fields = {**data}
    del fields["organization"], fields["name"]
    return fields


def document_with_entries(
    name: str, document: Document, entries: Sequence[tuple[int, Document]] = ()
) -> Document:
    """The document for readers: its fields override those of `entries`, which are (position, document)."""
    result: Document = {"name": name}
    for _, entry in sorted(entries, key=lambda e: e[0]):
        result.update(entry)
    result.update(document)
    return {field: value for field, value in result.items() if value is not None}


VersionInterval = tuple[Version, int | None, str | None]
"""A version with its end (position and time); None if it is the current one."""


class EndedResource(NamedTuple):
    """The end of a resource; it closes entries from before the batch."""

    organization: str
    name: str
    valid_to: int
    until: str


class AddedEntry(NamedTuple):
    """An entry of a part, kept for ever; with its end if the resource ended in the same batch."""

    organization: str
    name: str
    position: int
    valid_to: int | None
    until: str | None
    key: str
    since: str
    version: int
    document: Document


class VersionChanges(NamedTuple):
    """The changes of a batch to one aggregate.

    `closed`: versions from before the batch that got an end; `spans`: versions of the batch; `ended`:
    resources that ended, and with them their entries.
    """

    closed: list[VersionInterval]
    spans: list[VersionInterval]
    ended: list[EndedResource]
    added: tuple[list[AddedEntry], ...]


class ResourceEvent(NamedTuple):
    effect: EventEffect
    key: QualifiedName
    record: Recorded


def events_by_aggregate(records: Sequence[Recorded]) -> dict[str, list[ResourceEvent]]:
    """Checked records by the name of their aggregate, in order. Raises Unprojectable."""
    result: dict[str, list[ResourceEvent]] = {}
    for record in records:
        envelope = record.envelope
        effect = EFFECTS.get(envelope.type)
        data = checked_data(effect.shape if effect else None, envelope)
        if effect is not None:
            task = ResourceEvent(effect, (data["organization"], data["name"]), record)
            result.setdefault(effect.aggregate.name, []).append(task)
    return result


def fold_batch(
    aggregate: Aggregate, current: Mapping[QualifiedName, Version], batch: Sequence[ResourceEvent]
) -> VersionChanges:
    """The changes by `batch` (of one aggregate), given the current versions of the resources in it."""
    changes = VersionChanges([], [], [], tuple([] for _ in aggregate.parts))
    spans = changes.spans
    latest = dict(current)
    fresh: dict[QualifiedName, int] = {}  # index in `spans` of the newest version
    entries: dict[QualifiedName, list[tuple[int, int]]] = {}  # indexes in `added` of open entries
    for effect, key, record in batch:
        data = record.envelope.data
        before = latest.get(key)
        after = fold(before, effect, record.position, record.envelope.time, data)
        if before is not None:
            at = fresh.get(key)
            if at is None:
                changes.closed.append((before, after.position, after.since))
            else:
                spans[at] = (before, after.position, after.since)
            if effect.ends:
                changes.ended.append(EndedResource(*key, after.position, after.since))
                for part, i in entries.pop(key, ()):
                    added = changes.added[part]
                    added[i] = added[i]._replace(valid_to=after.position, until=after.since)
        for part in effect.parts:
            added = changes.added[part]
            entries.setdefault(key, []).append((part, len(added)))
            entry = str(data[aggregate.parts[part].key])
            added.append(
                AddedEntry(
                    *key, after.position, None, None, entry, after.since, after.version, own_fields(data)
                )
            )
        latest[key] = after
        fresh[key] = len(spans)
        spans.append((after, None, None))
    return changes
