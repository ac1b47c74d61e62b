"""All Kafka topics of a Signalbox as one value, and back: every record at the offset that it had."""

import asyncio
import base64
import json
import lzma
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from signalbox.roles import CONSUMER_GROUPS
from streams.kafka.inspection import describe
from streams.kafka.partition_writer import MARKER
from streams.kafka.settings import KafkaSettings
from streams.kafka.topics import ensure_topics, specs

LARGEST = 2**20
"""Bytes of all records of one transaction."""


@dataclass(frozen=True, slots=True)
class KeptRecord:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class KeptTopics:
    """`records` by topic (without the prefix) of one partition each, `ends` the next offsets (a transaction's
    end takes one), `offsets` those committed, by group and topic."""

    prefix: str
    records: dict[str, list[KeptRecord]]
    ends: dict[str, int]
    offsets: dict[str, dict[str, int]]


async def read_topics(settings: KafkaSettings) -> KeptTopics:
    """Reads all topics, which have one partition each."""
    consumer = AIOKafkaConsumer(
        **settings.client(), isolation_level="read_committed", enable_auto_commit=False, group_id=None
    )
    await consumer.start()
    records: dict[str, list[KeptRecord]] = {}
    ends: dict[str, int] = {}
    try:
        for spec in specs(settings):
            place = TopicPartition(settings.topic(spec.name), 0)
            ends[spec.name] = (await consumer.end_offsets([place]))[place]
            records[spec.name] = [record async for record in _records(consumer, place, ends[spec.name])]
    finally:
        await consumer.stop()
    _, groups = await describe(settings, [settings.group(name) for name in CONSUMER_GROUPS])
    offsets = {
        group.name.removeprefix(settings.group("")): {
            place.topic.removeprefix(settings.topic("")): offset for place, offset in group.offsets.items()
        }
        for group in groups
    }
    return KeptTopics(settings.prefix, records, ends, offsets)


async def _records(consumer: AIOKafkaConsumer, place: TopicPartition, end: int) -> AsyncIterator[KeptRecord]:
    consumer.assign([place])
    consumer.seek(place, 0)
    while await consumer.position(place) < end:
        for batch in (await consumer.getmany(place, timeout_ms=1000)).values():
            for r in batch:
                headers = tuple((name, bytes(value)) for name, value in r.headers)
                yield KeptRecord(r.offset, r.timestamp, r.key, r.value, headers)


async def write_topics(settings: KafkaSettings, kept: KeptTopics) -> None:
    """Creates the topics and writes the records. Raises AssertionError if an offset is not as it was."""
    await ensure_topics(settings)
    plain = AIOKafkaProducer(**settings.client(), acks="all", enable_idempotence=True, max_batch_size=LARGEST)
    transactional = AIOKafkaProducer(
        **settings.client(),
        acks="all",
        transactional_id=f"{settings.prefix}-kept-topics",
        max_batch_size=LARGEST,
    )
    await plain.start()
    await transactional.start()
    try:
        for name, records in kept.records.items():
            place = TopicPartition(settings.topic(name), 0)
            for run, transaction in runs(records, kept.ends[name]):
                if transaction:
                    await transactional.begin_transaction()
                    await _send(transactional, place, run)
                    await transactional.commit_transaction()
                else:
                    await _send(plain, place, run)
    finally:
        await transactional.stop()
        await plain.stop()
    for group, offsets in kept.offsets.items():
        await _commit(settings, group, offsets)


def runs(records: Sequence[KeptRecord], end: int) -> Iterator[tuple[list[KeptRecord], bool]]:
    """Records that follow each other, and whether a transaction ended after them."""
    run: list[KeptRecord] = []
    following = [record.offset for record in records[1:]] + [end]
    for record, after in zip(records, following, strict=False):
        run.append(record)
        if after != record.offset + 1:
            assert after == record.offset + 1 + MARKER, f"a gap after offset {record.offset}"
            yield run, True
            run = []
    if run:
        yield run, False


async def _send(producer: AIOKafkaProducer, place: TopicPartition, run: Sequence[KeptRecord]) -> None:
    batch = producer.create_batch()
    for r in run:
        added = batch.append(timestamp=r.timestamp, key=r.key, value=r.value, headers=[*r.headers])
        assert added is not None, "the records of one transaction fit in one batch"
    batch.close()
    sent = await (await producer.send_batch(batch, place.topic, partition=place.partition))
    assert sent.offset == run[0].offset, f"{place}: offset {sent.offset} instead of {run[0].offset}"


async def _commit(settings: KafkaSettings, group: str, offsets: dict[str, int]) -> None:
    consumer = AIOKafkaConsumer(**settings.client(), group_id=settings.group(group), enable_auto_commit=False)
    await consumer.start()
    try:
        places = {TopicPartition(settings.topic(name), 0): offset for name, offset in offsets.items()}
        consumer.assign(list(places))
        if places:
            await consumer.commit(places)
    finally:
        await consumer.stop()


def save(kept: KeptTopics, file: Path) -> None:
    document = {
        "prefix": kept.prefix,
        "ends": kept.ends,
        "offsets": kept.offsets,
        "records": {
            topic: [
                [r.offset, r.timestamp, _text(r.key), _text(r.value), [[n, _text(v)] for n, v in r.headers]]
                for r in records
            ]
            for topic, records in kept.records.items()
        },
    }
    file.write_bytes(lzma.compress(json.dumps(document).encode()))


def load(file: Path) -> KeptTopics:
    document = json.loads(lzma.decompress(file.read_bytes()))
    records = {topic: [_record(*row) for row in rows] for topic, rows in document["records"].items()}
    return KeptTopics(document["prefix"], records, document["ends"], document["offsets"])


def _record(
    offset: int, timestamp: int, key: str | None, value: str | None, headers: list[tuple[str, str]]
) -> KeptRecord:
    named = tuple((name, _bytes(text) or b"") for name, text in headers)
    return KeptRecord(offset, timestamp, _bytes(key), _bytes(value), named)


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def produce_unreadable(settings: KafkaSettings) -> None:
    """Puts a message that is no CloudEvent on the topic of commands."""

    async def produce() -> None:
        producer = AIOKafkaProducer(**settings.client())
        await producer.start()
        await producer.send_and_wait(settings.topic("commands"), b"not JSON", key=b"default")
        await producer.stop()

    asyncio.run(produce())
