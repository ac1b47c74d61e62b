"""Finds records by id or subject, which Kafka cannot, with an index on the local disk filled from the topics.

It is a cache: it may be deleted at any time, and is then filled again. Only topics that are queried are
indexed. Events are stored whole, because queries by subject return all of them.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import orjson

from schemas.envelope import Envelope, MessageKey
from schemas.limits import LARGEST_READ
from streams.kafka.local_index.index_file import Ask, Found, IndexFile, IndexLost
from streams.log import LogUnavailable, Record, Topic
from streams.retry import Retry, log_unavailable
from streams.subscription import Source, Subscription

logger = logging.getLogger("signalbox.kafka")

T = TypeVar("T")
BATCH = 2_000
FILL_SECONDS = 10.0
"""The time that a query may wait for the index to be filled."""


class TopicSource(Source, Protocol):
    """The log that is indexed."""

    async def topic_identity(self, topic: Topic) -> str:
        """A unique id of the topic; a later topic of the same name has another one."""
        ...


class LocalIndex:
    """Queries are answered from everything that is on the topic when they are made.

    They raise LogUnavailable when the index cannot be used or is not filled within `FILL_SECONDS`, and
    LogDamaged.
    """

    def __init__(self, directory: Path, source: TopicSource) -> None:
        self._file = IndexFile(directory)
        self._source = source
        self._thread = ThreadPoolExecutor(1, "signalbox-index")
        self._consumers: dict[Topic, tuple[Subscription, asyncio.Task[None]]] = {}
        self._stale = False
        """The file may hold less than the consumers have indexed."""
        self._opening = asyncio.Lock()

    async def of_subject(self, topic: Topic, subject: str, after: int, limit: int) -> list[Record]:
        """Records about a subject, in order."""
        found = await self._query(topic, lambda file: file.of_subject(topic, subject, after, limit))
        return await self._records(topic, found, LARGEST_READ)

    async def of_keys(self, topic: Topic, keys: Sequence[MessageKey]) -> dict[MessageKey, Record]:
        """The first effective record of each organization and id (`streams.submission.find_results`)."""
        found = await self._query(topic, lambda file: file.of_keys(topic, keys))
        return {record.envelope.key: record for record in await self._records(topic, found)}

    async def of_id(self, topic: Topic, id: str) -> list[Record]:
        """Per partition and organization with this id: its first effective record, else its last one."""
        return await self._records(topic, await self._query(topic, lambda file: file.of_id(topic, id)))

    async def close(self) -> None:
        await self._stop()
        await self._in_thread(self._file.close)
        self._thread.shutdown(wait=True)

    async def _records(self, topic: Topic, rows: Sequence[Found], most: float = math.inf) -> list[Record]:
        """The records, up to `most` bytes as JSON."""
        records: list[Record] = []
        for partition, position, kept in rows:
            if kept is not None:
                records.append(Record(topic, partition, position, Envelope(**orjson.loads(kept))))
                most -= len(kept)
            else:
                # After retention removed the record, the log answers with a later one.
                found = await self._source.read(topic, partition, position - 1, 1)
                some = [record for record in found if record.position == position]
                records += some
                most -= sum(len(record.envelope.to_json()) for record in some)
            if most <= 0:
                break
        return records

    async def _query(self, topic: Topic, query: Ask) -> list[Found]:
        try:
            async with asyncio.timeout(FILL_SECONDS):
                while True:
                    try:
                        ends = await (await self._consumer(topic)).caught_up()
                        found = await self._in_thread(
                            partial(self._file.ask, topic, list(ends.values()), query)
                        )
                    except IndexLost:
                        found = None
                    if found is not None:
                        return found
                    self._stale = True
        except TimeoutError as error:
            done = sum(self._consumers[topic][0].positions.values()) if topic in self._consumers else 0
            raise LogUnavailable(
                f"the index of {topic} is being filled ({self._file.path}): up to position "
                f"{done:,}; try again"
            ) from error

    async def _consumer(self, topic: Topic) -> Subscription:
        async with self._opening:
            if self._stale:
                await self._stop()
                self._stale = False
            if topic in self._consumers:
                subscription, task = self._consumers[topic]
                if not task.done():
                    return subscription
                await self._stop(topic)
            identity = await self._source.topic_identity(topic)
            await self._in_thread(partial(self._file.identify, topic, identity))
            subscription = self._subscription(topic)
            await subscription.open()
            task = asyncio.create_task(subscription.run(), name=f"index of {topic}")
            self._consumers[topic] = subscription, task
            return subscription

    def _subscription(self, topic: Topic) -> Subscription:
        async def index(records: Sequence[Record]) -> None:
            partition = records[0].partition
            add = partial(self._file.add, topic, partition, subscription.positions[partition], records)
            if await self._in_thread(add) != records[-1].position:
                raise IndexLost("the index was filled from another position")

        subscription = Subscription(
            self._source,
            topic,
            index,
            start=partial(self._sound, topic),
            retry=Retry(f"the index of {topic} is not filled", logger, retryable=_retryable),
            batch=BATCH,
        )
        return subscription

    async def _stop(self, topic: Topic | None = None) -> None:
        """Stops consuming the topic, or all topics."""
        topics: list[Topic] = list(self._consumers) if topic is None else [topic]
        tasks = [self._consumers.pop(each)[1] for each in topics]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _sound(self, topic: Topic, partition: int) -> int:
        """The position up to which the partition is indexed; 0 if the log lacks the indexed records, as after
        it was restored."""
        position, id = await self._in_thread(partial(self._file.stored, topic, partition))
        if not position:
            return 0
        if position <= await self._source.end(topic, partition):
            records = await self._source.read(topic, partition, position - 1, 1)
            if records and records[0].position == position and records[0].envelope.id == id:
                return position
            first = await self._source.read(topic, partition, 0, 1)
            if first and first[0].position > position:
                return position  # retention removed the indexed records
        logger.warning("%s/%d differs from the index up to %d and is reindexed", topic, partition, position)
        await self._in_thread(partial(self._file.forget, topic, partition))
        return 0

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _retryable(error: Exception) -> bool:
    """After IndexLost the index has to be opened again."""
    return log_unavailable(error) and not isinstance(error, IndexLost)
