"""The config topic on Kafka: compacted by key, with one fenced writer per partition."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

from aiokafka import ConsumerRecord, TopicPartition

from gateways.config_resource import ConfigResource
from streams.config_topic import Subscribers, Unclaimed
from streams.kafka.fetcher import Fetched, Fetcher
from streams.kafka.messages.config_wire import decode, encode
from streams.kafka.partition_writer import Message, PartitionWriter, Write
from streams.kafka.producer import BATCH_FACTOR, require_size
from streams.kafka.security.integrity import HEADER, Integrity, parts_of
from streams.kafka.settings import KafkaSettings
from streams.log import LogDamaged, LogUnavailable
from streams.partitioner import partition_of
from streams.retry import Retry

CHUNK = 500
WAIT_MS = 500
WRITER = "gateway-sync"
BODILESS = b"-"
"""Replaces bodies that are not needed."""

Kept = tuple[bytes | None, Sequence[tuple[str, bytes]]]
"""Value and headers of a message."""

logger = logging.getLogger("signalbox.config")


class KafkaConfigTopic:
    """`streams.config_topic.ConfigTopic` for one event loop.

    The process that claimed a partition last writes to it. While `follow` runs, puts of other processes are
    received. A gateway's entries are in the partition of its organization; an entry without a gateway is in
    the partition at the end of its name (`events/3`). With an `integrity`, messages carry a MAC over their
    content and offset, and messages without a valid MAC are ignored.
    """

    def __init__(
        self, settings: KafkaSettings, fetching: Fetcher, integrity: Integrity | None = None
    ) -> None:
        """Use `open`."""
        self._settings = settings
        self._topic = settings.topic("config")
        self._largest = settings.max_message * BATCH_FACTOR
        self._fetching = fetching
        self._integrity = integrity
        self._subscribers = Subscribers()
        self.subscribe = self._subscribers.subscribe
        self._writers: dict[int, PartitionWriter] = {}
        self._turns = {partition: asyncio.Lock() for partition in range(settings.partitions)}
        self._following = False
        self._next: dict[int, int] = {}  # of each partition the offset after the loaded messages
        self._own: dict[int, list[range]] = {}  # offsets that `put` itself publishes to subscribers
        self._covered: dict[int, Sequence[bytes | None]] = {}  # keys whose newest message is forged
        self._closed = False

    @classmethod
    async def open(cls, settings: KafkaSettings, integrity: Integrity | None = None) -> "KafkaConfigTopic":
        """Raises LogUnavailable."""
        return cls(settings, await Fetcher.open(settings, [settings.topic("config")]), integrity)

    async def claim(self, partition: int) -> None:
        """Makes this process the writer of a partition; the previous one is fenced. Claim first, then load.

        Raises LogUnavailable.
        """
        self._require_open()
        async with self._turns[partition]:
            if partition not in self._writers:
                place = TopicPartition(self._topic, partition)
                self._writers[partition] = PartitionWriter(self._settings, self._fetching, WRITER, place)
            await self._writers[partition].claim()

    async def release(self, partition: int) -> None:
        """Releases a partition, after the current put."""
        async with self._turns[partition]:
            if writer := self._writers.pop(partition, None):
                await writer.close()

    async def put(self, entries: Sequence[ConfigResource]) -> None:
        """Puts entries of one partition, which this process has claimed.

        Raises LogUnavailable, MessageTooLarge, Fenced.
        """
        self._require_open()
        if not entries:
            return
        places = {self.partition_of_entry(entry) for entry in entries}
        if len(places) > 1:
            raise ValueError(f"entries of the partitions {sorted(places)} cannot be put together")
        # A put that has begun is completed, even if its caller is cancelled.
        await asyncio.shield(asyncio.ensure_future(self._put(places.pop(), tuple(entries))))

    def require_size(self, entry: ConfigResource) -> None:
        near = self._largest // 4
        # Entries far below the limit are not measured. A deployment or a required name is well below 1 kB.
        if len(entry.body) > near or (len(entry.deployments) + len(entry.requires)) * 1000 > near:
            message = self._message(entry, True, 0, 0)
            require_size(self._topic, message.size(), self._largest)

    async def load(
        self,
        gateway: str | None = None,
        *,
        removals: bool = False,
        partitions: Iterable[int] | None = None,
        bodies: bool = True,
    ) -> AsyncIterator[list[ConfigResource]]:
        """`partitions`: default all; without `bodies`, bodies are replaced by a placeholder.

        `follow` continues where this ended. Raises LogUnavailable.
        """
        self._require_open()
        if gateway is not None:
            partitions = (self.partition_of(gateway),)
        for partition in self._turns if partitions is None else partitions:
            newest, following = await self._newest(partition, bodies)
            if not self._following:
                self._next[partition] = following
            entries = (e for key, kept in newest.items() for e in self._decoded(key, *kept))
            wanted = (e for e, _ in entries if gateway in (None, e.gateway) and (removals or e.body))
            while chunk := list(islice(wanted, CHUNK)):
                yield chunk
                await asyncio.sleep(0)

    async def repair(self, partition: int) -> int:
        """Puts entries again after which `load` found forged messages, since compaction would keep those;
        if no genuine one is left, a tombstone. Returns their number. The partition must be claimed.

        Raises LogUnavailable, Fenced.
        """
        keys = self._covered.get(partition, ())
        if not keys:
            return 0
        newest, _ = await self._newest(partition, bodies=True)
        entries = [entry for key in keys for entry in self._uncovered(key, newest)]
        entries = [entry for entry in entries if self._stands_in(entry, partition)]
        for start in range(0, len(entries), CHUNK):
            await self.put(entries[start : start + CHUNK])
        return len(entries)

    async def follow(self, partitions: Iterable[int] | None = None) -> None:
        """Notifies subscribers of puts of other processes, one put at a time, until cancelled.

        `partitions`: default all. It begins where `load` ended, or at the current end of partitions that
        were not loaded. It waits while Kafka is unavailable. Raises LogDamaged when the topic ends before
        the offset that was read.
        """
        self._following = True
        try:
            async with asyncio.TaskGroup() as group:
                for partition in self._turns if partitions is None else partitions:
                    group.create_task(self._follow(partition), name=f"config {partition}")
        finally:
            self._following = False

    async def close(self) -> None:
        self._closed = True
        for partition in self._turns:
            await self.release(partition)
        await self._fetching.close()

    def partition_of(self, gateway: str) -> int:
        """The partition of a gateway's subject."""
        return partition_of(gateway.split("/")[1], self._settings.partitions)

    def partition_of_entry(self, entry: ConfigResource) -> int:
        return self.partition_of(entry.gateway) if entry.gateway else int(entry.name.rpartition("/")[2])

    def _require_open(self) -> None:
        if self._closed:
            raise LogUnavailable("the config topic is closed")

    # -- putting

    async def _put(self, partition: int, entries: tuple[ConfigResource, ...]) -> None:
        end = len(entries) - 1
        place = TopicPartition(self._topic, partition)
        async with self._turns[partition]:
            writer = self._writers.get(partition)
            if writer is None or not writer.claimed:
                raise Unclaimed(
                    f"Partition {partition} of {self._topic} must be claimed before it is written."
                )
            first = writer.next_position - 1
            messages = [
                self._message(entry, number == end, partition, first + number)
                for number, entry in enumerate(entries)
            ]
            self._note_own(partition, range(first, first + len(messages)))
            # The MAC of a message covers its expected offset: the commit fails at any other offset.
            await writer.write([Write(place, messages, first=first + 1)], {})
            self._subscribers.notify(entries)
            await asyncio.sleep(0)  # subscribers are notified before this returns

    def _message(self, entry: ConfigResource, last: bool, partition: int, offset: int) -> Message:
        key, body, headers = encode(entry, last=last)
        if self._integrity is not None:
            mac = self._integrity.mac(self._topic, partition, *_parts(offset, key, body, headers))
            headers.append((HEADER, mac))
        return Message(key, body, headers)

    def _uncovered(self, key: bytes | None, newest: Mapping[bytes | None, Kept]) -> Iterator[ConfigResource]:
        """The genuine entry of a key, or its tombstone; nothing for a key of another form."""
        if key in newest:
            yield from (entry for entry, _ in self._decoded(key, *newest[key]))
            return
        try:
            gateway, type, name = (key or b"").decode().split("\n")
        except ValueError:
            return
        logger.error("%s: the entry %s of %s is lost: deploy its APIs again", self._topic, name, gateway)
        yield ConfigResource(gateway, "", type, name, "", 0, b"")

    def _stands_in(self, entry: ConfigResource, partition: int) -> bool:
        try:
            return self.partition_of_entry(entry) == partition
        except (ValueError, IndexError):
            return False

    def _note_own(self, partition: int, offsets: range) -> None:
        own = self._own.setdefault(partition, [])
        # There is a control record between two transactions of a writer.
        if own and offsets.start <= own[-1].stop + 1:
            own[-1] = range(own[-1].start, offsets.stop)
        else:
            own.append(offsets)

    # -- reading

    async def _newest(self, partition: int, bodies: bool) -> tuple[dict[bytes | None, Kept], int]:
        """The last message of each key, and the offset after all of them."""
        place = TopicPartition(self._topic, partition)
        newest: dict[bytes | None, Kept] = {}
        covered: dict[bytes | None, None] = {}
        offset, end = await self._fetching.beginning(place), await self._fetching.end(place)
        # A transaction becomes visible a moment after the broker has confirmed it.
        if writer := self._writers.get(partition):
            end = max(end, writer.end)
        async for fetched in self._fetching.through(place, offset, end, compacted=True):
            for message in fetched.messages:
                if not self._genuine(message):
                    covered[message.key] = None
                    continue
                covered.pop(message.key, None)
                value = message.value if bodies or not message.value else BODILESS
                newest.pop(message.key, None)
                newest[message.key] = (value, message.headers)
            offset = fetched.following
        if covered and not newest and partition not in self._writers:
            raise LogUnavailable(
                f"no entry of {place.topic}/{partition} has a MAC of our integrity.key: SIGNALBOX_SECRETS "
                "must be the same directory as that of role gateway-sync"
            )
        self._covered[partition] = tuple(covered)
        return newest, offset

    def _genuine(self, message: ConsumerRecord) -> bool:
        if self._integrity is None or genuine(self._integrity, message):
            return True
        self._integrity.refuse(self._topic, message.partition, message.offset)
        return False

    def _decoded(
        self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
    ) -> Iterator[tuple[ConfigResource, bool]]:
        """An entry and whether it is the last of its put; nothing for other messages."""
        try:
            yield decode(key, value, headers)
        except ValueError as error:
            logger.error("%s has a message with the key %r that is ignored: %s", self._topic, key, error)

    async def _fetch(self, place: TopicPartition) -> Fetched:
        if place.partition not in self._next:
            self._next[place.partition] = await self._fetching.end(place)
        offset = self._next[place.partition]
        return await self._fetching.fetch(place, offset, wait_ms=WAIT_MS, compacted=True)

    async def _follow(self, partition: int) -> None:
        place = TopicPartition(self._topic, partition)
        put: list[ConfigResource] = []
        retry = Retry("configuration is served as it is; changes wait", logger)
        while True:
            fetched = await retry(partial(self._fetch, place))
            if fetched.truncated:
                raise LogDamaged(
                    f"{place.topic}/{partition} ends at {fetched.stable} and had been read up to "
                    f"{self._next[partition]}: the broker lost entries. Restore its data, and start again."
                )
            self._next[partition] = fetched.following
            own = self._own.get(partition, ())
            for message in fetched.messages:
                if any(message.offset in offsets for offsets in own) or not self._genuine(message):
                    continue
                for entry, last in self._decoded(message.key, message.value, message.headers):
                    put.append(entry)
                    if last:
                        self._subscribers.notify(tuple(put))
                        put.clear()


def genuine(integrity: Integrity, message: ConsumerRecord) -> bool:
    """Whether a message of the config topic is genuine and at its original offset."""
    headers, mac = message.headers, None
    if headers and headers[-1][0] == HEADER:
        *headers, (_, mac) = headers
    parts = _parts(message.offset, message.key, message.value, headers)
    return integrity.genuine(message.topic, message.partition, message.offset, mac, *parts)


def _parts(
    offset: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
) -> list[bytes]:
    """The parts that the MAC of an entry covers: with the offset, so that a replayed message is detected."""
    return [offset.to_bytes(8, "big"), key or b"", value or b"", *parts_of(headers)]
