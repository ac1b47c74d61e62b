"""A broker with scripted answers: for behaviour that a real one shows only under load or after a failover."""

import asyncio
import struct
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams.kafka.fetcher import EARLIEST, Fetcher
from streams.kafka.settings import KafkaSettings

PLACE = TopicPartition("t", 0)
OUT_OF_RANGE = 1
NOT_AVAILABLE = 78


def batch(*names: str, base: int = 0) -> bytearray:
    """Messages `base`, `base` + 1, … with a header each."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1_000_000)
    for number, name in enumerate(names):
        builder.append(number, 1, b"k", b"%d" % (base + number), [(name, b"v")])
    built = builder.build()
    built[:8] = struct.pack(">q", base)
    return built


def fetched(place: TopicPartition, stable: int, records: bytes = b"", code: int = 0) -> Any:
    """The answer to a fetch."""
    return SimpleNamespace(
        API_VERSION=4,
        throttle_time_ms=0,
        topics=[(place.topic, [(place.partition, code, stable, stable, [], records)])],
    )


@dataclass
class ScriptedBroker:
    """Offsets from `beginning` up to `end` hold a record each; readers are shown those below `shown`."""

    place: TopicPartition = PLACE
    end: int = 0
    beginning: int = 0
    lag: int = 0
    """The number of records at the end that are not visible: a new leader does not have the offsets of all
    replicas yet."""
    removed: int = 0
    """So many records at the end were removed by compaction."""
    throttled: int = 0
    """So many fetches are answered without content."""
    stale: int = 0
    """So many fetches are answered by a replica that lost its place and has nothing."""
    closed: int = 0
    """So many requests are written to a connection that the broker has closed, on uvloop."""
    most: int = 1_000
    """Records of an answer."""
    requests: list[int] = field(default_factory=list[int])
    """Offsets that were fetched."""

    _asked: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def asked(self, more: int) -> None:
        """Returns after so many more fetches."""
        wanted = len(self.requests) + more
        async with self._asked:
            await self._asked.wait_for(lambda: len(self.requests) >= wanted)

    def fetching(self) -> Fetcher:
        return Fetcher(KafkaSettings(), cast("AIOKafkaClient", self))

    @property
    def cluster(self) -> "ScriptedBroker":
        return self

    def leader_for_partition(self, place: TopicPartition) -> int:
        assert place == self.place
        return 1

    def force_metadata_update(self) -> None:
        pass

    async def send(self, node: int, request: Any, *, group: object) -> Any:
        await asyncio.sleep(0)
        if self.closed:
            self.closed -= 1
            raise RuntimeError("unable to perform operation on <TCPTransport>; the handler is closed")
        ((_, ((_, offset, *_),)),) = request._topics
        if isinstance(request, OffsetRequest):
            return self._offset(offset)
        async with self._asked:
            self._asked.notify_all()
        return self._fetched(offset)

    def _offset(self, which: int) -> Any:
        code = NOT_AVAILABLE if self.lag else 0
        offset = self.beginning if which == EARLIEST else self.end
        return SimpleNamespace(topics=[(self.place.topic, [(0, code, -1, offset)])])

    def _fetched(self, offset: int) -> Any:
        self.requests.append(offset)
        if self.throttled:
            self.throttled -= 1
            return SimpleNamespace(API_VERSION=11, throttle_time_ms=1, topics=[])
        stable = self.end - self.lag
        if self.stale or not self.beginning <= offset <= self.end:
            self.stale = max(0, self.stale - 1)
            return fetched(self.place, -1, code=OUT_OF_RANGE)
        upto = min(stable - self.removed, offset + self.most)
        records = b"".join(bytes(batch("n", base=at)) for at in range(offset, upto))
        return fetched(self.place, stable, records)
