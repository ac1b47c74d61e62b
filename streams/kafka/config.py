"""The config topic on Kafka: compacted by key, each partition with one writer that is fenced."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from aiokafka import ConsumerRecord, TopicPartition

from gateways.config_resource import ConfigResource
from streams.config_topic import Subscriber
from streams.kafka.config_wire import decode, encode
from streams.kafka.fetcher import Fetcher
from streams.kafka.integrity import HEADER, Integrity
from streams.kafka.partition_writer import Message, PartitionWriter, Write
from streams.kafka.producer import ROOM, require_size
from streams.kafka.settings import KafkaSettings
from streams.log import Fenced, LogDamaged, LogUnavailable
from streams.partitioner import partition_of

CHUNK = 500
WAIT_MS = 500
RETRY_SECONDS = 0.2
WRITER = "gateway-sync"
BODILESS = b"-"
"""Stands for a body that is of no interest."""

Kept = tuple[bytes | None, Iterable[tuple[str, bytes]]]
"""Value and headers of a message."""

logger = logging.getLogger("signalbox.config")


class Unclaimed(Fenced):
    """Nobody has claimed the partition here, or it is not known what became of a put: claim, then load."""


class KafkaConfigTopic:
    """`streams.config_topic.ConfigTopic` for one event loop.

    A partition is put to by whoever claimed it last. What others put is heard of while `follow` runs. A
    gateway's entries are in the partition of its organization; an entry without a gateway is in that which
    its name ends with (`events/3`). With an `integrity`, what is put carries a MAC over all of it and its
    offset, and a message without a good one is passed over.
    """

    def __init__(
        self, settings: KafkaSettings, fetching: Fetcher, integrity: Integrity | None = None
    ) -> None:
        """Use `open`."""
        self._settings = settings
        self._topic = settings.topic("config")
        self._largest = settings.max_message * ROOM
        self._fetching = fetching
        self._integrity = integrity
        self._subscribers: dict[object, Subscriber] = {}
        self._writers: dict[int, PartitionWriter] = {}
        self._turns = {partition: asyncio.Lock() for partition in range(settings.partitions)}
        self._following = False
        self._next: dict[int, int] = {}  # of each partition the offset after what was loaded
        self._own: dict[int, list[range]] = {}  # offsets that subscribers hear of from `put`
        self._covered: dict[int, Sequence[bytes | None]] = {}  # keys whose newest message is not ours
        self._closed = False

    @classmethod
    async def open(cls, settings: KafkaSettings, integrity: Integrity | None = None) -> "KafkaConfigTopic":
        """Raises LogUnavailable."""
        return cls(settings, await Fetcher.open(settings, [settings.topic("config")]), integrity)

    async def claim(self, partition: int) -> None:
        """Makes this the one that puts to a partition; whoever was it is fenced. Claim first, load then.

        Raises LogUnavailable.
        """
        self._require_open()
        async with self._turns[partition]:
            if partition not in self._writers:
                place = TopicPartition(self._topic, partition)
                self._writers[partition] = PartitionWriter(self._settings, self._fetching, WRITER, place)
            await self._writers[partition].claim()

    async def release(self, partition: int) -> None:
        """Gives a partition up, after what is being put."""
        async with self._turns[partition]:
            if writer := self._writers.pop(partition, None):
                await writer.close()

    async def put(self, entries: Sequence[ConfigResource]) -> None:
        """The entries of one partition, which this has claimed.

        Raises LogUnavailable, MessageTooLarge, Fenced.
        """
        self._require_open()
        if not entries:
            return
        places = {self._partition(entry) for entry in entries}
        if len(places) > 1:
            raise ValueError(f"entries of the partitions {sorted(places)} cannot be put together")
        # A put that was begun ends, whether or not anybody waits for it.
        await asyncio.shield(asyncio.ensure_future(self._put(places.pop(), tuple(entries))))

    def require_size(self, entry: ConfigResource) -> None:
        near = self._largest // 4
        # What is far from the limit is not measured. A reference is well below 1 kB.
        if len(entry.body) > near or len(entry.deployments) * 1000 > near:
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
        """`partitions` are all when none are named; without `bodies` they are a stand-in.

        `follow` goes on where this ended. Raises LogUnavailable.
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
        """Puts again the entries before which `load` found messages that are not ours: compaction would keep
        those. Where nothing of ours is left, a removal; how many. The partition is claimed.

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

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        key = object()
        self._subscribers[key] = subscriber

        def end() -> None:
            self._subscribers.pop(key, None)

        return end

    async def follow(self, partitions: Iterable[int] | None = None) -> None:
        """Tells subscribers what others put, a put at a time, until cancelled.

        `partitions` are all when none are named. It begins where `load` ended; of partitions that were not
        loaded, with what is put from now on. While Kafka is gone it waits. Raises LogDamaged when the topic
        ends before what was read.
        """
        self._following = True
        try:
            async with asyncio.TaskGroup() as group:
                for partition in self._turns if partitions is None else partitions:
                    group.create_task(self._follow(partition), name=f"config {partition}")
        finally:
            self._following = False

    async def prune(self, before: int) -> int:
        """Compaction forgets removals by itself, after the topic's `delete.retention.ms`."""
        return 0

    async def close(self) -> None:
        self._closed = True
        for partition in self._turns:
            await self.release(partition)
        await self._fetching.close()

    def partition_of(self, gateway: str) -> int:
        """Of a gateway's subject."""
        return partition_of(gateway.split("/")[1], self._settings.partitions)

    def _partition(self, entry: ConfigResource) -> int:
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
                    f"Partition {partition} of {self._topic} has to be claimed before it is put to."
                )
            first = writer.next_position - 1
            messages = [
                self._message(entry, number == end, partition, first + number)
                for number, entry in enumerate(entries)
            ]
            self._note_own(partition, range(first, first + len(messages)))
            # A message has its MAC for the offset that it is to stand at: nothing is written at another.
            await writer.write([Write(place, messages, first=first + 1)], {})
            self._tell(entries)
            await asyncio.sleep(0)  # subscribers hear of it before we return

    def _message(self, entry: ConfigResource, last: bool, partition: int, offset: int) -> Message:
        key, body, headers = encode(entry, last=last)
        if self._integrity is not None:
            mac = self._integrity.mac(self._topic, partition, *_parts(offset, key, body, headers))
            headers.append((HEADER, mac))
        return Message(key, body, headers)

    def _uncovered(self, key: bytes | None, newest: Mapping[bytes | None, Kept]) -> Iterator[ConfigResource]:
        """Our entry under a key, or its removal; nothing for a key that is none of ours."""
        if key in newest:
            yield from (entry for entry, _ in self._decoded(key, *newest[key]))
            return
        try:
            gateway, type, name = (key or b"").decode().split("\n")
        except ValueError:
            return
        logger.error("%s: the entry %s of %s is lost: deploy anew what needs it", self._topic, name, gateway)
        yield ConfigResource(gateway, "", type, name, "", 0, b"")

    def _stands_in(self, entry: ConfigResource, partition: int) -> bool:
        try:
            return self._partition(entry) == partition
        except (ValueError, IndexError):
            return False

    def _note_own(self, partition: int, offsets: range) -> None:
        own = self._own.setdefault(partition, [])
        # Between two transactions of one writer is a control record.
        if own and offsets.start <= own[-1].stop + 1:
            own[-1] = range(own[-1].start, offsets.stop)
        else:
            own.append(offsets)

    def _tell(self, entries: Sequence[ConfigResource]) -> None:
        loop = asyncio.get_running_loop()
        for subscriber in tuple(self._subscribers.values()):
            # A callback of its own, so that one that raises is reported and hinders nobody.
            loop.call_soon(subscriber, entries)

    # -- reading

    async def _newest(self, partition: int, bodies: bool) -> tuple[dict[bytes | None, Kept], int]:
        """The last message of each key, and the offset after all of them."""
        place = TopicPartition(self._topic, partition)
        newest: dict[bytes | None, Kept] = {}
        covered: dict[bytes | None, None] = {}
        offset, end = await self._fetching.beginning(place), await self._fetching.end(place)
        # The broker shows a transaction a moment after it has confirmed it.
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
                f"no entry of {place.topic}/{partition} has a MAC of our integrity.key: is SIGNALBOX_SECRETS "
                "the same directory as that of role gateway-sync?"
            )
        self._covered[partition] = tuple(covered)
        return newest, offset

    def _genuine(self, message: ConsumerRecord) -> bool:
        if self._integrity is None or genuine(self._integrity, message):
            return True
        self._integrity.refuse(self._topic, message.partition, message.offset)
        return False

    def _decoded(
        self, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]
    ) -> Iterator[tuple[ConfigResource, bool]]:
        """An entry and whether it is the last of its put; nothing when it is none."""
        try:
            yield decode(key, value, headers)
        except ValueError as error:
            logger.error("%s holds a message under %r that is left out: %s", self._topic, key, error)

    async def _follow(self, partition: int) -> None:
        place = TopicPartition(self._topic, partition)
        put: list[ConfigResource] = []
        while True:
            try:
                if partition not in self._next:
                    self._next[partition] = await self._fetching.end(place)
                fetched = await self._fetching.fetch(
                    place, self._next[partition], wait_ms=WAIT_MS, compacted=True
                )
            except LogUnavailable as error:
                logger.warning("configuration is served as it is; changes wait: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if fetched.truncated:
                raise LogDamaged(
                    f"{place.topic}/{partition} ends at {fetched.stable} and had been read up to "
                    f"{self._next[partition]}: the broker lost entries. Restore its data, and start anew."
                )
            self._next[partition] = fetched.following
            own = self._own.get(partition, ())
            for message in fetched.messages:
                if any(message.offset in offsets for offsets in own) or not self._genuine(message):
                    continue
                for entry, last in self._decoded(message.key, message.value, message.headers):
                    put.append(entry)
                    if last:
                        self._tell(tuple(put))
                        put.clear()


def genuine(integrity: Integrity, message: ConsumerRecord) -> bool:
    """Whether a message of the config topic was put by us where it stands."""
    headers, mac = message.headers, None
    if headers and headers[-1][0] == HEADER:
        *headers, (_, mac) = headers
    parts = _parts(message.offset, message.key, message.value, headers)
    return integrity.genuine(message.topic, message.partition, message.offset, mac, *parts)


def _parts(
    offset: int, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]
) -> list[bytes]:
    """What the MAC of an entry is over: an old message that is written again stands at another offset."""
    flat = [part for name, content in headers for part in (name.encode(), content or b"")]
    return [offset.to_bytes(8, "big"), key or b"", value or b"", *flat]
