"""A log in memory: the port as the projection runner uses it, for tests that need no durability."""

import asyncio
from collections.abc import Sequence

from projections.source_log import SourceLog
from schemas.envelope import Envelope, MessageKey
from streams.log import Record, StateSnapshot, Topic, Transaction
from streams.submission.find_results import by_organization, stands


class MemoryLog:
    def __init__(self, partitions: int = 1) -> None:
        self._partitions = partitions
        self._records: dict[tuple[Topic, int], list[Record]] = {}
        self._consumed: dict[tuple[str, Topic, int], int] = {}
        self._grown = asyncio.Condition()

    @property
    def partitions(self) -> int:
        return self._partitions

    def partition_of(self, key: str) -> int:
        return sum(key.encode()) % self._partitions

    async def identity(self) -> SourceLog:
        return SourceLog(f"memory {id(self)}", "a log in memory")

    async def claim(self, partition: int) -> None:
        return None

    async def release(self, partition: int) -> None:
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
        for consumed in transaction.consumed:
            self._consumed[consumed.consumer, consumed.topic, consumed.partition] = consumed.position
        return [await self.append(a.topic, a.envelopes) for a in transaction.appends]

    async def read(self, topic: Topic, partition: int, after: int, limit: int) -> list[Record]:
        return self._records.get((topic, partition), [])[after : after + limit]

    async def read_subject(
        self, topic: Topic, subject: str, *, after: int = 0, limit: int = 1000
    ) -> list[Record]:
        everything = [r for (t, _), rs in self._records.items() if t == topic for r in rs]
        return [r for r in everything if r.envelope.subject == subject and r.position > after][:limit]

    async def find(self, topic: Topic, key: MessageKey) -> Record | None:
        return (await self.find_all(topic, [key])).get(key)

    async def find_all(self, topic: Topic, keys: Sequence[MessageKey]) -> dict[MessageKey, Record]:
        found: dict[MessageKey, Record] = {}
        for record in self._of_topic(topic):
            if record.envelope.key in keys and stands(record):
                found.setdefault(record.envelope.key, record)
        return found

    async def find_by_id(self, topic: Topic, id: str) -> list[Record]:
        return by_organization(r for r in self._of_topic(topic) if r.envelope.id == id)

    def _of_topic(self, topic: Topic) -> list[Record]:
        return [record for (t, _), records in self._records.items() if t == topic for record in records]

    async def end(self, topic: Topic, partition: int) -> int:
        return len(self._records.get((topic, partition), []))

    def readable(self, topic: Topic, partition: int) -> int:
        return len(self._records.get((topic, partition), []))

    async def first(self, topic: Topic, partition: int) -> int:
        return 1

    async def wait(self, topic: Topic, partition: int, after: int) -> None:
        async with self._grown:
            await self._grown.wait_for(lambda: len(self._records.get((topic, partition), [])) > after)

    async def consumed(self, consumer: str, topic: Topic, partition: int) -> int:
        return self._consumed.get((consumer, topic, partition), 0)

    async def snapshots(self, owner: str, partition: int) -> tuple[int, list[StateSnapshot]]:
        return 0, []

    async def close(self) -> None:
        return None
