"""The one writer of a partition: events, outcomes, snapshots and consumed positions in one transaction.

Kafka has no conditional append. What stands in its place: starting a producer under the partition's
transactional id fences whoever had it before, so that from then on nobody else writes, and where the next
event will stand is known before it is sent.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from streams.kafka.fetcher import Fetcher
from streams.kafka.producer import (
    REFUSED_SIZES,
    REQUEST_SECONDS,
    ROOM,
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
"""Bytes of a message beside what is in it, at most."""
MANY_HEADERS = 30
MARKER = 1
"""A transaction's end takes one offset in every partition it wrote to."""


@dataclass(frozen=True, slots=True)
class Message:
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]

    def size(self) -> int:
        """Bytes, about as the broker counts them."""
        headers = sum([len(name) + len(value) for name, value in self.headers])
        return len(self.key) + len(self.value or b"") + headers + 4 * len(self.headers) + FRAME


def require_sizes(topic: str, messages: Iterable[Message], limit: int) -> None:
    """Raises MessageTooLarge before the broker has to. `limit` in bytes."""
    near = limit // 2
    for message in messages:
        # What is far from it is not measured: headers come with commands, which are limited themselves.
        if len(message.value or b"") > near or len(message.headers) > MANY_HEADERS:
            require_size(topic, message.size(), limit)


@dataclass(frozen=True, slots=True)
class Write:
    """`first` and `expected` as `streams.log.Append` has them."""

    place: TopicPartition
    messages: Sequence[Message]
    expected: int | None = None
    first: int | None = None


class PartitionWriter:
    """`events` is the partition whose positions are foretold; `end` its last record's position.

    After LogUnavailable it writes nothing until it is claimed anew, because only that tells what became of
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
        """Of each partition written to, the last position."""
        self.consumed: dict[tuple[str, TopicPartition], int] = {}
        """What was committed for a group; the broker says so a moment later."""

    @property
    def claimed(self) -> bool:
        return self._producer is not None

    @property
    def next_position(self) -> int:
        return self._next + 1

    async def claim(self) -> None:
        """Fences the writer before. Raises LogUnavailable."""
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

        Raises WrongExpectedPosition, MessageTooLarge, Fenced, and LogUnavailable when it is not known what
        became of it.
        """
        for write in writes:
            require_sizes(write.place.topic, write.messages, self._settings.max_message * ROOM)
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
                # Cancelled in between: nobody knows how far it came.
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
        return Fenced(f"{self._id}: another process has taken the partition over")

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
            # The first error tells what is wrong; the others say the same.
            for each in (*committing, *(future for sent in sending for _, future in sent)):
                each.cancel()
                each.add_done_callback(retrieved)
            raise
        for write, at in zip(writes, positions, strict=True):
            if write.first is not None and at and (at[0], at[-1]) != (write.first, write.first + len(at) - 1):
                await producer.abort_transaction()
                raise KafkaError(f"{write.place.topic} took {at[0]} where {write.first} had to follow")
        await producer.commit_transaction()
        return positions

    async def _positions(self, write: Write, sent: "Sent") -> list[int]:
        positions: list[int] = []
        for count, future in sent:
            try:
                first = (await future).offset + 1
            except REFUSED_SIZES as error:
                raise TopicTooSmall(write.place.topic, self._settings.max_message * ROOM) from error
            positions.extend(range(first, first + count))
        return positions


Sent = list[tuple[int, asyncio.Future[RecordMetadata]]]
"""How many messages each batch holds, and where it went."""


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
