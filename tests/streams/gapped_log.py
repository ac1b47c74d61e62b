"""A log in memory whose positions have gaps, as transactions leave them on Kafka."""

from collections.abc import Sequence
from dataclasses import replace

from schemas.envelope import Envelope
from streams.log import Fault, Record, Topic
from tests.streams.memory_log import MemoryLog

STEP = 3


class GappedLog(MemoryLog):
    """The n-th record of a partition stands at 3n. What is in `faults` cannot be read."""

    def __init__(self, partitions: int = 1) -> None:
        super().__init__(partitions)
        self.faults: dict[str, Fault] = {}
        self.reads: list[tuple[Topic, int, int]] = []

    async def append(self, topic: Topic, envelopes: Sequence[Envelope]) -> list[int]:
        return [position * STEP for position in await super().append(topic, envelopes)]

    async def read(self, topic: Topic, partition: int, after: int, limit: int) -> list[Record]:
        self.reads.append((topic, partition, after))
        records = await super().read(topic, partition, after // STEP, limit)
        return [replace(r, position=r.position * STEP, fault=self.faults.get(r.envelope.id)) for r in records]

    async def end(self, topic: Topic, partition: int) -> int:
        return await super().end(topic, partition) * STEP

    def readable(self, topic: Topic, partition: int) -> int:
        return super().readable(topic, partition) * STEP

    async def wait(self, topic: Topic, partition: int, after: int) -> None:
        await super().wait(topic, partition, after // STEP)
