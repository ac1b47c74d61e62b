"""Migrates the data of an embedded Signalbox to Kafka and PostgreSQL, and proves that it is unchanged.

Messages keep their positions, so that references to them stay valid: a position on Kafka is the offset plus
one, and records are written without transactions, whose control records would take offsets. An interrupted
copy continues where it stopped, if the records there equal the first ones of the source.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from gateways.config_resource import ConfigResource
from streams.decider.chain import ChainReport, verify
from streams.decider.snapshots import OWNER
from streams.documents import DocumentStore
from streams.kafka.config import KafkaConfigTopic
from streams.kafka.log import KafkaLog
from streams.kafka.messages.wire import AUTHORIZATION, encode
from streams.kafka.producer import BATCH_FACTOR, require_size, started_producer, stopped, unavailable
from streams.kafka.security.authority import Authority
from streams.log import TOPICS, Consumed, Log, LogError, Record, Topic, Transaction
from streams.sqlite.config import SqliteConfigTopic
from streams.sqlite.documents import DOCUMENTS, SqliteDocuments
from streams.sqlite.log import SqliteLog
from streams.sqlite.read_connection import ReadConnection

BATCH = 1000
OVERHEAD = 100
"""Bytes of a message beside its key, value and headers."""

ATTEMPTS = 50
PAUSE_SECONDS = 0.1

ConfigKey = tuple[str, str, str]
OF_CLIENTS: frozenset[Topic] = frozenset({"commands", "status"})
"""Topics whose times are normalised when they are read from Kafka: all other content is compared."""

Progress = Callable[[str, int], None]
"""Called with a step of the copy and its number of records so far."""


class MigrationRefused(LogError):
    """The migration is impossible like this; nothing was lost. The text has the remedy."""


class NotTheSame(LogError):
    """The copy differs from the source."""


@dataclass(frozen=True, slots=True)
class TopicDigest:
    """A topic's partition: the number of records, the last position, and a digest of the records and their
    positions."""

    topic: Topic
    partition: int
    records: int
    last: int
    digest: str


@dataclass(frozen=True, slots=True)
class Proof:
    """The content that is equal on both sides: records, chains of events, configuration and documents."""

    digests: tuple[TopicDigest, ...]
    chains: tuple[ChainReport, ...]
    undecided: int
    entries: int
    documents: int


@dataclass(frozen=True, slots=True)
class Embedded:
    """The source; opened by the caller, which holds the lock on the data directory."""

    directory: Path
    log: SqliteLog
    config: SqliteConfigTopic
    documents: SqliteDocuments


@dataclass(frozen=True, slots=True)
class Target:
    """The destination. `log` reads without an authority, so that commands are read as they were written;
    `authority` signs those that are undecided. `documents` opens the document store, after the topics are
    checked."""

    log: KafkaLog
    config: KafkaConfigTopic
    documents: Callable[[], Awaitable[DocumentStore]]
    authority: Authority


def _quiet(what: str, count: int) -> None:
    """The default: progress is not reported."""


async def migrate(source: Embedded, target: Target, progress: Progress = _quiet) -> Proof:
    """Copies everything and returns the proof; may be called again after an interruption.

    Raises MigrationRefused, MessageTooLarge (nothing was written), NotTheSame, LogUnavailable, LogDamaged.
    """
    if source.log.partitions != target.log.partitions:
        raise MigrationRefused(
            f"{source.directory} has {source.log.partitions} partition(s), the topics "
            f"{target.log.partitions}: set SIGNALBOX_KAFKA_PARTITIONS={source.log.partitions} and choose a "
            "SIGNALBOX_KAFKA_PREFIX without topics. Positions and chains belong to a partition: the number "
            "never changes."
        )
    partitions = range(source.log.partitions)
    for partition in partitions:
        # Fences a decider there, which would continue from its earlier state.
        await target.log.claim(partition)
    decided = {p: await source.log.consumed(OWNER, "commands", p) for p in partitions}
    expected: list[TopicDigest] = []
    for topic in TOPICS:
        for partition in partitions:
            expected.append(await _survey(source.log, target, topic, partition, decided[partition]))
    for stretch in expected:
        await _require_beginning(source.log, target.log, stretch)
    documents = await _copy_documents(source, await target.documents(), progress)
    entries = await _copy_config(source.config, target, progress)
    for stretch in expected:
        await _copy(source.log, target, stretch, decided[stretch.partition], progress)
    proof = await _proof(source, target, expected, progress)
    # Last, since deciders can start after this.
    for partition, position in decided.items():
        await target.log.commit(Transaction(consumed=(Consumed(OWNER, "commands", partition, position),)))
    ends = {s.partition: s.last for s in expected if s.topic == "commands"}
    undecided = sum(ends[p] - decided[p] for p in partitions)
    return replace(proof, undecided=undecided, entries=entries, documents=documents)


async def _survey(log: Log, target: Target, topic: Topic, partition: int, decided: int) -> TopicDigest:
    """The digest of the records to copy. Raises MessageTooLarge, MigrationRefused."""
    digesting = _DigestBuilder(topic, partition)
    settings = target.log.settings
    limit = settings.max_message if topic in OF_CLIENTS else settings.max_message * BATCH_FACTOR
    async for record in _all(log, topic, partition):
        if record.position != digesting.last + 1:
            raise MigrationRefused(
                f"{topic}/{partition} has no record at position {digesting.last + 1}: positions on Kafka "
                "would differ from then on"
            )
        digesting.add(record)
        key, value, headers = _message(target, record, decided)
        size = len(key) + len(value) + sum(len(n) + len(v) for n, v in headers) + OVERHEAD
        require_size(settings.topic(topic), size, limit)
    return digesting.digest()


async def _require_beginning(source: Log, target: Log, stretch: TopicDigest) -> None:
    """Raises MigrationRefused unless the target's records are the first of the source's."""
    topic, partition = stretch.topic, stretch.partition
    end = await target.end(topic, partition)
    if end == 0:
        return
    ours, theirs = _DigestBuilder(topic, partition), _DigestBuilder(topic, partition)
    async for record in _all(target, topic, partition):
        theirs.add(record)
    async for record in _all(source, topic, partition, end):
        ours.add(record)
    if ours.digest() != theirs.digest():
        raise MigrationRefused(
            f"The topic of {topic} holds other records already ({theirs.digest().records:,}): choose a "
            "SIGNALBOX_KAFKA_PREFIX without topics, or delete these topics if they are no longer needed."
        )


async def _copy(source: Log, target: Target, stretch: TopicDigest, decided: int, progress: Progress) -> None:
    topic, partition = stretch.topic, stretch.partition
    position = await target.log.end(topic, partition)
    settings = target.log.settings
    producer = await started_producer(settings)
    try:
        while records := await source.read(topic, partition, position, BATCH):
            messages = [_message(target, record, decided) for record in records]
            await _write(producer, settings.topic(topic), records, messages)
            position = records[-1].position
            progress(topic, position)
    except (KafkaError, OSError) as error:
        raise unavailable(settings, error) from error
    finally:
        await stopped(producer)


async def _write(
    producer: AIOKafkaProducer,
    topic: str,
    records: Sequence[Record],
    messages: Sequence[tuple[bytes, bytes, list[tuple[str, bytes]]]],
) -> None:
    """Raises NotTheSame when a record does not get its position."""
    sent = [
        await producer.send(topic, value, key, record.partition, headers=headers)
        for record, (key, value, headers) in zip(records, messages, strict=True)
    ]
    for record, future in zip(records, sent, strict=True):
        at = (await future).offset + 1
        if at != record.position:
            raise NotTheSame(
                f"{topic}/{record.partition} gave position {at} to the record of position {record.position}: "
                "another program writes to the topic, or did. Choose a SIGNALBOX_KAFKA_PREFIX without topics."
            )


def _message(target: Target, record: Record, decided: int) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """ConfigKey, value and headers; an undecided command is signed for its sender."""
    envelope = record.envelope
    value, headers = encode(envelope)
    if record.topic == "commands" and record.position > decided:
        headers.append((AUTHORIZATION, target.authority.sign(envelope, value).encode()))
    elif record.topic == "outcomes" and target.log.integrity is not None:
        topic = target.log.settings.topic(record.topic)
        headers = target.log.integrity.sealed(topic, record.partition, value, headers)
    return envelope.partitionkey.encode(), value, headers


async def _copy_documents(source: Embedded, target: DocumentStore, progress: Progress) -> int:
    reading = ReadConnection(DOCUMENTS, source.directory / DOCUMENTS.file)
    try:
        names: list[str] = [row[0] for row in reading.query("SELECT sha256 FROM documents", ())]
    finally:
        reading.close()
    for number, sha256 in enumerate(names, 1):
        found = await source.documents.get(sha256)
        if found is not None and await target.put(*found) != sha256:
            raise NotTheSame(f"the copy of the document {sha256} has another hash")
        progress("documents", number)
    return len(names)


async def _copy_config(source: SqliteConfigTopic, target: Target, progress: Progress) -> int:
    by_partition: dict[int, list[ConfigResource]] = {}
    async for entries in source.load():
        for entry in entries:
            by_partition.setdefault(target.config.partition_of_entry(entry), []).append(entry)
    wanted = {entry.key: entry for entries in by_partition.values() for entry in entries}
    present: dict[ConfigKey, ConfigResource] = {}
    async for entries in target.config.load():
        present.update((entry.key, entry) for entry in entries)
    if strange := [key for key in present if key not in wanted]:
        raise MigrationRefused(
            f"The topic of the configuration holds other entries already, such as {strange[0]}: choose a "
            "SIGNALBOX_KAFKA_PREFIX without topics."
        )
    for partition, entries in by_partition.items():
        missing = [entry for entry in entries if present.get(entry.key) != entry]
        await target.config.claim(partition)
        for start in range(0, len(missing), BATCH):
            await target.config.put(missing[start : start + BATCH])
            progress("configuration", start)
        await target.config.release(partition)
    await _require_arrived(target.config, wanted)
    return len(wanted)


async def _require_arrived(config: KafkaConfigTopic, wanted: Mapping[ConfigKey, ConfigResource]) -> None:
    """Raises NotTheSame."""
    arrived: dict[ConfigKey, ConfigResource] = {}
    for _ in range(ATTEMPTS):
        arrived.clear()
        async for entries in config.load():
            arrived.update((entry.key, entry) for entry in entries)
        if arrived == wanted:
            return
        # A committed transaction becomes visible to readers a moment later.
        await asyncio.sleep(PAUSE_SECONDS)
    raise NotTheSame("the copy of the configuration differs from the source")


async def _proof(
    source: Embedded, target: Target, expected: Iterable[TopicDigest], progress: Progress
) -> Proof:
    """Reads everything again from Kafka, and verifies the hash chain of events on both sides.

    Raises NotTheSame.
    """
    stretches: list[TopicDigest] = []
    for wanted in expected:
        digesting = _DigestBuilder(wanted.topic, wanted.partition)
        async for record in _all(target.log, wanted.topic, wanted.partition):
            digesting.add(record)
        if digesting.digest() != wanted:
            raise NotTheSame(
                f"{wanted.topic}/{wanted.partition} is not the same on both sides: {wanted} here, "
                f"{digesting.digest()} on Kafka"
            )
        stretches.append(wanted)
        progress(f"{wanted.topic} compared", wanted.records)
    chains: list[ChainReport] = []
    for partition in range(source.log.partitions):
        here, there = await verify(source.log, partition), await verify(target.log, partition)
        if here.broken is not None or here != there:
            raise NotTheSame(f"the chains of events/{partition} differ: {here} here, {there} on Kafka")
        chains.append(there)
    return Proof(tuple(stretches), tuple(chains), 0, 0, 0)


async def _all(log: Log, topic: Topic, partition: int, last: int | None = None) -> AsyncIterator[Record]:
    """The records up to position `last`, or to the end."""
    position = 0
    while records := await log.read(topic, partition, position, BATCH):
        for record in records:
            if last is not None and record.position > last:
                return
            yield record
        position = records[-1].position


class _DigestBuilder:
    def __init__(self, topic: Topic, partition: int) -> None:
        self._topic: Topic = topic
        self._partition = partition
        self._records = 0
        self._digest = hashlib.sha256()
        self.last = 0

    def add(self, record: Record) -> None:
        envelope = record.envelope
        if self._topic in OF_CLIENTS:
            envelope = replace(envelope, time="")
        self._records += 1
        self.last = record.position
        self._digest.update(f"{record.position} {envelope.hash()}\n".encode())

    def digest(self) -> TopicDigest:
        return TopicDigest(self._topic, self._partition, self._records, self.last, self._digest.hexdigest())
