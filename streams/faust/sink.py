"""The read models of one process, written by one thread."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from projections.readmodel import ReadModel
from projections.store import Store
from streams.log import Record, Topic
from streams.projecting.slots import UNAVAILABLE
from streams.projecting.writing import Writer

T = TypeVar("T")


class WriterSink:
    """A `ReadModelSink` on a store. Several processes may have one on the same store: of a partition's
    checkpoint only one of them gets further, the others are told."""

    def __init__(self, store: Store, models: Sequence[ReadModel], partitions: int) -> None:
        self._writer = Writer(store, models, partitions)
        self._thread = ThreadPoolExecutor(1, "projector")
        self._doubtful = False

    async def assigned(self, topic: Topic, partition: int) -> int:
        """Raises one of UNAVAILABLE."""
        await self._in_thread(self._writer.open)
        followers = [slot for slot in self._writer.slots.values() if slot.model.topic == topic]
        return min((s.positions[partition] for s in followers), default=0)

    async def revoked(self, topic: Topic, partition: int) -> None:
        """What is written is written already."""

    async def take(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        """Raises SomebodyElseRuns, or one of UNAVAILABLE."""
        apply = self._writer.apply_again if self._doubtful else self._writer.apply
        self._doubtful = False
        try:
            await self._in_thread(partial(apply, {topic: {partition: records}}))
        except UNAVAILABLE:
            self._doubtful = True
            raise

    async def close(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """`work` in the writer's thread; when cancelled, still waits for its end."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait((future,))
            raise
