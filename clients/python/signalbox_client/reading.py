"""Reads one partition from any offset."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from signalbox_client.kafka_settings import KafkaSettings

POLL_MS = 200


@dataclass(frozen=True, slots=True)
class Fetched:
    """`following`: the offset to continue from. `truncated`: the partition ends before the requested
    offset, records were lost."""

    messages: Sequence[ConsumerRecord]
    following: int
    truncated: bool = False


class Reader(Protocol):
    """Reads the committed messages of a partition, for one caller at a time. Raises KafkaError, OSError."""

    async def close(self) -> None: ...

    async def end(self) -> int:
        """The offset after the last committed message."""
        ...

    async def since(self, time: int) -> int:
        """The offset of the first message of that time (Unix milliseconds) or later."""
        ...

    async def fetch(self, offset: int, seconds: float) -> Fetched:
        """Messages from `offset` on, as soon as there are any; none when none came within `seconds`."""
        ...


class PartitionReader:
    """Implements Reader."""

    def __init__(self, settings: KafkaSettings, place: TopicPartition) -> None:
        self._place = place
        self._at = -1
        self._consumer = AIOKafkaConsumer(
            **settings.client(),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
        )

    @classmethod
    async def open(cls, settings: KafkaSettings, place: TopicPartition) -> Self:
        reader = cls(settings, place)
        try:
            await reader._consumer.start()
        except BaseException:
            await reader.close()
            raise
        return reader

    async def close(self) -> None:
        await self._consumer.stop()

    async def end(self) -> int:
        return (await self._consumer.end_offsets([self._place]))[self._place]

    async def since(self, time: int) -> int:
        if time <= 0:
            return await self._beginning()
        found = (await self._consumer.offsets_for_times({self._place: time}))[self._place]
        return await self.end() if found is None else found.offset

    async def _beginning(self) -> int:
        return (await self._consumer.beginning_offsets([self._place]))[self._place]

    async def fetch(self, offset: int, seconds: float) -> Fetched:
        if self._place not in self._consumer.assignment():
            self._consumer.assign([self._place])
        if self._at != offset:
            self._consumer.seek(self._place, offset)
        self._at = -1
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            try:
                found = await self._consumer.getmany(self._place, timeout_ms=POLL_MS)
            except OffsetOutOfRangeError:
                beginning, end = await self._beginning(), await self.end()
                return Fetched((), max(beginning, min(offset, end)), truncated=offset > end)
            except UnicodeDecodeError:  # a header name that is not UTF-8: not a message of Signalbox
                return Fetched((), offset + 1)
            following = await self._consumer.position(self._place)
            messages = found.get(self._place, ())
            if messages or following != offset or loop.time() >= deadline:
                self._at = following
                return Fetched(messages, following)
