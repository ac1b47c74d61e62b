"""The hash chain of the events topic: proof that nothing was changed, left out or reordered.

Each event counts one further than its predecessor (`sequence`, from 1) and carries its hash
(`previoushash`); see `schemas.envelope.Envelope.hash`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from schemas.envelope import GENESIS, Envelope
from streams.log import Log
from streams.skip_decisions import skipped

BATCH = 1000


@dataclass(frozen=True, slots=True)
class Link:
    """Where the chain stands after an event."""

    sequence: int
    hash: str


START = Link(0, GENESIS)


@dataclass(frozen=True, slots=True)
class Break:
    """The first event that does not follow from the one before it."""

    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What was verified: `events` many, up to position `last` whose event hashes to `head`.

    `broken` is the first break; nothing after it was looked at, and `last` and `head` are before it.
    """

    partition: int
    events: int
    last: int
    head: str
    broken: Break | None = None


def link_of(envelope: Envelope) -> Link:
    """Where the chain stands after this event, trusting it. Raises ValueError without a sequence."""
    return Link(int(envelope.sequence), envelope.hash())


def fault(before: Link, envelope: Envelope) -> str | None:
    """Why this event does not follow `before`; None when it does."""
    expected = f"{before.sequence + 1:020d}"
    if envelope.sequence != expected:
        return f"its sequence is {envelope.sequence or 'missing'} where {expected} must follow"
    if envelope.previoushash != before.hash:
        return (
            f"its previoushash is {envelope.previoushash or 'missing'}, "
            f"the event before it has the hash {before.hash}"
        )
    return None


async def verify(
    log: Log, partition: int, *, after: int = 0, progress: Callable[[int], None] | None = None
) -> ChainReport:
    """Follows the chain from the event at position `after`, which is trusted, to the end as of now.

    `progress` is told the position reached, about every thousand events. Raises ValueError when there
    is no event at `after`, LogUnavailable, LogDamaged.
    """
    link = START
    if after > 0:
        trusted = await log.read("events", partition, after - 1, 1)
        if not trusted or trusted[0].position != after:
            raise ValueError(f"events/{partition} has no event at position {after}")
        link = link_of(trusted[0].envelope)
    end = await log.end("events", partition)
    last, events = after, 0
    while last < end:
        records = await log.read("events", partition, last, BATCH)
        for record in records:
            if record.fault is not None and await skipped(log, partition, record.position):
                last = record.position
                continue
            reason = record.fault.reason if record.fault else fault(link, record.envelope)
            if reason is not None:
                return ChainReport(partition, events, last, link.hash, Break(record.position, reason))
            link = Link(link.sequence + 1, record.envelope.hash())
            last, events = record.position, events + 1
        if not records:
            break
        if progress is not None:
            progress(last)
    return ChainReport(partition, events, last, link.hash)
