"""Selects the result of a query by organization and id among several records."""

from collections.abc import Iterable

from schemas.envelope import MessageKey
from schemas.outcome import decides
from streams.log import Record


def stands(record: Record) -> bool:
    """False for outcomes that did not decide their command: its id may be used again."""
    return record.topic != "outcomes" or decides(record.envelope.data)


def by_organization(records: Iterable[Record]) -> list[Record]:
    """Of `records` with one id, for each organization the first that `stands`, else the last; sorted by
    organization."""
    found: dict[MessageKey, Record] = {}
    for record in records:
        before = found.get(record.envelope.key)
        if before is None or not stands(before):
            found[record.envelope.key] = record
    return [found[key] for key in sorted(found)]


def events_named(outcomes: Iterable[Record]) -> dict[int, int]:
    """The last position of events in `outcomes`, by partition."""
    ends: dict[int, int] = {}
    for record in outcomes:
        position = record.envelope.data.get("position")
        if isinstance(position, int):
            ends[record.partition] = max(position, ends.get(record.partition, 0))
    return ends
