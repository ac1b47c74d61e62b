"""Reads a resource from the event log, if the read models do not have it yet, or any more."""

from api.call import Call
from schemas.aggregate import Aggregate
from schemas.catalog import EVENTS


async def exists_and_version(call: Call, aggregate: Aggregate, name: str) -> tuple[bool, int]:
    """Whether the resource exists, and its version: the number of its events, also after its end."""
    subject = aggregate.subject(call.organization, name)
    count, last, after = 0, None, 0
    while True:
        records = await call.services.log.read_subject("events", subject, after=after, limit=1000)
        count += len(records)
        if not records:
            break
        last, after = records[-1].envelope, records[-1].position
    if last is None:
        return False, 0
    event = EVENTS.get(last.type)
    return event is None or event.effect != "end", count
