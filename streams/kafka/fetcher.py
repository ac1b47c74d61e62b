"""Reads partitions of Kafka at any offset, with one request per read.

aiokafka's consumer fetches from one offset in the background; a log is read at many offsets, and a reader
that seeks would wait for the current fetch. So requests are sent one by one here, on aiokafka's
connections, and its parser omits aborted transactions.
"""

import asyncio
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import (
    CorruptRecordException,
    KafkaConnectionError,
    KafkaError,
    LeaderNotAvailableError,
    NotLeaderForPartitionError,
    OffsetOutOfRangeError,
    StaleMetadata,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords

from streams.kafka.identity import identity
from streams.kafka.producer import unavailable
from streams.kafka.settings import KafkaSettings
from streams.log import LogDamaged, LogUnavailable
from streams.retry import back_off

logger = logging.getLogger("signalbox.kafka")

T = TypeVar("T")

LATEST, EARLIEST = -1, -2
GROUP_COORDINATOR = 0
NOW = "now"
"""The connection for requests that are answered at once; requests that wait at the broker have another one,
because a broker answers the requests of one connection in turn."""

PATIENCE_SECONDS = 5.0
LONGEST_PAUSE = 0.2
"""Pauses between retries within `PATIENCE_SECONDS` are no longer."""
WAIT_MS = 200
FETCH_BYTES = 1 << 20
TRANSPORT_CLOSED = "the handler is closed"
LAST_IN = 16
"""The number of offsets before the end that are searched first for the last record."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """`following`: the offset to continue from; `stable`: the last stable offset.

    There are more messages while `following < stable`. After a change of leaders `stable` may be lower than
    offsets read before. `truncated`: the log ends before the requested offset, records were lost. `size`:
    bytes as the broker sent them, perhaps compressed.
    """

    messages: Sequence[ConsumerRecord]
    following: int
    stable: int
    truncated: bool = False
    size: int = 0


class Throttled(Exception):
    """The broker answered without content, because a quota of this client is exceeded."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"a quota throttles this client for {seconds:g} s")
        self.seconds = seconds


class NotYetVisible(KafkaError):
    """The broker returns nothing at an offset, although it returned an end beyond it."""

    def __init__(self, place: TopicPartition, offset: int) -> None:
        super().__init__(f"{place.topic}/{place.partition} returns nothing at offset {offset}, but has more")


class Fetcher:
    """The reads of one process. Raises LogUnavailable without an answer for some seconds."""

    def __init__(self, settings: KafkaSettings, client: AIOKafkaClient) -> None:
        """Use `open`."""
        self._settings = settings
        self._client = client

    @classmethod
    async def open(cls, settings: KafkaSettings, topics: Sequence[str]) -> "Fetcher":
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

    async def fetch(
        self,
        place: TopicPartition,
        offset: int,
        *,
        wait_ms: int = 0,
        at_once: int = FETCH_BYTES,
        compacted: bool = False,
    ) -> Fetched:
        """The messages from `offset` on; with `wait_ms`, as soon as there is one;
        `at_once` bytes, or one batch.

        An answer without messages continues at a later offset, or there is no stable message from `offset`
        on at the leader. Of a `compacted` topic, all messages from `offset` on may be removed: then it
        continues at the end. Raises LogUnavailable.
        """
        connection = f"{place.topic}/{place.partition}" if wait_ms else NOW
        suspected = False

        async def once() -> Fetched:
            nonlocal suspected
            request = FetchRequest(
                wait_ms,
                1,
                4 * FETCH_BYTES,
                READ_COMMITTED,
                [(place.topic, [(place.partition, offset, at_once)])],
            )
            response = await self._client.send(self._leader(place), request, group=connection)
            _check_throttled(response)
            ((_, ((_, code, _, stable, *_rest, aborted, found),)),) = _versioned(response)
            if for_code(code) is OffsetOutOfRangeError:
                fetched = await self._out_of_range(place, offset)
                if fetched.truncated and not suspected:
                    # A replica that is no longer the leader may answer too, and may lack records.
                    suspected = True
                    raise NotLeaderForPartitionError()
                return fetched
            _check(code)
            messages, following = parsed(place, found, aborted, offset)
            if not messages and following == offset < stable:
                if not compacted:
                    raise NotYetVisible(place, offset)
                following = stable
            return Fetched(messages, following, stable, size=len(found))

        return await self._retry(once)

    async def through(
        self,
        place: TopicPartition,
        start: int,
        end: int,
        *,
        at_once: int = FETCH_BYTES,
        compacted: bool = False,
    ) -> AsyncIterator[Fetched]:
        """All messages from offset `start` up to `end`, which the broker returned as an end.

        After a change of leaders it may be visible a moment later. `at_once` and `compacted` as for
        `fetch`. Raises LogUnavailable.
        """
        loop = asyncio.get_running_loop()
        at, until = start, loop.time() + PATIENCE_SECONDS
        wait_ms = 0
        while at < end:
            fetched = await self.fetch(place, at, wait_ms=wait_ms, at_once=at_once, compacted=compacted)
            yield fetched
            if fetched.following > at:
                at, until, wait_ms = fetched.following, loop.time() + PATIENCE_SECONDS, 0
            elif loop.time() >= until:
                raise self._gave_up(NotYetVisible(place, at))
            else:
                wait_ms = WAIT_MS

    async def end(self, place: TopicPartition) -> int:
        """The last stable offset: after the last record that is committed or aborted."""
        return await self._offset(place, LATEST)

    async def high_watermark(self, place: TopicPartition) -> int:
        """The offset after all acknowledged records, also of transactions that are open or whose commit is
        not yet visible."""
        return await self._offset(place, LATEST, READ_UNCOMMITTED)

    async def last(self, place: TopicPartition) -> int:
        """The position of the last record, 0 without one; control records may follow it."""
        end, back = await self.end(place), LAST_IN
        while end > 0:
            found = 0
            async for fetched in self.through(place, max(0, end - back), end):
                if fetched.messages:
                    found = fetched.messages[-1].offset + 1
            if found or back >= end:
                return found
            back *= 16
        return 0

    async def beginning(self, place: TopicPartition) -> int:
        """The offset of the first record that exists."""
        return await self._offset(place, EARLIEST)

    async def identity(self, topic: str) -> str:
        """The unique id of a topic (`streams.kafka.identity`). Raises LogUnavailable."""

        async def once() -> str:
            try:
                return await identity(self._client, topic, NOW)
            except NotImplementedError:  # a broker that does not return the ids of topics
                return f"{self._settings.bootstrap} {topic}"

        return await self._retry(once)

    async def committed(self, group: str, place: TopicPartition) -> int:
        """The committed offset of a consumer group, 0 at first."""

        async def once() -> int:
            node = await self._client.coordinator_lookup(GROUP_COORDINATOR, group)
            request = OffsetFetchRequest(group, [(place.topic, [place.partition])])
            response = await self._client.send(node, request, group=NOW)
            _check(response.error_code)
            ((_, ((_, offset, _, code),)),) = response.topics
            _check(code)
            return max(0, offset)

        return await self._retry(once)

    async def _out_of_range(self, place: TopicPartition, offset: int) -> Fetched:
        """Continues after the offsets that retention removed."""
        beginning, end = await self.beginning(place), await self.end(place)
        if beginning <= offset <= end:
            raise NotLeaderForPartitionError()
        return Fetched((), max(offset, beginning), end, truncated=offset > end)

    async def _offset(self, place: TopicPartition, which: int, isolation: int = READ_COMMITTED) -> int:
        async def once() -> int:
            request = OffsetRequest(-1, isolation, [(place.topic, [(place.partition, which)])])
            response = await self._client.send(self._leader(place), request, group=NOW)
            ((_, ((_, code, _, offset),)),) = response.topics
            _check(code)
            return offset

        return await self._retry(once)

    def _leader(self, place: TopicPartition) -> int:
        node = self._client.cluster.leader_for_partition(place)
        if node is None:
            raise StaleMetadata(f"{place.topic}/{place.partition} is not known")
        if node == -1:
            raise LeaderNotAvailableError()
        return node

    def _gave_up(self, error: KafkaError | OSError) -> LogUnavailable:
        if isinstance(error, NotYetVisible):
            message = f"Kafka at {self._settings.bootstrap}: {error.args[0]}"
            return LogUnavailable(message, "Kafka does not answer")
        return unavailable(self._settings, error)

    async def _retry(self, once: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        until, failures = loop.time() + PATIENCE_SECONDS, 0
        while True:
            try:
                return await _sent(once)
            except Throttled as throttled:
                logger.warning("Kafka at %s: %s", self._settings.bootstrap, throttled)
                # The broker answers with the time of throttling: this is no outage.
                until += throttled.seconds
                await asyncio.sleep(throttled.seconds)
            except (KafkaError, OSError) as error:
                if loop.time() >= until:
                    raise self._gave_up(error) from error
                failures += 1
                self._client.force_metadata_update()
                await asyncio.sleep(min(back_off(failures), LONGEST_PAUSE))


async def _sent(request: Callable[[], Awaitable[T]]) -> T:
    """Raises KafkaConnectionError also when the broker closed the connection a moment before: uvloop raises
    then, where asyncio's own transport drops the bytes."""
    try:
        return await request()
    except RuntimeError as error:
        if type(error) is RuntimeError and TRANSPORT_CLOSED in str(error):
            raise KafkaConnectionError(str(error)) from error
        raise


def parsed(
    place: TopicPartition, found: bytes, aborted: Sequence[tuple[int, int]], offset: int
) -> tuple[list[ConsumerRecord], int]:
    """The messages in a fetch's record batches from `offset` on, and the offset to continue from.

    aiokafka stops at a message whose header names are not UTF-8. The messages of its batch from there on
    are returned without contents, so that the reader can report and skip them.
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
"""The header of a record batch (Kafka protocol, magic 2): base offset, length of the rest, delta of the
last offset."""


def _after_batch(found: bytes, offset: int) -> int:
    """The offset after the batch with `offset`. Raises LogDamaged when there is none."""
    at = 0
    while at + _BATCH.size <= len(found):
        base, length, last = _BATCH.unpack_from(found, at)
        if base <= offset <= base + last:
            return base + last + 1
        at += 12 + length
    raise LogDamaged(f"the broker sent no batch that holds offset {offset}")


def contents_size(value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> int:
    """Bytes of a message's value and headers, as they came out of a batch that may be compressed."""
    size = len(value or b"")
    for name, content in headers:
        size += len(name) + len(content or b"")
    return size


def _versioned(response: Any) -> Any:
    if response.API_VERSION >= 11:  # the preferred replica is before the records
        return [
            (topic, [(*p[:-3], p[-3], p[-1]) for p in partitions]) for topic, partitions in response.topics
        ]
    return response.topics


def _check_throttled(response: Any) -> None:
    """Raises Throttled. Such an answer has no topics (KIP-219) and no ends."""
    if not response.topics:
        raise Throttled(response.throttle_time_ms / 1000)


def _check(code: int) -> None:
    if code:
        raise for_code(code)()
