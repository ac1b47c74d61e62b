"""The runner that feeds the read models from the log: all live ones together, rebuilt ones beside them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, repeat
from typing import TypeVar

from projections.catalogue import READ_MODELS
from projections.readmodel import ReadModel
from projections.store import Store
from streams.log import TOPICS, Log, LogUnavailable, Record, Topic
from streams.projecting.slots import UNAVAILABLE, Batches, Slot, UnknownReadModel
from streams.projecting.waiting import Waiters
from streams.projecting.writing import Writer

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_BACK_OFF = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between attempts while the store or the log is unavailable; the last one repeats."""


class ProjectionRunner:
    """Keeps read models up to date with the log until cancelled.

    Rows and checkpoints change in one transaction, so a restart goes on exactly where the last one
    stopped. `ready` is set once every read model has taken in all that was on the log when the run began.
    `trouble` says why nothing can be read or written at the moment, and is empty otherwise.
    """

    def __init__(
        self, log: Log, store: Store, models: Sequence[ReadModel] = READ_MODELS, *, batch: int = 1000
    ) -> None:
        self._log = log
        self._batch = batch
        self._writer = Writer(store, models, log.partitions)
        self._waiters = Waiters()
        self._thread = ThreadPoolExecutor(1, "projector")
        self._topics: dict[str, Topic] = {m.name: _topic(m.topic) for m in models}
        self._queues: dict[tuple[Topic, int], asyncio.Queue[Sequence[Record]]] = {}
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()  # live batches and swaps take turns
        self._opened = asyncio.Event()
        self._rebuilding: dict[str, asyncio.Task[None]] = {}
        self.ready = asyncio.Event()
        self.trouble = ""

    async def run(self) -> None:
        """Runs until cancelled. Raises SomebodyElseRuns, LogDamaged."""
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._insisting(self._writer.open)
            for topic in dict.fromkeys(self._topics.values()):
                for partition in range(self._log.partitions):
                    start = await self._start(topic, partition)
                    self._queues[topic, partition] = asyncio.Queue(1)
                    tasks.append(asyncio.create_task(self._feed(topic, partition, start)))
            self._announce()
            self._opened.set()
            tasks.append(asyncio.create_task(self._advance()))
            tasks.append(asyncio.create_task(self._replace_outdated()))
            tasks.append(asyncio.create_task(self._become_ready()))
            await _first_failure(tasks)
        finally:
            await _cancelled([*tasks, *self._rebuilding.values()])
            self._waiters.stop()
            self._thread.shutdown(wait=True)

    async def wait_for(self, read_model: str, partition: int, position: int) -> None:
        """Returns as soon as `read_model` has taken in `position`; bound it with `asyncio.timeout`.

        Raises UnknownReadModel, and RunnerStopped when the runner does.
        """
        self._known(read_model)
        await self._waiters.wait_for(read_model, partition, position)

    def positions(self) -> dict[str, dict[int, int]]:
        """How far each read model is, by partition."""
        return {name: dict(slot.positions) for name, slot in self._writer.slots.items()}

    async def lag(self) -> dict[str, int]:
        """How many positions each read model is behind its topic, over all partitions."""
        behind: dict[str, int] = {}
        for name, positions in self.positions().items():
            ends = [await self._log.end(self._topics[name], p) for p in positions]
            behind[name] = sum(max(0, e - at) for e, at in zip(ends, positions.values(), strict=True))
        return behind

    async def rebuild(self, read_model: str) -> None:
        """Fills new tables from the first record on and swaps them in; queries see the old ones until then.

        Returns after the swap; joins a rebuild that is under way. Raises UnknownReadModel.
        """
        self._known(read_model)
        await self._opened.wait()
        task = self._rebuilding.get(read_model)
        if task is None or task.done():
            task = asyncio.create_task(self._rebuild(read_model))
            self._rebuilding[read_model] = task
        await asyncio.shield(task)

    async def retry(self, read_model: str, subject: str) -> int:
        """Projects the parked records about `subject` in order, up to the first that still fails.

        Returns how many were taken in. Raises UnknownReadModel.
        """
        self._known(read_model)
        await self._opened.wait()
        total = 0
        while True:
            waiting = await self._in_writer(lambda: self._writer.waiting(read_model, subject))
            records = await self._records(read_model, waiting[: self._batch])
            done = await self._in_writer(partial(self._writer.retry, read_model, subject, records))
            total += done
            if done == 0 or done < len(records):
                return total

    async def skip(self, read_model: str, subject: str) -> int:
        """Gives up the first parked record about `subject` and retries those behind it.

        Returns how many were taken in. Raises UnknownReadModel.
        """
        self._known(read_model)
        await self._opened.wait()
        if not await self._in_writer(lambda: self._writer.skip(read_model, subject)):
            return 0
        return await self.retry(read_model, subject)

    def _known(self, read_model: str) -> None:
        if read_model not in self._topics:
            raise UnknownReadModel(f"no read model {read_model!r}; there are {', '.join(self._topics)}")

    async def _records(
        self, read_model: str, places: Iterable[tuple[int, int]]
    ) -> dict[tuple[int, int], Record]:
        found: dict[tuple[int, int], Record] = {}
        for partition, position in places:
            for record in await self._log.read(self._topics[read_model], partition, position - 1, 1):
                found[partition, record.position] = record
        return found

    async def _start(self, topic: Topic, partition: int) -> int:
        """After which position the live read models of `topic` go on."""
        followers = [s for n, s in self._writer.slots.items() if self._topics[n] == topic]
        current = [s.positions[partition] for s in followers if s.model.name not in self._writer.outdated]
        start = min(current) if current else await self._log.end(topic, partition)
        self._writer.fed[topic, partition] = start
        return start

    async def _feed(self, topic: Topic, partition: int, position: int) -> None:
        """Reads a batch whenever the one before is written.

        Not while: a thread that writes to SQLite gives the interpreter up at every statement, and gets it
        back from a busy one milliseconds later.
        """
        queue = self._queues[topic, partition]
        while True:
            records = await self._read(topic, partition, position, follow=True)
            position = records[-1].position
            queue.put_nowait(records)
            self._news.set()
            await queue.join()

    async def _advance(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            batches: dict[str, Batches] = {}
            taken = [(place, queue) for place, queue in self._queues.items() if not queue.empty()]
            for (topic, partition), queue in taken:
                batches.setdefault(topic, {})[partition] = queue.get_nowait()
            async with self._turn:
                await self._insisting(
                    partial(self._writer.apply, batches), partial(self._writer.apply_again, batches)
                )
            self._announce()
            for _, queue in taken:
                queue.task_done()

    async def _become_ready(self) -> None:
        for name, topic in self._topics.items():
            for partition in range(self._log.partitions):
                end = await self._log.end(topic, partition)
                await self._waiters.wait_for(name, partition, end)
        self.ready.set()

    async def _replace_outdated(self) -> None:
        for name in sorted(self._writer.outdated):
            _LOG.info("the read model %s has another version: filling it anew", name)
            await self.rebuild(name)

    async def _rebuild(self, name: str) -> None:
        slot = await self._insisting(lambda: self._writer.begin_building(name))
        try:
            slot = await self._catch_up(slot)
            await self._insisting(partial(self._writer.index, slot))
            slot = await self._catch_up(slot)
            async with self._turn:
                slot = await self._catch_up(slot)
                await self._insisting(partial(self._writer.swap, slot))
        except Exception:
            await self._in_writer(partial(self._writer.abandon, slot))
            raise
        self._announce()

    async def _catch_up(self, slot: Slot) -> Slot:
        """Fills `slot` to the end of its topic."""
        topic = self._topics[slot.model.name]
        for partition in slot.positions:
            while records := await self._read(topic, partition, slot.positions[partition]):
                batches: Batches = {partition: records}
                slot = await self._insisting(
                    partial(self._writer.build, slot, batches),
                    partial(self._writer.build_again, slot, batches),
                )
        return slot

    async def _read(
        self, topic: Topic, partition: int, after: int, *, follow: bool = False
    ) -> Sequence[Record]:
        """The next batch; with `follow` waits until there is one."""

        async def read() -> Sequence[Record]:
            while True:
                records = await self._log.read(topic, partition, after, self._batch)
                if records or not follow:
                    return records
                await self._log.wait(topic, partition, after)

        return await self._patiently(read, read)

    def _announce(self) -> None:
        for name, slot in self._writer.slots.items():
            if name not in self._writer.outdated:
                self._waiters.reached({(name, p): at for p, at in slot.positions.items()})

    async def _insisting(self, work: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        """Does `work` in the writer's thread, with `again` for as long as the store is unavailable."""
        return await self._patiently(lambda: self._in_writer(work), lambda: self._in_writer(again or work))

    async def _patiently(self, first: Callable[[], Awaitable[T]], again: Callable[[], Awaitable[T]]) -> T:
        attempt = first
        for pause in chain(_BACK_OFF, repeat(_BACK_OFF[-1])):
            try:
                result = await attempt()
            except (*UNAVAILABLE, LogUnavailable) as error:
                if not self.trouble:
                    _LOG.warning("read models do not advance: %s", error)
                self.trouble = str(error)
                attempt = again
                await asyncio.sleep(pause)
            else:
                self.trouble = ""
                return result
        raise AssertionError("unreachable")

    async def _in_writer(self, work: Callable[[], T]) -> T:
        """`work` in the writer's thread; when cancelled, still waits for its end."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise


def _topic(name: str) -> Topic:
    for topic in TOPICS:
        if topic == name:
            return topic
    raise ValueError(f"no topic {name!r}")


async def _first_failure(tasks: Iterable[asyncio.Task[None]]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        await task


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    running = [t for t in tasks if not t.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
