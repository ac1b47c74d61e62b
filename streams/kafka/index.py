"""Finding records by id or subject, which Kafka cannot: an index on the local disk, filled from the topics.

It is a cache: it may be deleted at any time and is filled anew. Only topics that somebody asks for are
indexed; events are kept whole, because whoever asks for a subject wants all of them.
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

from schemas.envelope import Envelope, Key
from schemas.limits import LARGEST_READ
from streams.kafka.index_file import Ask, Found, IndexFile, IndexLost
from streams.log import LogUnavailable, Record, Topic

logger = logging.getLogger("signalbox.kafka")

T = TypeVar("T")
BATCH = 2_000
RETRY_SECONDS = 0.5
FILL_SECONDS = 10.0
"""How long a question may wait for the index to be filled."""


class Source(Protocol):
    """The log that is indexed; see `streams.log.Log`."""

    @property
    def partitions(self) -> int: ...

    async def identity(self, topic: Topic) -> str:
        """What no other topic has, not even one of the same name later."""
        ...

    async def read(self, topic: Topic, partition: int, after: int, limit: int) -> list[Record]: ...

    async def wait(self, topic: Topic, partition: int, after: int) -> None: ...

    async def end(self, topic: Topic, partition: int) -> int: ...


class LocalIndex:
    """Questions are answered from all that is on the topic when they are asked.

    They raise LogUnavailable when the index cannot be used or is not filled within `FILL_SECONDS`, and
    LogDamaged.
    """

    def __init__(self, directory: Path, source: Source) -> None:
        self._file = IndexFile(directory)
        self._source = source
        self._thread = ThreadPoolExecutor(1, "signalbox-index")
        self._reached: dict[tuple[Topic, int], int] = {}
        self._following: dict[Topic, list[asyncio.Task[None]]] = {}
        self._stale = False
        """What is in `_reached` may not be in the file."""
        self._trouble = ""
        """Why nothing can be taken in at the moment."""
        self._grown = asyncio.Condition()
        self._opening = asyncio.Lock()

    async def of_subject(self, topic: Topic, subject: str, after: int, limit: int) -> list[Record]:
        """Records about a subject, in order."""
        found = await self._ask(topic, lambda file: file.of_subject(topic, subject, after, limit))
        return await self._records(topic, found, LARGEST_READ)

    async def of_keys(self, topic: Topic, keys: Sequence[Key]) -> dict[Key, Record]:
        """The first record of each organization and id that stands (`streams.find_results`)."""
        found = await self._ask(topic, lambda file: file.of_keys(topic, keys))
        return {record.envelope.key: record for record in await self._records(topic, found)}

    async def of_id(self, topic: Topic, id: str) -> list[Record]:
        """Of each organization with this id, per partition: its first record that stands, else its last."""
        return await self._records(topic, await self._ask(topic, lambda file: file.of_id(topic, id)))

    async def close(self) -> None:
        await self._stop()
        await self._in_thread(self._file.close)
        self._thread.shutdown(wait=True)

    async def _records(self, topic: Topic, rows: Sequence[Found], most: float = math.inf) -> list[Record]:
        """Until they have `most` bytes as JSON."""
        records: list[Record] = []
        for partition, position, kept in rows:
            if kept is not None:
                records.append(Record(topic, partition, position, Envelope(**orjson.loads(kept))))
                most -= len(kept)
            else:
                # Retention may have taken it: then what is read is a later one.
                found = await self._source.read(topic, partition, position - 1, 1)
                some = [record for record in found if record.position == position]
                records += some
                most -= sum(len(record.envelope.to_json()) for record in some)
            if most <= 0:
                break
        return records

    async def _ask(self, topic: Topic, ask: Ask) -> list[Found]:
        try:
            async with asyncio.timeout(FILL_SECONDS):
                while True:
                    try:
                        await self._follow(topic)
                        ends = await self._caught_up(topic)
                        found = await self._in_thread(partial(self._file.ask, topic, ends, ask))
                    except IndexLost:
                        self._stale = True
                        continue
                    if found is not None:
                        return found
                    self._stale = True
        except TimeoutError as error:
            raise LogUnavailable(
                f"the index of {topic} is being filled ({self._file.path}): up to position "
                f"{sum(n for (of, _), n in self._reached.items() if of == topic):,}; ask again"
            ) from error

    async def _caught_up(self, topic: Topic) -> list[int]:
        """Waits until all that is on `topic` now is indexed; the ends of its partitions."""
        ends = [await self._source.end(topic, partition) for partition in range(self._source.partitions)]
        async with self._grown:
            while any(self._reached[topic, partition] < end for partition, end in enumerate(ends)):
                if self._trouble:
                    raise LogUnavailable(self._trouble)
                for task in self._following[topic]:
                    if task.done():
                        task.result()
                        raise IndexLost("it is filled anew")
                await self._grown.wait()
        return ends

    async def _follow(self, topic: Topic) -> None:
        async with self._opening:
            if self._stale:
                await self._stop()
                self._stale = False
            tasks = self._following.get(topic)
            if tasks and not any(task.done() for task in tasks):
                return
            await self._stop(topic)
            identity = await self._source.identity(topic)
            await self._in_thread(partial(self._file.identify, topic, identity))
            for partition in range(self._source.partitions):
                self._reached[topic, partition] = await self._sound(topic, partition)
            self._following[topic] = [
                asyncio.create_task(self._fill(topic, p), name=f"index of {topic}/{p}")
                for p in range(self._source.partitions)
            ]

    async def _stop(self, topic: Topic | None = None) -> None:
        """Follows the topic no longer, or none at all."""
        topics: list[Topic] = list(self._following) if topic is None else [topic]
        tasks = [task for each in topics for task in self._following.pop(each, ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _sound(self, topic: Topic, partition: int) -> int:
        """How far the partition is indexed; from nothing when the log does not hold what was indexed, as
        after it was restored."""
        position, id = await self._in_thread(partial(self._file.stored, topic, partition))
        if not position:
            return 0
        if position <= await self._source.end(topic, partition):
            records = await self._source.read(topic, partition, position - 1, 1)
            if records and records[0].position == position and records[0].envelope.id == id:
                return position
            first = await self._source.read(topic, partition, 0, 1)
            if first and first[0].position > position:
                return position  # retention has taken what was indexed
        logger.warning("%s/%d is not what was indexed up to position %d", topic, partition, position)
        await self._in_thread(partial(self._file.forget, topic, partition))
        return 0

    async def _fill(self, topic: Topic, partition: int) -> None:
        place = (topic, partition)
        try:
            while True:
                after = self._reached[place]
                try:
                    await self._source.wait(topic, partition, after)
                    records = await self._source.read(topic, partition, after, BATCH)
                except LogUnavailable as error:
                    logger.debug("the index waits for the log: %s", error)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if not records:
                    continue
                try:
                    self._reached[place] = await self._in_thread(
                        partial(self._file.add, topic, partition, after, records)
                    )
                    self._trouble = ""
                except IndexLost:
                    self._stale = True
                    return
                except LogUnavailable as error:
                    if not self._trouble:
                        logger.warning("%s", error)
                    self._trouble = str(error)
                await self._tell()
                if self._trouble:
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            await self._tell()

    async def _tell(self) -> None:
        async with self._grown:
            self._grown.notify_all()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
