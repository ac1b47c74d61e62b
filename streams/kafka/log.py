"""The log on Kafka (`streams.log.Log`).

A position is Kafka's offset and one. Commands, status and what is parked are written as they come; events,
outcomes and snapshots only by the partition's one writer, in transactions (`streams.kafka.partition_writer`).
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from schemas.envelope import Envelope, Key
from schemas.identity import timestamp
from schemas.outcome import decides
from streams.find_results import by_organization, events_named
from streams.kafka.authority import Unauthorized
from streams.kafka.fetcher import Fetcher
from streams.kafka.idempotency_index import OWNER as ANSWERED
from streams.kafka.idempotency_index import IdempotencyIndex
from streams.kafka.index import LocalIndex
from streams.kafka.integrity import Integrity
from streams.kafka.integrity_key import open_integrity
from streams.kafka.lookup import records_at
from streams.kafka.partition_reader import PartitionReaders
from streams.kafka.partition_writer import Message, PartitionWriter, Write, require_sizes
from streams.kafka.producer import PRODUCE_SECONDS, ROOM, not_written, retrieved, started_producer, stopped
from streams.kafka.settings import KafkaSettings
from streams.kafka.snapshots import read_snapshots, snapshot_messages
from streams.kafka.topics import ensure_topics
from streams.kafka.wire import AUTHORIZATION, decode, encode, forged, signed_body, too_large
from streams.log import TOPICS, Append, Fault, LogUnavailable, Record, StateSnapshot, Topic, Transaction
from streams.partitioner import partition_of

WRITER = "decider"
LOG_APPEND_TIME = 1
"""The broker set a record's time, not its sender."""
READABLE_SECONDS = 5.0
"""How long the events of a decision may come later than its outcome."""
BY_WRITER: frozenset[Topic] = frozenset({"events", "outcomes"})


_KEY = "give the organization as the message's key and leave the partition to Kafka's default partitioner"


class Authority(Protocol):
    """Who may command what (`streams.kafka.authority`)."""

    def sign(self, envelope: Envelope, body: bytes, /) -> str:
        """The token that goes with a command of ours, whose data travel as `body`."""
        ...

    def verify(self, token: str, envelope: Envelope, body: bytes, at: float | None, /) -> Envelope:
        """The command, in the name of whom the token was for at that time (Unix seconds), or is for now.

        Raises Unauthorized.
        """
        ...


