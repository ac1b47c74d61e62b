"""The producer of a process for messages outside transactions, replaced after an error."""

import asyncio
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from streams.kafka.partition_writer import Message, require_sizes
from streams.kafka.producer import PRODUCE_SECONDS, not_written, retrieved, started_producer, stopped
from streams.kafka.settings import KafkaSettings


class SharedProducer:
    """Belongs to one event loop."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def produce(
        self, topic: str, messages: Mapping[int, Sequence[Message]], limit: int
    ) -> dict[int, list[int]]:
        """The positions of the messages, by partition. `limit` is the size of a message in bytes.

        Raises LogUnavailable, MessageTooLarge.
        """
        for some in messages.values():
            require_sizes(topic, some, limit)
        producer: AIOKafkaProducer | None = None
        sent: dict[int, list[asyncio.Future[RecordMetadata]]] = {}
        try:
            async with asyncio.timeout(PRODUCE_SECONDS):
                producer = await self._started()
                for partition, some in messages.items():
                    futures = sent[partition] = []
                    for m in some:
                        futures.append(
                            await producer.send(topic, m.value, m.key, partition, headers=m.headers)
                        )
                return {
                    partition: [(await future).offset + 1 for future in futures]
                    for partition, futures in sent.items()
                }
        except (KafkaError, OSError, TimeoutError) as error:
            for future in (future for futures in sent.values() for future in futures):
                future.add_done_callback(retrieved)
            # A producer does not recover from some errors, and does not report which.
            if producer is not None and self._producer is producer:
                await self.close()
            count = sum(map(len, messages.values()))
            raise not_written(self._settings, error, topic, limit, count) from error

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stopped(producer)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                self._producer = await started_producer(self._settings)
            return self._producer
