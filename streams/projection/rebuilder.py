"""Rebuilds a read model: fills a new generation from the log beside the live one, and swaps it in."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from functools import partial

from projections.readmodel import ReadModel
from projections.store import Store
from streams.log import TOPICS, Log, Record, Topic
from streams.projection.generation_builder import GenerationBuilder
from streams.projection.progress import Batch, WriterConflict
from streams.projection.store_thread import StoreThread

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 0.5
"""Seconds between checks whether another process has finished the rebuild."""


class Rebuilder:
    """The lock `turn` is held while this process must not advance the live generation."""

    def __init__(self, log: Log, store: Store, worker: StoreThread, turn: asyncio.Lock, batch: int) -> None:
        self._log = log
        self._store = store
        self._worker = worker
        self._turn = turn
        self._batch = batch

    async def rebuild(self, model: ReadModel) -> None:
        """Returns after the swap, whichever process made it."""
        building = GenerationBuilder(self._store, model, self._log.partitions)
        before = await self._worker.run_with_retry(building.live)
        while True:
            try:
                if await self._worker.run_with_retry(building.begin):
                    await self._build(model, building)
                    return
                await asyncio.sleep(_LOOK_SECONDS)
                now = await self._worker.run_with_retry(building.live)
                if now != before and now is not None and now.version == model.version:
                    return
            except WriterConflict as error:
                _LOG.warning("rebuilding %s from the beginning: %s", model.name, error)
                await asyncio.sleep(_LOOK_SECONDS)
            finally:
                await self._end(building)

    async def _build(self, model: ReadModel, building: GenerationBuilder) -> None:
        topic = topic_of(model)
        await self._catch_up(topic, building)
        await self._worker.run_with_retry(building.index, building.index_again)
        await self._catch_up(topic, building)
        async with self._turn:
            await self._catch_up(topic, building)
            while not await self._worker.run_with_retry(building.swap, building.swap_again):
                await self._catch_up(topic, building)

    async def _catch_up(self, topic: Topic, building: GenerationBuilder) -> None:
        for partition in building.progress.positions:
            await self._fill(topic, partition, building)

    async def _fill(self, topic: Topic, partition: int, building: GenerationBuilder) -> None:
        """Fills to the end of the partition; the next batch is read while one is written."""
        records = await self._read(topic, partition, building.progress.positions[partition])
        while records:
            after = building.progress.positions[partition]
            following = asyncio.create_task(self._read(topic, partition, records[-1].position))
            try:
                await self._worker.run_with_retry(
                    partial(building.take, partition, Batch(after, records)), building.resume
                )
                expected, records = records[-1].position, await following
            finally:
                following.cancel()
            if building.progress.positions[partition] != expected:  # a failure in between
                records = await self._read(topic, partition, building.progress.positions[partition])

    async def _read(self, topic: Topic, partition: int, after: int) -> Sequence[Record]:
        return await self._worker.retry(lambda: self._log.read(topic, partition, after, self._batch))

    async def _end(self, building: GenerationBuilder) -> None:
        """Drops unfinished and replaced generations; if that fails, the next rebuild drops them."""
        with contextlib.suppress(Exception):
            await self._worker.run(building.clear)
        await self._worker.run(building.end)


def topic_of(model: ReadModel) -> Topic:
    return next(topic for topic in TOPICS if topic == model.topic)