class KafkaLog:
    """The `Log` port for one process and event loop.

    With an `authority`, commands carry a signed token, and one without comes with a fault; with an
    `integrity`, so do outcomes and their MACs.
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
        self._authority = authority
        self._tails = PartitionReaders(fetching, self._decoded)
        self._topics: dict[str, Topic] = {settings.topic(topic): topic for topic in TOPICS}
        self._writers: dict[int, PartitionWriter] = {}
        self._answered: dict[int, IdempotencyIndex] = {}
        self._claiming = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None
        self._producing = asyncio.Lock()
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
        """Creates or checks the topics. `directory` keeps what can be read again at any time; `integrity_key`
        is made when missing.

        Raises LogUnavailable, streams.kafka.topics.TopicMismatch for topics that are not as they must be, and
        streams.kafka.integrity.IntegrityKeyError.
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
            # Only now nobody else writes, and what is read is all there is.
            self._answered[partition] = await self._read_answered(partition)

    async def release(self, partition: int) -> None:
        """Writes to a partition no more."""
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
            written = await self._produce(topic, by_partition)
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
                self._messages(a.topic, a.envelopes, partition),
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
        records = await self._tails.read(place, after, limit)
        written = self._written(place)
        if len(records) < limit and written > (records[-1].position if records else after):
            await self._tails.wait(place, written - 1)  # committed by us, and on its way to readers
            records = await self._tails.read(place, after, limit)
        return records

    async def read_subject(
        self, topic: Topic, subject: str, *, after: int = 0, limit: int = 1000
    ) -> list[Record]:
        return await self._index.of_subject(topic, subject, after, limit)

    async def find(self, topic: Topic, key: Key) -> Record | None:
        return (await self.find_all(topic, [key])).get(key)

    async def find_all(self, topic: Topic, keys: Sequence[Key]) -> dict[Key, Record]:
        found: dict[Key, Record] = {}
        others: list[Key] = []
        ours: dict[int, list[Key]] = {}
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

    async def identity(self, topic: Topic) -> str:
        """The ids of the cluster and of the topic. Raises LogUnavailable."""
        return await self._fetching.identity(self.settings.topic(topic))

    async def end(self, topic: Topic, partition: int) -> int:
        self._require(topic, partition)
        place = self._place(topic, partition)
        return max(await self._fetching.last(place), self._written(place))

    def readable(self, topic: Topic, partition: int) -> int:
        return self._tails.known(self._place(topic, partition))

    async def first(self, topic: Topic, partition: int) -> int:
        self._require(topic, partition)
        return await self._fetching.beginning(self._place(topic, partition)) + 1

    async def wait(self, topic: Topic, partition: int, after: int) -> None:
        self._require(topic, partition)
        await self._tails.wait(self._place(topic, partition), after)

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
        await self._tails.close()
        for partition in list(self._writers):
            await self.release(partition)
        if self._producer is not None:
            await stopped(self._producer)
        await self._fetching.close()

    async def _writer(self, partition: int) -> PartitionWriter:
        if partition not in self._answered:
            await self.claim(partition)
        return self._writers[partition]

    async def _produce(
        self, topic: Topic, by_partition: Mapping[int, Sequence[Envelope]]
    ) -> dict[int, list[int]]:
        messages = {p: self._messages(topic, some, p) for p, some in by_partition.items()}
        name = self.settings.topic(topic)
        # What is parked holds a whole message, and the largest are not commands.
        limit = self.settings.max_message * (ROOM if topic == "parked" else 1)
        for some in messages.values():
            require_sizes(name, some, limit)
        producer: AIOKafkaProducer | None = None
        sent: dict[int, list[asyncio.Future[RecordMetadata]]] = {}
        try:
            async with asyncio.timeout(PRODUCE_SECONDS):
                producer = await self._shared_producer()
                for partition, some in messages.items():
                    futures = sent[partition] = []
                    for m in some:
                        futures.append(
                            await producer.send(name, m.value, m.key, partition, headers=m.headers)
                        )
                return {
                    partition: [(await future).offset + 1 for future in futures]
                    for partition, futures in sent.items()
                }
        except (KafkaError, OSError, TimeoutError) as error:
            for future in (future for futures in sent.values() for future in futures):
                future.add_done_callback(retrieved)
            # Some errors a producer never gets over, and it does not say which.
            if producer is not None and self._producer is producer:
                self._producer = None
                await stopped(producer)
            count = sum(map(len, messages.values()))
            raise not_written(self.settings, error, name, limit, count) from error

    async def _shared_producer(self) -> AIOKafkaProducer:
        async with self._producing:
            if self._producer is None:
                self._producer = await started_producer(self.settings)
            return self._producer

    def _messages(self, topic: Topic, envelopes: Sequence[Envelope], partition: int) -> list[Message]:
        return [self._message(topic, envelope, partition) for envelope in envelopes]

    def _message(self, topic: Topic, envelope: Envelope, partition: int) -> Message:
        value, headers = encode(envelope)
        if topic == "outcomes" and self.integrity is not None:
            headers = self.integrity.sealed(self.settings.topic(topic), partition, value, headers)
        if topic == "commands" and self._authority is not None:
            headers.append((AUTHORIZATION, self._authority.sign(envelope, value).encode()))
        return Message(envelope.partitionkey.encode(), value, headers)

    def _decoded(self, place: TopicPartition, message: ConsumerRecord) -> Record:
        topic = self._topics[place.topic]
        if topic == "commands" and (size := _size(message)) > self.settings.max_message:
            # The broker limits what is compressed, which says little of what is in it.
            limit, position = self.settings.max_message, message.offset + 1
            refused = too_large(topic, place.partition, position, message.headers, size, limit)
            return self._command(refused, "", message)
        if topic == "outcomes" and self.integrity is not None:
            at = (place.topic, place.partition, message.offset)
            if not self.integrity.genuine_sealed(*at, message.value, message.headers):
                self.integrity.refuse(*at)
                return forged(topic, place.partition, message.offset + 1)
        record, token = decode(topic, place.partition, message.offset + 1, message.value, message.headers)
        return record if topic != "commands" else self._command(record, token, message)

    def _command(self, record: Record, token: str, message: ConsumerRecord) -> Record:
        """A command as it may be acted on. Kafka's key says what an extension `partitionkey` would."""
        if not record.envelope.partitionkey:
            key = (message.key or b"").decode(errors="replace")
            record = replace(record, envelope=replace(record.envelope, partitionkey=key))
        if not record.envelope.time:
            appended = _appended(message.timestamp)
            record = replace(record, envelope=replace(record.envelope, time=appended))
        if record.fault is not None:
            return record
        wanted = self.partition_of(record.envelope.partitionkey)
        if wanted != record.partition:
            reason = f"it stands in partition {record.partition}, its organization's is {wanted}: {_KEY}"
            return replace(record, fault=Fault("malformed", reason, message.value or b""))
        if self._authority is None:
            return record
        try:
            # By the broker's clock: a command may wait longer for its decision than its token is good.
            # The sender's clock proves nothing; such records stand on a topic that was set otherwise before.
            by_broker = message.timestamp_type == LOG_APPEND_TIME
            at = message.timestamp / 1000 if by_broker else None
            body = signed_body(message.value, message.headers, record.envelope.data)
            command = self._authority.verify(token, record.envelope, body, at)
            return record if command is record.envelope else replace(record, envelope=command)
        except Unauthorized as error:
            return replace(record, fault=Fault("unauthorized", str(error), message.value or b""))

    async def _find_answered(self, partition: int, keys: Sequence[Key]) -> dict[Key, Record]:
        answered = self._answered[partition]
        places = [(key, position) for key in set(keys) for position in answered.find(key)]
        positions = [position for _, position in places]
        place = self._place("outcomes", partition)
        records = await records_at(self._fetching, place, positions, self._decoded)
        return {key: records[position] for key, position in places if records[position].envelope.key == key}

    async def _readable(self, topic: Topic, records: Iterable[Record]) -> None:
        """Waits for the events that outcomes name.

        The broker shows a transaction to readers one partition after the other. Raises LogUnavailable.
        """
        for partition, end in events_named(records).items() if topic == "outcomes" else ():
            try:
                async with asyncio.timeout(READABLE_SECONDS):
                    await self.wait("events", partition, end - 1)
            except TimeoutError as error:
                name = self.settings.topic("events")
                raise LogUnavailable(f"{name}/{partition} shows nothing at position {end} yet") from error

    async def _read_answered(self, partition: int) -> IdempotencyIndex:
        answered = IdempotencyIndex()
        _, segments = await self.snapshots(ANSWERED, partition)
        for segment in sorted(segments, key=lambda s: s.subject):
            answered.load(segment.state)
        position, end = answered.position, await self.end("outcomes", partition)
        while position < end:
            # What is missing here would be decided twice, so the end counts: after a change of leaders the
            # broker may show a moment later what it has.
            await self.wait("outcomes", partition, position)
            for record in await self.read("outcomes", partition, position, 2_000):
                if record.fault is None and decides(record.envelope.data):
                    answered.add(record.envelope.key, record.position)
                position = record.position
        return answered

    def _written(self, place: TopicPartition) -> int:
        """The last position that this process has written."""
        writer = self._writers.get(place.partition)
        return writer.written.get(place, 0) if writer is not None else 0

    def _place(self, topic: str, partition: int) -> TopicPartition:
        return TopicPartition(self.settings.topic(topic), partition)

    def _require(self, topic: Topic, partition: int) -> None:
        if not 0 <= partition < self.settings.partitions:
            raise ValueError(
                f"there is no {topic}/{partition}; the log has {self.settings.partitions} partitions"
            )


def _size(message: ConsumerRecord) -> int:
    """Bytes of value and headers, as they came out of a batch that may be compressed."""
    headers = sum([len(name) + len(value or b"") for name, value in message.headers])
    return len(message.value or b"") + headers


def _appended(milliseconds: int) -> str:
    """A record's timestamp as RFC 3339; empty when its producer gave none that is a time."""
    try:
        return timestamp(milliseconds / 1000) if milliseconds >= 0 else ""
    except (ValueError, OverflowError, OSError):
        return ""


def _partition(transaction: Transaction) -> int | None:
    """The one partition a transaction is of; None when it holds nothing. Raises ValueError."""
    parts = (*transaction.appends, *transaction.consumed, *transaction.snapshots)
    partitions = {part.partition for part in parts}
    if len(partitions) > 1:
        raise ValueError(f"a transaction is of one partition, not of {sorted(partitions)}")
    return next(iter(partitions), None)
