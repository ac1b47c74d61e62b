"""The log on Kafka (`streams.log.Log`).

A position is Kafka's offset plus one. Commands, status and dead letters are written directly; events,
outcomes and snapshots only by the partition's one writer, in transactions
(`streams.kafka.partition_writer`).
"""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from aiokafka import TopicPartition

from projections.source_log import SourceLog
from schemas.envelope import Envelope, MessageKey
from schemas.outcome import decides
from streams.kafka.fetcher import Fetcher
from streams.kafka.local_index.idempotency_index import OWNER as ANSWERED
from streams.kafka.local_index.idempotency_index import IdempotencyIndex
from streams.kafka.local_index.index import LocalIndex
from streams.kafka.local_index.lookup import records_at
from streams.kafka.messages.codec import Authority, Codec
from streams.kafka.partition_reader import PartitionReaders
from streams.kafka.partition_writer import PartitionWriter, Write
from streams.kafka.producer import BATCH_FACTOR
from streams.kafka.security.integrity import Integrity
from streams.kafka.security.integrity_key import open_integrity
from streams.kafka.settings import KafkaSettings, source_log
from streams.kafka.shared_producer import SharedProducer
from streams.kafka.snapshots import read_snapshots, snapshot_messages
from streams.kafka.source import open_source
from streams.kafka.topics import ensure_topics
from streams.log import (
    TOPICS,
    Append,
    LogUnavailable,
    OpenSource,
    Record,
    StateSnapshot,
    Topic,
    Transaction,
)
from streams.partitioner import partition_of
from streams.submission.find_results import by_organization, events_named

WRITER = "decider"
READABLE_SECONDS = 5.0
"""The time that the events of a decision may be visible later than its outcome."""
BY_WRITER: frozenset[Topic] = frozenset({"events", "outcomes"})


