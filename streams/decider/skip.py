"""Skips unreadable records of the event log. The decision to skip one is itself on the log.

A record may be skipped only when the hash chain continues without it: then it never was an event. A record
that a later event is chained to cannot be left out of the history.
"""

from collections.abc import Sequence

from schemas.envelopes import envelope_for
from schemas.parked import RecordSkipped
from streams.decider.head import ChainHead
from streams.decider.skip_decisions import record_subject, skipped
from streams.log import Log, LogError, Record

SOURCE = "/signalbox/log-skip"
BATCH = 1000


class CannotSkip(LogError):
    """The record cannot be skipped; the text gives the reason."""


async def skip(log: Log, partition: int, position: int, reason: str, who: str) -> RecordSkipped:
    """Skips a record of the event log from now on, by a message on the log.

    No decider may run on the partition. Raises CannotSkip, LogUnavailable, LogDamaged.
    """
    record = await _record(log, partition, position)
    if record.fault is None:
        raise CannotSkip(
            f"the record at events/{partition} position {position} can be read; it stops nothing"
        )
    if await skipped(log, partition, position):
        raise CannotSkip(f"the record at events/{partition} position {position} is skipped already")
    before = await _head_before(log, partition, position)
    following = await _next_readable(log, partition, position)
    if following is not None and following.envelope.previoushash != before.hash:
        raise CannotSkip(
            f"the event at events/{partition} position {following.position} follows from the record at "
            f"{position}: it is one of the events, and damaged. Restore the log from a backup"
        )
    message = RecordSkipped(
        name=record.envelope.id,
        topic="events",
        partition=partition,
        position=position,
        reason=reason,
        fault=record.fault.reason[:1000],
        size=len(record.fault.value),
    )
    subject = record_subject(partition, position)
    envelope = envelope_for(
        message, source=SOURCE, subject=subject, partitionkey="", authtype="user", authid=who
    )
    await log.append("parked", [envelope])
    return message


async def _record(log: Log, partition: int, position: int) -> Record:
    end = await log.end("events", partition)
    found = await log.read("events", partition, position - 1, 1) if 0 < position <= end else []
    if not found or found[0].position != position:
        raise CannotSkip(f"there is no record at events/{partition} position {position}, which ends at {end}")
    return found[0]


async def _head_before(log: Log, partition: int, position: int) -> ChainHead:
    """The chain head before a position."""
    upto = position - 1
    while upto > 0:
        records = await log.read("events", partition, max(upto - BATCH, 0), BATCH)
        for record in reversed([one for one in records if one.position <= upto]):
            if record.fault is None and record.envelope.previoushash:
                return ChainHead().after(record.envelope, record.position)
        upto -= BATCH
    return ChainHead()


async def _next_readable(log: Log, partition: int, position: int) -> Record | None:
    while records := await log.read("events", partition, position, BATCH):
        readable: Sequence[Record] = [one for one in records if one.fault is None]
        if readable:
            return readable[0]
        position = records[-1].position
    return None
