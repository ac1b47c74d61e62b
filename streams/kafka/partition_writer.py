"""The single writer of a partition: events, outcomes, snapshots and consumed positions in one transaction.

Kafka has no conditional append. Instead, starting a producer with the partition's transactional id fences
the previous one, so that there is no other writer, and the position of the next event is known before it is
sent.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from streams.kafka.fetcher import Fetcher, contents_size
from streams.kafka.producer import (
    BATCH_FACTOR,
    REFUSED_SIZES,
    REQUEST_SECONDS,
    TopicTooSmall,
    require_size,
    retrieved,
    started_producer,
    stopped,
    unavailable,
)
from streams.kafka.settings import KafkaSettings
from streams.log import Fenced, LogUnavailable, WrongExpectedPosition

FRAME = 70
"""The maximal overhead of a message in bytes."""
MANY_HEADERS = 30
MARKER = 1
"""The end of a transaction takes one offset in each of its partitions."""


class Message(NamedTuple):
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]

    def size(self) -> int:
        """Approximate size in bytes, as the broker counts it."""
        return len(self.key) + contents_size(self.value, self.headers) + 4 * len(self.headers) + FRAME


def require_sizes(topic: str, messages: Iterable[Message], limit: int) -> None:
    """Raises MessageTooLarge before the broker has to. `limit` in bytes."""
    near = limit // 2
    for message in messages:
        # Messages far below the limit are not measured: headers are copied from commands, which are limited
        # themselves.
        if len(message.value or b"") > near or len(message.headers) > MANY_HEADERS:
            require_size(topic, message.size(), limit)


@dataclass(frozen=True, slots=True)
class Write:
    """`first` and `expected` as in `streams.log.Append`."""

    place: TopicPartition
    messages: Sequence[Message]
    expected: int | None = None
    first: int | None = None


class PartitionWriter:
    """`events` is the partition whose positions are predicted; `end` its last record's position.

    After LogUnavailable it writes nothing until it is claimed again, because only that shows the result of
    the transaction.
    """

    def __init__(self, settings: KafkaSettings, fetching: Fetcher, name: str, events: TopicPartition) -> None:
        self._settings = settings
        self._fetching = fetching
        self._id = f"{settings.group(name)}-{events.partition}"
        self._events = events
        self._producer: AIOKafkaProducer | None = None
        self._turn = asyncio.Lock()
        self._next = 0
        self._fenced = False
        self.end = 0
        self.written: dict[TopicPartition, int] = {}
        """The last written position per partition."""
        self.consumed: dict[tuple[str, TopicPartition], int] = {}
        """The committed positions per group; at the broker they are visible a moment later."""

    @property
    def claimed(self) -> bool:
        return self._producer is not None

    @property
    def next_position(self) -> int:
        return self._next + 1

    async def claim(self) -> None:
        """Fences the previous writer. Raises LogUnavailable."""
        async with self._turn:
            await self._drop()
            self._fenced = False
            producer = await started_producer(self._settings, self._id)
            try:
                self._next = await self._fetching.end(self._events)
                self.end = await self._fetching.last(self._events)
            except BaseException:
                await stopped(producer)
                raise
            self._producer = producer
            self.consumed.clear()

    async def write(
        self, writes: Sequence[Write], offsets: Mapping[str, Mapping[TopicPartition, int]]
    ) -> list[list[int]]:
        """Writes all or nothing; the positions of each write's messages. `offsets` by group.

        Raises WrongExpectedPosition, MessageTooLarge, Fenced, and LogUnavailable when the result is
        unknown.
        """
        for write in writes:
            require_sizes(write.place.topic, write.messages, self._settings.max_message * BATCH_FACTOR)
        async with self._turn:
            self._check_expectations(writes)
            producer = self._producer
            if self._fenced:
                raise self._fenced_error()
            if producer is None:
                raise LogUnavailable(f"{self._id} is not claimed")
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    positions = await self._transaction(producer, writes, offsets)
            except ProducerFenced as error:
                self._fenced = True
                await self._drop()
                raise self._fenced_error() from error
            except (KafkaError, OSError, TimeoutError) as error:
                await self._drop()
                raise unavailable(self._settings, error) from error
            except BaseException:
                # Cancelled during the write: the result is unknown.
                await self._drop()
                raise
            for write, at in zip(writes, positions, strict=True):
                if at:
                    self.written[write.place] = at[-1]
                    if write.place == self._events:
                        self.end = at[-1]
                        self._next = at[-1] + MARKER
            for group, places in offsets.items():
                self.consumed.update({(group, place): offset for place, offset in places.items()})
            return positions

    async def close(self) -> None:
        async with self._turn:
            await self._drop()

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stopped(producer)

    def _fenced_error(self) -> Fenced:
        return Fenced(f"{self._id}: another process has claimed the partition")

    def _check_expectations(self, writes: Sequence[Write]) -> None:
        for write in writes:
            if write.place != self._events:
                if write.expected is not None or write.first is not None:
                    raise ValueError(f"only the end of {self._events.topic} is known before writing")
                continue
            partition = write.place.partition
            if write.expected is not None and write.expected != self.end:
                raise WrongExpectedPosition("events", partition, write.expected, self.end)
            if write.first is not None and write.first != self.next_position:
                raise WrongExpectedPosition("events", partition, write.first - 1, self._next)

    async def _transaction(
        self,
        producer: AIOKafkaProducer,
        writes: Sequence[Write],
        offsets: Mapping[str, Mapping[TopicPartition, int]],
    ) -> list[list[int]]:
        await producer.begin_transaction()
        sending = [await _send(producer, write) for write in writes]
        committing = [
            asyncio.ensure_future(producer.send_offsets_to_transaction(places, group))
            for group, places in offsets.items()
        ]
        try:
            positions = [
                await self._positions(write, batches) for write, batches in zip(writes, sending, strict=True)
            ]
            for each in committing:
                await each
        except BaseException:
            # The first error is the cause; the others follow from it.
            for each in (*committing, *(future for sent in sending for _, future in sent)):
                each.cancel()
                each.add_done_callback(retrieved)
            raise
        for write, at in zip(writes, positions, strict=True):
            if write.first is not None and at and (at[0], at[-1]) != (write.first, write.first + len(at) - 1):
                await producer.abort_transaction()
                raise KafkaError(f"{write.place.topic} assigned {at[0]} instead of {write.first}")
        await producer.commit_transaction()
        return positions

    async def _positions(self, write: Write, sent: "Sent") -> list[int]:
        positions: list[int] = []
        for count, future in sent:
            try:
                first = (await future).offset + 1
            except REFUSED_SIZES as error:
                raise TopicTooSmall(write.place.topic, self._settings.max_message * BATCH_FACTOR) from error
            positions.extend(range(first, first + count))
        return positions


Sent = list[tuple[int, asyncio.Future[RecordMetadata]]]
"""The number of messages per batch, and the future of its position."""


async def _send(producer: AIOKafkaProducer, write: Write) -> Sent:
    sent: Sent = []
    now = int(time.time() * 1000)
    batch, count = producer.create_batch(), 0
    for m in write.messages:
        if batch.append(timestamp=now, key=m.key, value=m.value, headers=m.headers) is None:
            sent.append((count, await _submit(producer, batch, write.place)))
            batch, count = producer.create_batch(), 0
            batch.append(timestamp=now, key=m.key, value=m.value, headers=m.headers)
        count += 1
    if count:
        sent.append((count, await _submit(producer, batch, write.place)))
    return sent


async def _submit(
    producer: AIOKafkaProducer, batch: BatchBuilder, place: TopicPartition
) -> asyncio.Future[RecordMetadata]:
    return await producer.send_batch(batch, place.topic, partition=place.partition)
