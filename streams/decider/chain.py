"""The hash chain of the events topic: proof that nothing was changed, left out or reordered.

Each event has the `sequence` after its predecessor's (from 1) and the predecessor's hash (`previoushash`);
see `schemas.envelope.Envelope.hash`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from schemas.envelope import Envelope
from streams.decider.head import ChainHead
from streams.decider.skip_decisions import skipped
from streams.log import Log

BATCH = 1000


@dataclass(frozen=True, slots=True)
class Break:
    """The first event that does not follow from the one before it."""

    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class ChainReport:
    """The verified events: their number, and the position (`last`) and hash (`head`) of the last one.

    `broken` is the first break; `last` and `head` are before it, and nothing after it was verified.
    """

    partition: int
    events: int
    last: int
    head: str
    broken: Break | None = None


def fault(before: ChainHead, envelope: Envelope) -> str | None:
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

    `progress` is called with the verified position, about every thousand events. Raises ValueError if there
    is no event at `after`, LogUnavailable, LogDamaged.
    """
    head = ChainHead()
    if after > 0:
        trusted = await log.read("events", partition, after - 1, 1)
        if not trusted or trusted[0].position != after:
            raise ValueError(f"events/{partition} has no event at position {after}")
        head = head.after(trusted[0].envelope, after)
    end = await log.end("events", partition)
    last, events = after, 0
    while last < end:
        records = await log.read("events", partition, last, BATCH)
        for record in records:
            if record.fault is not None and await skipped(log, partition, record.position):
                last = record.position
                continue
            reason = record.fault.reason if record.fault else fault(head, record.envelope)
            if reason is not None:
                return ChainReport(partition, events, last, head.hash, Break(record.position, reason))
            head = head.after(record.envelope, record.position)
            last, events = record.position, events + 1
        if not records:
            break
        if progress is not None:
            progress(last)
    return ChainReport(partition, events, last, head.hash)
