"""A log in memory: the port as the projection runner uses it, for tests that need no durability."""

import asyncio
from collections.abc import Sequence

from schemas.envelope import Envelope
from streams.log import Record, Snapshot, Topic, Transaction


class MemoryLog:
    def __init__(self, partitions: int = 1) -> None:
        self._partitions = partitions
        self._records: dict[tuple[Topic, int], list[Record]] = {}
        self._grown = asyncio.Condition()

    @property
    def partitions(self) -> int:
        return self._partitions

    def partition_of(self, key: str) -> int:
        return sum(key.encode()) % self._partitions

    async def claim(self, partition: int) -> None:
        return None

    async def next_position(self, partition: int) -> int:
        return await self.end("events", partition) + 1

    async def append(self, topic: Topic, envelopes: Sequence[Envelope]) -> list[int]:
        positions: list[int] = []
        for envelope in envelopes:
            partition = self.partition_of(envelope.partitionkey)
            records = self._records.setdefault((topic, partition), [])
            records.append(Record(topic, partition, len(records) + 1, envelope))
            positions.append(len(records))
        async with self._grown:
            self._grown.notify_all()
        return positions

    async def commit(self, transaction: Transaction) -> list[list[int]]:
        return [await self.append(a.topic, a.envelopes) for a in transaction.appends]

    async def read(self, topic: Topic, partition: int, after: int, limit: int) -> list[Record]:
        return self._records.get((topic, partition), [])[after : after + limit]

    async def read_subject(
        self, topic: Topic, subject: str, *, after: int = 0, limit: int = 1000
    ) -> list[Record]:
        everything = [r for (t, _), rs in self._records.items() if t == topic for r in rs]
        return [r for r in everything if r.envelope.subject == subject and r.position > after][:limit]

    async def find(self, topic: Topic, id: str) -> Record | None:
        return (await self.find_all(topic, [id])).get(id)

    async def find_all(
        self, topic: Topic, ids: Sequence[str], partition: int | None = None
    ) -> dict[str, Record]:
        found: dict[str, Record] = {}
        for (t, p), records in self._records.items():
            for record in records if t == topic and partition in (None, p) else ():
                if record.envelope.id in ids:
                    found.setdefault(record.envelope.id, record)
        return found

    async def end(self, topic: Topic, partition: int) -> int:
        return len(self._records.get((topic, partition), []))

    async def wait(self, topic: Topic, partition: int, after: int) -> None:
        async with self._grown:
            await self._grown.wait_for(lambda: len(self._records.get((topic, partition), [])) > after)

    async def consumed(self, consumer: str, topic: Topic, partition: int) -> int:
        return 0

    async def snapshots(self, owner: str, partition: int) -> tuple[int, list[Snapshot]]:
        return 0, []

    async def close(self) -> None:
        return None
