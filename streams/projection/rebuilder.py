"""Rebuilds a read model: fills a new generation from the log beside the live one, and swaps it in."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from functools import partial

from sqlalchemy.exc import DBAPIError

from projections.databases.engines import target_of
from projections.failures import error_summary
from projections.readmodel import ReadModel, Separable
from projections.store import Store
from streams.compute_process import cores
from streams.log import TOPICS, Log, ReadElsewhere, Record, Topic
from streams.projection.computing_process import ComputingProcess, Work
from streams.projection.generation_builder import GenerationBuilder
from streams.projection.progress import Batch, ComputedBatch, WriterConflict
from streams.projection.store_thread import StoreThread
from streams.threads import in_thread

_LOG = logging.getLogger(__name__)
_LOOK_SECONDS = 0.5
"""Seconds between checks whether another process has finished the rebuild."""
MANY = 20_000
"""From so many records on, another process reads them and computes the rows: it starts in half a second."""


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
        await self._fill_from_process(model, topic, building)
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

    async def _fill_from_process(self, model: ReadModel, topic: Topic, building: GenerationBuilder) -> None:
        """Fills with rows that another process computes, where that is possible and worth its start."""
        log = self._log
        if cores() == 1 or not isinstance(model, Separable) or not isinstance(log, ReadElsewhere):
            return
        target, prefix = target_of(self._store.reader), building.progress.generation.prefix
        for partition in building.progress.positions:
            end, before = await self._worker.retry(partial(log.end, topic, partition)), -1
            while before < (after := building.progress.positions[partition]) and end - after >= MANY:
                before = after
                source, empty = log.source(), after == 0
                work = Work(source, model, target, prefix, topic, partition, after, end, empty)
                why = await self._write_computed(work, building)
                if why:
                    _LOG.info("%s/%s is projected in this process from here: %s", topic, partition, why)
                    break

    async def _write_computed(self, work: Work, building: GenerationBuilder) -> str:
        """Why no further rows can be computed there; empty at the end, and after a failed transaction."""
        try:
            process = await in_thread(ComputingProcess, work)
        except OSError as error:
            return str(error)
        reading = _read_next(process)
        try:
            while True:
                batch = await asyncio.shield(reading)
                if isinstance(batch, str):
                    return batch
                reading = _read_next(process)
                await self._worker.run_with_retry(
                    partial(building.take_computed, work.model, work.partition, batch), building.resume
                )
                if building.progress.positions[work.partition] != batch.last:
                    return ""
                await in_thread(process.written, batch.last)
        except EOFError:
            return "the process that computes ended"
        except DBAPIError as error:
            return error_summary(error)
        finally:
            process.kill()
            await asyncio.gather(reading, return_exceptions=True)
            await in_thread(process.close)

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


def _read_next(process: ComputingProcess) -> "asyncio.Future[ComputedBatch | str]":
    return asyncio.ensure_future(asyncio.to_thread(process.next))


def topic_of(model: ReadModel) -> Topic:
    return next(topic for topic in TOPICS if topic == model.topic)
