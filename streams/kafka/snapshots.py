"""Snapshots on their compacted topic: one message per owner and subject, and one per owner with the
position of all its snapshots."""

from collections.abc import Sequence

from aiokafka import TopicPartition

from streams.kafka.fetcher import Fetcher
from streams.kafka.partition_writer import Message
from streams.log import StateSnapshot

POSITION = "position"
SEPARATOR = "\n"


def snapshot_messages(snapshots: Sequence[StateSnapshot]) -> list[Message]:
    """The messages of snapshots that are written together, and of their positions."""
    owners = {snapshot.owner: snapshot.position for snapshot in snapshots}
    return [
        *(snapshot_message(snapshot) for snapshot in snapshots),
        *(position_message(owner, position) for owner, position in owners.items()),
    ]


def snapshot_message(snapshot: StateSnapshot) -> Message:
    """The message of a snapshot; a tombstone without state."""
    key = f"{snapshot.owner}{SEPARATOR}{snapshot.subject}".encode()
    return Message(key, snapshot.state or None, [(POSITION, str(snapshot.position).encode())])


def position_message(owner: str, position: int) -> Message:
    return Message(owner.encode(), str(position).encode(), [])


async def read_snapshots(
    fetching: Fetcher, place: TopicPartition, owner: str, written: int
) -> tuple[int, list[StateSnapshot]]:
    """The position of all snapshots of `owner`, and those that are not empty.

    Reads at least up to the position `written`. Raises LogUnavailable.
    """
    wanted = f"{owner}{SEPARATOR}"
    position = 0
    found: dict[str, StateSnapshot] = {}
    end = max(written, await fetching.end(place))
    async for fetched in fetching.through(place, 0, end, compacted=True):
        for message in fetched.messages:
            key = (message.key or b"").decode()
            if key == owner and message.value is not None:
                position = int(message.value)
            elif key.startswith(wanted):
                subject = key[len(wanted) :]
                found.pop(subject, None)
                if message.value is not None:
                    of = int(dict(message.headers)[POSITION])
                    found[subject] = StateSnapshot(owner, place.partition, subject, of, message.value)
    return position, list(found.values())
