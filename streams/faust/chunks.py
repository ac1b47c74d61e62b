"""Messages of one partition as they were fetched together."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

CHUNK = 500
"""Maximum number of messages that are passed on, and written, together."""


class TopicPartition(NamedTuple):
    """A topic's partition, by Kafka's name of the topic. Equal to Faust's and aiokafka's own."""

    topic: str
    partition: int


class Raw(Protocol):
    """The used part of an aiokafka ConsumerRecord."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class Chunk(NamedTuple):
    """Messages of one partition as they came; `after` is the position of the one fetched before them."""

    after: int
    records: Sequence[Raw]


def together(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The same messages in fewer chunks, where one begins right after the other, of no more than `CHUNK`."""
    joined: list[Chunk] = []
    for chunk in chunks:
        before = joined[-1] if joined else None
        if (
            before is not None
            and before.records
            and chunk.after == before.records[-1].offset + 1
            and len(before.records) + len(chunk.records) <= CHUNK
        ):
            joined[-1] = Chunk(before.after, [*before.records, *chunk.records])
        else:
            joined.append(chunk)
    return joined
