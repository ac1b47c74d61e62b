"""Feeds the read models with the messages that Faust delivers: each once, in order, without gaps.

Independent of Faust. The database of the read models holds the durable positions; messages missing between
these and the first message of a batch are read from the log.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

from streams.faust.chunks import CHUNK, Chunk, Raw, TopicPartition, together
from streams.kafka.messages.wire import decode, forged
from streams.kafka.security.integrity import Integrity
from streams.kafka.settings import KafkaSettings
from streams.log import Log, Record, Topic
from streams.projection.listener import ProjectionListener
from streams.projection.progress import WriterConflict
from streams.projection.store_thread import store_or_log_unavailable
from streams.retry import Retry

_LOG = logging.getLogger(__name__)
FULL = CHUNK // 2
PAUSE_SECONDS = 0.02
"""After a chunk that was not full: a transaction has a fixed cost, and more may come in the meantime."""
SETTLE_SECONDS = 5.0
"""How long the revocation of partitions waits for records that are being written."""


class ReadModelSink(Protocol):
    """The writer of the read models (`streams.projection.ProjectionRunner`)."""

    async def assigned(self, topic: Topic, partition: int) -> int:
        """This process advances the read models of `topic` from now on; the position they continue after."""
        ...

    async def revoked(self, topic: Topic, partition: int) -> None: ...

    async def take(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        """Returns when `records` are durable in all live read models of `topic`, dead-lettered ones included.

        Raises WriterConflict when another process has advanced them.
        """
        ...


class Feed:
    """Belongs to one event loop. `trouble` is why nothing can be written, empty otherwise.

    `durable`: the position up to which each assigned partition is in the read models.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        log: Log,
        sink: ReadModelSink,
        listeners: Sequence[ProjectionListener],
        integrity: Integrity | None = None,
    ) -> None:
        self._integrity = integrity
        self._topics: dict[str, Topic] = {settings.topic(topic): topic for topic in FOLLOWED}
        self._log = log
        self._sink = sink
        self._listeners = listeners
        self._assigned: set[TopicPartition] = set()
        self._waiting: dict[TopicPartition, list[Chunk]] = {}
        self._writing: dict[TopicPartition, asyncio.Task[None]] = {}
        self.durable: dict[TopicPartition, int] = {}
        self._retry = Retry("read models do not advance", _LOG, retryable=_retryable)

    @property
    def trouble(self) -> str:
        return self._retry.trouble

    @property
    def assigned(self) -> frozenset[TopicPartition]:
        return frozenset(self._assigned)

    def idle(self) -> Mapping[TopicPartition, int]:
        """The durable positions of the partitions without a write in progress."""
        return {place: at for place, at in self.durable.items() if place not in self._writing}

    async def begin(self, places: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """These partitions, and no others, are fed from now on; returns the positions to continue after.

        Raises the sink's errors, and may be cancelled: then the position is read with the first message.
        """
        wanted = set(places)
        left, self._assigned = self._assigned - wanted, wanted
        self.durable.clear()
        self._waiting.clear()
        try:
            await self.leave(left)
            return {place: await self._start(place) for place in wanted}
        finally:
            known: dict[tuple[Topic, int], int] = {
                (self._topics[place.topic], place.partition): self.durable.get(place, 0) for place in wanted
            }
            for listener in self._listeners:
                listener.assigned(known)

    async def _start(self, place: TopicPartition) -> int:
        at = await self._sink.assigned(self._topics[place.topic], place.partition)
        self.durable[place] = at
        return at

    async def settle(self, places: Iterable[TopicPartition], seconds: float = SETTLE_SECONDS) -> int:
        """Takes nothing more of these partitions, and waits, bounded, for records that are being written; of
        how many partitions some are not written by then."""
        self._assigned.difference_update(places)
        if not self._writing:
            return 0
        return len((await asyncio.wait(self._writing.values(), timeout=seconds))[1])

    async def leave(self, places: Iterable[TopicPartition]) -> None:
        for place in places:
            self.durable.pop(place, None)
            self._waiting.pop(place, None)
            await self._sink.revoked(self._topics[place.topic], place.partition)

    def take(self, place: TopicPartition, chunk: Chunk) -> None:
        """Has `chunk` written after all earlier ones, together with those that arrive meanwhile."""
        if place in self._assigned:
            self._waiting.setdefault(place, []).append(chunk)
            if place not in self._writing:
                self._writing[place] = asyncio.create_task(self._drain(place))

    def catch_up(self, place: TopicPartition, to: int) -> None:
        """Has the records up to `to` read from the log and written: Faust has lost some of them."""
        _LOG.warning("%s/%d: reading %d to %d again", *place, self.durable.get(place, 0), to)
        self.take(place, Chunk(to, ()))

    async def _drain(self, place: TopicPartition) -> None:
        """Raises nothing but CancelledError."""
        try:
            while waiting := self._waiting.pop(place, None):
                for chunk in together(waiting):
                    await self._fed(place, chunk)
                    if len(chunk.records) < FULL:
                        await asyncio.sleep(PAUSE_SECONDS)
        finally:
            del self._writing[place]

    async def _fed(self, place: TopicPartition, chunk: Chunk) -> None:
        topic = self._topics[place.topic]
        if place not in self._assigned:
            return
        if place not in self.durable:
            await self._retry(partial(self._start, place))
        if chunk.after > self.durable[place]:
            await self._fill(place, chunk.records[0].offset if chunk.records else chunk.after)
        at = self.durable.get(place, 0)
        records = [self._record(topic, place, raw) for raw in chunk.records if raw.offset >= at]
        await self._write(place, records)

    def _record(self, topic: Topic, place: TopicPartition, raw: Raw) -> Record:
        if topic == "outcomes" and self._integrity is not None:
            at = (place.topic, place.partition, raw.offset)
            if not self._integrity.genuine_sealed(*at, raw.value, raw.headers):
                self._integrity.refuse(*at)
                return forged(topic, place.partition, raw.offset + 1)
        return decode(topic, place.partition, raw.offset + 1, raw.value, raw.headers)[0]

    async def _fill(self, place: TopicPartition, to: int) -> None:
        """Writes the records after the durable position, up to `to`, from the log."""
        topic = self._topics[place.topic]
        while (at := self.durable.get(place)) is not None and at < to:
            read = await self._retry(partial(self._log.read, topic, place.partition, at, CHUNK))
            records = [record for record in read if record.position <= to]
            if not records:
                return
            await self._write(place, records)

    async def _write(self, place: TopicPartition, records: Sequence[Record]) -> None:
        """Has `records` written; retries for as long as the partition is assigned."""
        topic = self._topics[place.topic]
        left: Sequence[Record] = records
        while left and place in self._assigned:
            try:
                await self._retry(partial(self._sink.take, topic, place.partition, left))
            except WriterConflict as error:
                _LOG.info("%s", error)
                at = await self._retry(partial(self._start, place))
                left = _after(left, at)
            else:
                if place in self.durable:
                    self.durable[place] = max(self.durable[place], left[-1].position)
                for listener in self._listeners:
                    listener.taken(topic, place.partition, left)
                return


def _retryable(error: Exception) -> bool:
    """Every failure: a partition may stall, but no record is left out."""
    if isinstance(error, WriterConflict):
        return False
    if not store_or_log_unavailable(error):
        _LOG.warning("read models do not advance", exc_info=error)
    return True


FOLLOWED: tuple[Topic, ...] = ("events", "outcomes", "status")


def _after(records: Sequence[Record], position: int) -> Sequence[Record]:
    return [record for record in records if record.position > position]
