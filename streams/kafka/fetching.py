"""Reading partitions of Kafka at any offset, each request when it is wanted.

aiokafka's consumer keeps fetching from one place in the background; a log is read from many places, and
a reader that jumps would wait for the fetch that is under way. So requests are sent one by one here, on
aiokafka's connections, and its parser leaves out what was aborted.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    LeaderNotAvailableError,
    OffsetOutOfRangeError,
    StaleMetadata,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords

from streams.kafka.producing import unavailable
from streams.kafka.settings import KafkaSettings
from streams.log import LogDamaged

T = TypeVar("T")

LATEST, EARLIEST = -1, -2
GROUP_COORDINATOR = 0
NOW = "now"
"""The connection for what is answered at once; what waits at the broker has a connection of its own,
because a broker answers the requests of one connection in turn."""

PATIENCE_SECONDS = 5.0
RETRY_SECONDS = 0.05
FETCH_BYTES = 1 << 20
LAST_IN = 16
"""How many offsets before the end are looked through first for the last record."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """`following` is the offset to go on from; `stable` the offset up to which all is decided."""

    messages: Sequence[ConsumerRecord]
    following: int
    stable: int


class Fetching:
    """One process's reads. Raises LogUnavailable when no answer is had for some seconds."""

    def __init__(self, settings: KafkaSettings, client: AIOKafkaClient) -> None:
        """Use `open`."""
        self._settings = settings
        self._client = client

    @classmethod
    async def open(cls, settings: KafkaSettings, topics: Sequence[str]) -> "Fetching":
        """Raises LogUnavailable."""
        client = AIOKafkaClient(**settings.client(), connections_max_idle_ms=None)
        try:
            await client.bootstrap()
            await client.set_topics(topics)
        except (KafkaError, OSError) as error:
            await client.close()
            raise unavailable(settings, error) from error
        return cls(settings, client)

    async def close(self) -> None:
        await self._client.close()

    async def fetch(self, place: TopicPartition, offset: int, *, wait_ms: int = 0) -> Fetched:
        """What stands at `offset` and after it; with `wait_ms`, as soon as there is anything."""
        connection = f"{place.topic}/{place.partition}" if wait_ms else NOW

        async def once() -> Fetched:
            request = FetchRequest(
                wait_ms,
                1,
                4 * FETCH_BYTES,
                READ_COMMITTED,
                [(place.topic, [(place.partition, offset, FETCH_BYTES)])],
            )
            response = await self._client.send(self._leader(place), request, group=connection)
            ((_, ((_, code, _, stable, *_rest, aborted, found),)),) = _versioned(response)
            if for_code(code) is OffsetOutOfRangeError:
                return await self._in_range(place, offset)
            _check(code)
            messages, following = parsed(place, found, aborted, offset)
            return Fetched(messages, following, stable)

        return await self._patiently(once)

    async def end(self, place: TopicPartition) -> int:
        """The offset after the last record that is decided."""
        return await self._offset(place, LATEST)

    async def last(self, place: TopicPartition) -> int:
        """The position of the last record, 0 when there is none: what ends transactions comes after it."""
        end, back = await self.end(place), LAST_IN
        while end > 0:
            found, at = 0, max(0, end - back)
            while at < end:
                fetched = await self.fetch(place, at)
                if fetched.messages:
                    found = fetched.messages[-1].offset + 1
                if fetched.following == at:
                    break
                at = fetched.following
            if found or back >= end:
                return found
            back *= 16
        return 0

    async def beginning(self, place: TopicPartition) -> int:
        """The offset of the first record that is kept."""
        return await self._offset(place, EARLIEST)

    async def committed(self, group: str, place: TopicPartition) -> int:
        """The offset a consumer group goes on from, 0 at first."""

        async def once() -> int:
            node = await self._client.coordinator_lookup(GROUP_COORDINATOR, group)
            request = OffsetFetchRequest(group, [(place.topic, [place.partition])])
            response = await self._client.send(node, request, group=NOW)
            _check(response.error_code)
            ((_, ((_, offset, _, code),)),) = response.topics
            _check(code)
            return max(0, offset)

        return await self._patiently(once)

    async def _in_range(self, place: TopicPartition, offset: int) -> Fetched:
        """What retention removed is skipped."""
        beginning, end = await self.beginning(place), await self.end(place)
        return Fetched((), max(offset, beginning), end)

    async def _offset(self, place: TopicPartition, which: int) -> int:
        async def once() -> int:
            request = OffsetRequest(-1, READ_COMMITTED, [(place.topic, [(place.partition, which)])])
            response = await self._client.send(self._leader(place), request, group=NOW)
            ((_, ((_, code, _, offset),)),) = response.topics
            _check(code)
            return offset

        return await self._patiently(once)

    def _leader(self, place: TopicPartition) -> int:
        node = self._client.cluster.leader_for_partition(place)
        if node is None:
            raise StaleMetadata(f"{place.topic}/{place.partition} is not known")
        if node == -1:
            raise LeaderNotAvailableError()
        return node

    async def _patiently(self, once: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE_SECONDS
        while True:
            try:
                return await once()
            except (KafkaError, OSError) as error:
                if loop.time() >= until:
                    raise unavailable(self._settings, error) from error
                self._client.force_metadata_update()
                await asyncio.sleep(RETRY_SECONDS)


def parsed(
    place: TopicPartition, found: bytes, aborted: Sequence[tuple[int, int]], offset: int
) -> tuple[list[ConsumerRecord], int]:
    """The messages in a fetch's record batches from `offset` on, and the offset to go on from.

    aiokafka gives up at a message whose header names are no UTF-8. What its batch holds from there on comes
    without contents, so that whoever reads can say which messages these were, and go on.
    """
    messages: list[ConsumerRecord] = []
    records = PartitionRecords(
        place, MemoryRecords(found), aborted, offset, None, None, False, READ_COMMITTED
    )
    if not found:
        return messages, records.next_fetch_offset
    try:
        messages.extend(records)
    except (UnicodeDecodeError, CorruptRecordException):
        at = records.next_fetch_offset
        following = _after_batch(found, at)
        unreadable = (
            ConsumerRecord(*place, o, 0, 0, None, None, None, -1, -1, ()) for o in range(at, following)
        )
        messages.extend(unreadable)
        return messages, following
    return messages, records.next_fetch_offset


_BATCH = struct.Struct(">qi11xi")
"""Of a record batch (Kafka protocol, magic 2): base offset, length of the rest, delta of the last offset."""


def _after_batch(found: bytes, offset: int) -> int:
    """The offset after the batch that `offset` is in. Raises LogDamaged when there is none."""
    at = 0
    while at + _BATCH.size <= len(found):
        base, length, last = _BATCH.unpack_from(found, at)
        if base <= offset <= base + last:
            return base + last + 1
        at += 12 + length
    raise LogDamaged(f"the broker sent no batch that holds offset {offset}")


def _versioned(response: Any) -> Any:
    if response.API_VERSION >= 11:  # before the records comes the replica to prefer
        return [
            (topic, [(*p[:-3], p[-3], p[-1]) for p in partitions]) for topic, partitions in response.topics
        ]
    return response.topics


def _check(code: int) -> None:
    if code:
        raise for_code(code)()
