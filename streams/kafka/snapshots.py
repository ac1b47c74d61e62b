"""Snapshots on their compacted topic: one message per owner and subject, and one per owner with the
position they all stand for."""

from aiokafka import TopicPartition

from streams.kafka.fetching import Fetching
from streams.kafka.writing import Message
from streams.log import Snapshot

POSITION = "position"
SEPARATOR = "\n"
WAIT_MS = 200
"""What was written a moment ago is waited for; all else is there."""


def snapshot_message(snapshot: Snapshot) -> Message:
    """Without state it is a tombstone: the subject is gone."""
    key = f"{snapshot.owner}{SEPARATOR}{snapshot.subject}".encode()
    return Message(key, snapshot.state or None, [(POSITION, str(snapshot.position).encode())])


def position_message(owner: str, position: int) -> Message:
    return Message(owner.encode(), str(position).encode(), [])


async def read_snapshots(
    fetching: Fetching, place: TopicPartition, owner: str, written: int
) -> tuple[int, list[Snapshot]]:
    """The position all snapshots of `owner` stand for, and those that are not empty.

    Reads at least up to the position `written`. Raises LogUnavailable.
    """
    wanted = f"{owner}{SEPARATOR}"
    position = 0
    found: dict[str, Snapshot] = {}
    at = 0
    end = max(written, await fetching.end(place))
    while at < end:
        fetched = await fetching.fetch(place, at, wait_ms=WAIT_MS)
        for message in fetched.messages:
            key = (message.key or b"").decode()
            if key == owner and message.value is not None:
                position = int(message.value)
            elif key.startswith(wanted):
                subject = key[len(wanted) :]
                found.pop(subject, None)
                if message.value is not None:
                    of = int(dict(message.headers)[POSITION])
                    found[subject] = Snapshot(owner, place.partition, subject, of, message.value)
        if fetched.following == at and fetched.stable >= end:
            break
        at = max(at, fetched.following)
    return position, list(found.values())
