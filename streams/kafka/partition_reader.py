"""Readers of partitions: cache the records read last, and share one waiting request for the next ones among
all callers."""

import asyncio
from bisect import bisect_left
from collections.abc import Callable

from aiokafka import ConsumerRecord, TopicPartition

from schemas.limits import LARGEST_READ
from streams.kafka.fetcher import Fetched, Fetcher, contents_size
from streams.log import LogDamaged, LogUnavailable, Record

WAIT_MS = 500
LAG_SECONDS = 0.05
KEPT = 4_000
"""The number of cached records, for other readers of the same ones."""
KEPT_BYTES = 4 << 20
"""The maximal cached bytes per partition, or the records of one fetch: a process has a reader per partition.
A message that is not decoded yet counts with its size in the fetch, which may be compressed."""
FRAME = 200
"""Approximate bytes of a cached record beside its contents."""

Decode = Callable[[TopicPartition, ConsumerRecord, int], Record]
"""Of a message with so many bytes of contents (`contents_size`)."""


class PartitionReader:
    """One partition. Positions are Kafka's offsets plus one, so records above position `p` begin at
    offset `p`.

    All records from the offset `_start` up to `_next` are cached, and decoded at their first use. In
    addition, the last record from `_from` up to `_frontier` is known to be at `_last`.
    """

    def __init__(self, place: TopicPartition, fetching: Fetcher, decode: Decode) -> None:
        self._place = place
        self._fetching = fetching
        self._decode = decode
        self._offsets: list[int] = []
        self._kept: list[ConsumerRecord | Record] = []
        self._sizes: list[int] = []  # 0 for messages that are not measured yet
        self._bytes = 0
        self._start = self._next = 0
        self._from: int | None = None
        self._frontier = 0
        self._last = -1
        self._polling: asyncio.Task[None] | None = None

    async def read(self, after: int, limit: int) -> list[Record]:
        """Up to `limit` records, and `LARGEST_READ` bytes, above position `after`. Raises LogUnavailable."""
        records = self._buffered(after, limit)
        if not records and await self._fetch(after):
            records = self._buffered(after, limit)
        return records

    async def wait(self, after: int) -> None:
        """Returns once there is a record above position `after`. Raises LogUnavailable, LogDamaged."""
        if self._last >= after:
            return
        if self._from is None or after < self._from:
            if await self._fetch(after):
                return
            self._from = after
        while self._last < after:
            if self._polling is None or self._polling.done():
                self._polling = asyncio.create_task(self._poll())
            # A cancelled caller must not cancel it for the others.
            await asyncio.shield(self._polling)

    @property
    def known(self) -> int:
        """The highest position of a record that was seen, 0 at first."""
        return self._last + 1

    async def close(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    def _buffered(self, after: int, limit: int) -> list[Record]:
        if not self._start <= after < self._next:
            return []
        first = bisect_left(self._offsets, after)
        left = LARGEST_READ
        records: list[Record] = []
        for index in range(first, min(first + limit, len(self._kept))):
            records.append(self._decoded(index))
            left -= self._sizes[index]
            if left <= 0:
                break
        return records

    async def _fetch(self, after: int) -> bool:
        """Fetches the records after `after` without waiting; False when there are none."""
        at = after
        while True:
            fetched = await self._fetching.fetch(self._place, at)
            if fetched.messages:
                self._take(after, fetched)
                return True
            if fetched.following >= fetched.stable:
                if self._from is None:
                    self._frontier = fetched.stable
                return False
            at = fetched.following

    async def _poll(self) -> None:
        at = self._frontier
        fetched = await self._fetching.fetch(self._place, at, wait_ms=WAIT_MS)
        if fetched.truncated:
            raise LogDamaged(
                f"{self._place.topic}/{self._place.partition} ends at {fetched.stable} and had been read up "
                f"to {at}: the broker lost records. Restore its data, or the whole log from a backup."
            )
        if fetched.stable < at:
            # A new leader gets the offsets of all replicas a moment later. It may not wait for more records.
            await asyncio.sleep(LAG_SECONDS)
        self._take(at, fetched)

    def _take(self, start: int, fetched: Fetched) -> None:
        """Caches the fetch from offset `start`, appended to the cached records if it follows them."""
        if not self._start <= start <= self._next:
            self._forget(len(self._kept))
            self._start = self._next = start
        if 0 in self._sizes:
            for index in range(len(self._kept)):
                self._size(index)
        last = self._offsets[-1] if self._offsets else -1
        new = [m for m in fetched.messages if m.offset > last]
        self._offsets.extend(m.offset for m in new)
        self._kept.extend(new)
        self._sizes.extend([0] * len(new))
        self._next = max(self._next, fetched.following)
        if surplus := self._surplus(len(self._kept) - len(new), fetched.size + len(new) * FRAME):
            self._start = self._offsets[surplus - 1] + 1
            self._forget(surplus)
        if fetched.messages:
            self._last = max(self._last, fetched.messages[-1].offset)
        if start <= self._frontier <= fetched.following:
            self._frontier = fetched.following

    def _surplus(self, old: int, new: int) -> int:
        """The number of `old` records to drop, the oldest first, for `new` bytes."""
        surplus = max(0, min(old, len(self._kept) - KEPT))
        over = self._bytes + new - KEPT_BYTES - sum(self._sizes[:surplus])
        while over > 0 and surplus < old:
            over -= self._sizes[surplus]
            surplus += 1
        return surplus

    def _forget(self, records: int) -> None:
        self._bytes -= sum(self._sizes[:records])
        del self._offsets[:records]
        del self._kept[:records]
        del self._sizes[:records]

    def _decoded(self, index: int) -> Record:
        kept = self._kept[index]
        if isinstance(kept, Record):
            return kept
        # Measured and decoded in one go: to touch each content twice takes longer than either.
        size = self._size(index) - len(kept.key or b"") - FRAME
        record = self._decode(self._place, kept, size)
        self._kept[index] = record
        return record

    def _size(self, index: int) -> int:
        """The bytes of a record, `FRAME` included; its message is measured once."""
        size = self._sizes[index]
        message = self._kept[index]
        if not size and not isinstance(message, Record):
            contents = contents_size(message.value, message.headers)
            size = self._sizes[index] = len(message.key or b"") + contents + FRAME
            self._bytes += size
        return size


class PartitionReaders:
    """The readers of all partitions that this process reads."""

    def __init__(self, fetching: Fetcher, decode: Decode) -> None:
        self._fetching = fetching
        self._decode = decode
        self._tails: dict[TopicPartition, PartitionReader] = {}
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def read(self, place: TopicPartition, after: int, limit: int) -> list[Record]:
        """Up to `limit` records above position `after`. Raises LogUnavailable."""
        return await self._of(place).read(after, limit)

    async def wait(self, place: TopicPartition, after: int) -> None:
        """Returns once there is a record above position `after`.

        Raises LogUnavailable, also when this is closed meanwhile, and LogDamaged.
        """
        waiting = asyncio.ensure_future(self._of(place).wait(after))
        try:
            await asyncio.wait([waiting, self._closed], return_when=asyncio.FIRST_COMPLETED)
            if self._closed.done():
                raise LogUnavailable("the log is closed")
            await waiting
        finally:
            waiting.cancel()

    def known(self, place: TopicPartition) -> int:
        """The highest position of a seen record of a partition, 0 at first."""
        tail = self._tails.get(place)
        return 0 if tail is None else tail.known

    async def close(self) -> None:
        if not self._closed.done():
            self._closed.set_result(None)
        await asyncio.gather(*(tail.close() for tail in self._tails.values()))

    def _of(self, place: TopicPartition) -> PartitionReader:
        if place not in self._tails:
            self._tails[place] = PartitionReader(place, self._fetching, self._decode)
        return self._tails[place]
