"""Events read by another process than the one that has the log open."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiokafka import TopicPartition

from streams.kafka.fetcher import Fetcher
from streams.kafka.messages.codec import Codec
from streams.kafka.partition_reader import PartitionReaders
from streams.kafka.settings import KafkaSettings
from streams.log import Record, Topic


class KafkaSource:
    """`streams.log.RecordSource` for events: commands and outcomes are verified by the log only."""

    def __init__(self, settings: KafkaSettings, readers: PartitionReaders) -> None:
        self._settings = settings
        self._readers = readers

    async def read(self, topic: Topic, partition: int, after: int, end: int, limit: int) -> list[Record]:
        if topic != "events":
            raise ValueError(f"{topic} are not read here")
        place = TopicPartition(self._settings.topic(topic), partition)
        return await self._readers.read(place, after, limit)


@asynccontextmanager
async def open_source(settings: KafkaSettings) -> AsyncGenerator[KafkaSource]:
    fetcher = await Fetcher.open(settings, [settings.topic("events")])
    readers = PartitionReaders(fetcher, Codec(settings, None, None).record)
    try:
        yield KafkaSource(settings, readers)
    finally:
        await readers.close()
        await fetcher.close()