class KafkaLog:
    """The `Log` port for one process and event loop.

    With an `authority`, commands carry a signed token, and commands without one are read with a fault; with
    an `integrity`, the same holds for outcomes and their MACs.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        directory: Path,
        fetching: Fetcher,
        authority: Authority | None,
        integrity: Integrity | None,
    ) -> None:
        """Use `open`."""
        self.integrity = integrity
        self.settings = settings
        self._fetching = fetching
        self._codec = Codec(settings, authority, integrity)
        self._readers = PartitionReaders(fetching, self._codec.record)
        self._writers: dict[int, PartitionWriter] = {}
        self._answered: dict[int, IdempotencyIndex] = {}
        self._claiming = asyncio.Lock()
        self._producer = SharedProducer(settings)
        self._index = LocalIndex(directory, self)
        self._closed = False

    @classmethod
    async def open(
        cls,
        settings: KafkaSettings,
        directory: Path,
        *,
        authority: Authority | None = None,
        integrity_key: Path | None = None,
    ) -> "KafkaLog":
        """Creates or checks the topics. `directory` has only caches; a missing `integrity_key` is created.

        Raises LogUnavailable, streams.kafka.topics.TopicMismatch for misconfigured topics, and
        streams.kafka.security.integrity.IntegrityKeyError.
        """
        await ensure_topics(settings)
        names = [settings.topic(name) for name in (*TOPICS, "snapshots", "config")]
        fetching = await Fetcher.open(settings, names)
        try:
            integrity = (
                None if integrity_key is None else await open_integrity(integrity_key, settings, fetching)
            )
        except BaseException:
            await fetching.close()
            raise
        return cls(settings, directory, fetching, authority, integrity)

    @property
    def partitions(self) -> int:
        return self.settings.partitions

    def partition_of(self, key: str) -> int:
        return partition_of(key, self.settings.partitions)

    async def claim(self, partition: int) -> None:
        self._require("events", partition)
        async with self._claiming:
            if partition not in self._writers:
                place = self._place("events", partition)
                self._writers[partition] = PartitionWriter(self.settings, self._fetching, WRITER, place)
            await self._writers[partition].claim()
            # Only from here on there is no other writer, and all records can be read.
            self._answered[partition] = await self._read_answered(partition)

    async def release(self, partition: int) -> None:
        """Stops writing to a partition."""
        async with self._claiming:
            self._answered.pop(partition, None)
            writer = self._writers.pop(partition, None)
            if writer is not None:
                await writer.close()

    async def next_position(self, partition: int) -> int:
        return (await self._writer(partition)).next_position

    async def append(self, topic: Topic, envelopes: Sequence[Envelope]) -> list[int]:
        by_partition: dict[int, list[Envelope]] = {}
        partitions = [self.partition_of(envelope.partitionkey) for envelope in envelopes]
        for partition, envelope in zip(partitions, envelopes, strict=True):
            by_partition.setdefault(partition, []).append(envelope)
        if topic in BY_WRITER:
            written = {
                partition: (await self.commit(Transaction([Append(topic, partition, some)])))[0]
                for partition, some in by_partition.items()
            }
        else:
            messages = {p: self._codec.messages(topic, some, p) for p, some in by_partition.items()}
            # A dead letter contains a whole message, which may be larger than a command.
            limit = self.settings.max_message * (BATCH_FACTOR if topic == "parked" else 1)
            written = await self._producer.produce(self.settings.topic(topic), messages, limit)
        following = {partition: iter(positions) for partition, positions in written.items()}
        return [next(following[partition]) for partition in partitions]

    async def commit(self, transaction: Transaction) -> list[list[int]]:
        for append in transaction.appends:
            self._require(append.topic, append.partition)
        partition = _partition(transaction)
        if partition is None:
            return []
        for append in transaction.appends:
            if append.topic not in BY_WRITER and append.topic != "parked":
                raise ValueError(f"{append.topic} is not written in transactions")
        writer = await self._writer(partition)
        writes = [
            Write(
                self._place(a.topic, partition),
                self._codec.messages(a.topic, a.envelopes, partition),
                *(a.expected, a.first),
            )
            for a in transaction.appends
        ]
        answered = self._answered[partition]
        segments = answered.segments()
        snapshots = list(transaction.snapshots)
        snapshots += [StateSnapshot(ANSWERED, partition, number, 0, content) for number, content in segments]
        if snapshots:
            writes.append(Write(self._place("snapshots", partition), snapshot_messages(snapshots)))
        offsets: dict[str, dict[TopicPartition, int]] = {}
        for consumed in transaction.consumed:
            group = offsets.setdefault(self.settings.group(consumed.consumer), {})
            group[self._place(consumed.topic, consumed.partition)] = consumed.position
        positions = await writer.write(writes, offsets)
        answered.kept(segments)
        for append, at in zip(transaction.appends, positions, strict=False):
            if append.topic == "outcomes":
                for envelope, position in zip(append.envelopes, at, strict=True):
                    if decides(envelope.data):
                        answered.add(envelope.key, position)
        return positions[: len(transaction.appends)]

    async def read(self, topic: Topic, partition: int, after: int, limit: int) -> list[Record]:
        self._require(topic, partition)
        place = self._place(topic, partition)
        records = await self._readers.read(place, after, limit)
        written = self._written(place)
        if len(records) < limit and written > (records[-1].position if records else after):
            await self._readers.wait(place, written - 1)  # committed here, not visible yet
            records = await self._readers.read(place, after, limit)
        return records

    async def read_subject(
        self, topic: Topic, subject: str, *, after: int = 0, limit: int = 1000
    ) -> list[Record]:
        return await self._index.of_subject(topic, subject, after, limit)

    async def find(self, topic: Topic, key: MessageKey) -> Record | None:
        return (await self.find_all(topic, [key])).get(key)

    async def find_all(self, topic: Topic, keys: Sequence[MessageKey]) -> dict[MessageKey, Record]:
        found: dict[MessageKey, Record] = {}
        others: list[MessageKey] = []
        ours: dict[int, list[MessageKey]] = {}
        for key in keys:
            partition = self.partition_of(key[0])
            decided_here = topic == "outcomes" and partition in self._answered
            (ours.setdefault(partition, []) if decided_here else others).append(key)
        for partition, some in ours.items():
            found |= await self._find_answered(partition, some)
        if others:
            indexed = await self._index.of_keys(topic, others)
            await self._readable(topic, indexed.values())
            found |= indexed
        return found

    async def find_by_id(self, topic: Topic, id: str) -> list[Record]:
        found = by_organization(await self._index.of_id(topic, id))
        await self._readable(topic, found)
        return found

    async def identity(self) -> SourceLog:
        return source_log(self.settings, await self.topic_identity("events"))

    def source(self) -> OpenSource:
        return partial(open_source, self.settings)

    async def topic_identity(self, topic: Topic) -> str:
        """The ids of the cluster and of the topic. Raises LogUnavailable."""
        return await self._fetching.identity(self.settings.topic(topic))

    async def end(self, topic: Topic, partition: int) -> int:
        self._require(topic, partition)
        place = self._place(topic, partition)
        return max(await self._fetching.last(place), self._written(place))

    def readable(self, topic: Topic, partition: int) -> int:
        return self._readers.known(self._place(topic, partition))

    async def first(self, topic: Topic, partition: int) -> int:
        self._require(topic, partition)
        return await self._fetching.beginning(self._place(topic, partition)) + 1

    async def wait(self, topic: Topic, partition: int, after: int) -> None:
        self._require(topic, partition)
        await self._readers.wait(self._place(topic, partition), after)

    async def consumed(self, consumer: str, topic: Topic, partition: int) -> int:
        self._require(topic, partition)
        place, group = self._place(topic, partition), self.settings.group(consumer)
        writer = self._writers.get(partition)
        ours = writer.consumed.get((group, place)) if writer is not None else None
        return await self._fetching.committed(group, place) if ours is None else ours

    async def snapshots(self, owner: str, partition: int) -> tuple[int, list[StateSnapshot]]:
        self._require("events", partition)
        place = self._place("snapshots", partition)
        return await read_snapshots(self._fetching, place, owner, self._written(place))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._index.close()
        await self._readers.close()
        for partition in list(self._writers):
            await self.release(partition)
        await self._producer.close()
        await self._fetching.close()

    async def _writer(self, partition: int) -> PartitionWriter:
        if partition not in self._answered:
            await self.claim(partition)
        return self._writers[partition]

    async def _find_answered(self, partition: int, keys: Sequence[MessageKey]) -> dict[MessageKey, Record]:
        answered = self._answered[partition]
        places = [(key, position) for key in set(keys) for position in answered.find(key)]
        positions = [position for _, position in places]
        place = self._place("outcomes", partition)
        records = await records_at(self._fetching, place, positions, self._codec.record)
        return {key: records[position] for key, position in places if records[position].envelope.key == key}

    async def _readable(self, topic: Topic, records: Iterable[Record]) -> None:
        """Waits for the events that outcomes refer to.

        A transaction becomes visible in one partition after the other. Raises LogUnavailable.
        """
        for partition, end in events_named(records).items() if topic == "outcomes" else ():
            try:
                async with asyncio.timeout(READABLE_SECONDS):
                    await self.wait("events", partition, end - 1)
            except TimeoutError as error:
                name = self.settings.topic("events")
                raise LogUnavailable(f"{name}/{partition} has no readable record at {end} yet") from error

    async def _read_answered(self, partition: int) -> IdempotencyIndex:
        answered = IdempotencyIndex()
        _, segments = await self.snapshots(ANSWERED, partition)
        for segment in sorted(segments, key=lambda s: s.subject):
            answered.load(segment.state)
        position, end = answered.position, await self.end("outcomes", partition)
        while position < end:
            # A missing outcome would let its command be decided twice, so this reads up to the end: after a
            # change of leaders records may be visible a moment later.
            await self.wait("outcomes", partition, position)
            for record in await self.read("outcomes", partition, position, 2_000):
                if record.fault is None and decides(record.envelope.data):
                    answered.add(record.envelope.key, record.position)
                position = record.position
        return answered

    def _written(self, place: TopicPartition) -> int:
        """The last position that this process wrote."""
        writer = self._writers.get(place.partition)
        return writer.written.get(place, 0) if writer is not None else 0

    def _place(self, topic: str, partition: int) -> TopicPartition:
        return TopicPartition(self.settings.topic(topic), partition)

    def _require(self, topic: Topic, partition: int) -> None:
        if not 0 <= partition < self.settings.partitions:
            raise ValueError(
                f"there is no {topic}/{partition}; the log has {self.settings.partitions} partitions"
            )


def _partition(transaction: Transaction) -> int | None:
    """The partition of a transaction; None when it is empty. Raises ValueError for several."""
    parts = (*transaction.appends, *transaction.consumed, *transaction.snapshots)
    partitions = {part.partition for part in parts}
    if len(partitions) > 1:
        raise ValueError(f"a transaction is of one partition, not of {sorted(partitions)}")
    return next(iter(partitions), None)
