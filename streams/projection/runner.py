"""Keeps the read models up to date: the runner consumes the log itself, or a host feeds it."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from projections.catalog import READ_MODELS
from projections.failures import unavailable
from projections.readmodel import ReadModel
from projections.store import Store
from streams.log import Log, Record, Topic
from streams.projection.dead_letters import DeadLetters, known
from streams.projection.listener import ProjectionListener
from streams.projection.progress import Batch, Gap, GenerationProgress, StaleProgress
from streams.projection.rebuilder import Rebuilder, topic_of
from streams.projection.store_thread import StoreThread
from streams.projection.waiters import RunnerStopped, Waiters, lag
from streams.projection.writer import Writer
from streams.subscription import FEW, Subscription

_LOG = logging.getLogger(__name__)
_WATCH_SECONDS = 1.0
MANY = 20
"""While many records come at a time, they are gathered for so many times as long: a load reports each
deployment several times, and its rows are written once for all reports of a batch."""

TopicPartition = tuple[Topic, int]
"""A topic and a partition."""


@dataclass(slots=True)
class _Submitted:
    """A batch that waits to be written."""

    place: TopicPartition
    batch: Batch
    done: asyncio.Future[None]


class ProjectionRunner:
    """Keeps read models up to date until cancelled; `run` or `host` may be called once.

    Rows and checkpoints change in one transaction, so a restart continues exactly where the last run stopped.
    `ready` is set once every read model contains all records that were on the log when the run began, or,
    with a host, can be fed. `trouble`: why nothing can be read or written at the moment, empty otherwise.
    """

    def __init__(
        self,
        log: Log,
        store: Store,
        models: Sequence[ReadModel] = READ_MODELS,
        *,
        batch: int = 1000,
        gather_seconds: float = 0.0,
    ) -> None:
        """What `run` finds on the log within `gather_seconds` is written together, unless a caller waits;
        while many records come, within `MANY` times that."""
        self._log = log
        self._gather_seconds = gather_seconds
        self._due = 0.0  # when what is being gathered is written, of all topics
        self._batch = batch
        self._shared = store.shared
        self._models: dict[str, ReadModel] = {m.name: m for m in models}
        self._topics: dict[str, Topic] = {m.name: topic_of(m) for m in models}
        self._writer = Writer(store, models, log.partitions)
        self._thread = StoreThread("projector")
        # SQLite has one writer; for PostgreSQL a rebuild need not make live batches wait.
        self._builder = StoreThread("rebuild") if store.shared else self._thread
        self._turn = asyncio.Lock()  # live batches and swaps take turns
        self._rebuilding = Rebuilder(log, store, self._builder, self._turn, batch)
        self._parked = DeadLetters(log, store, models, self._thread)
        self._waiters = Waiters()
        self._announced: dict[str, GenerationProgress] = {}
        self._given: list[_Submitted] = []
        self._news = asyncio.Event()
        self._fed: dict[TopicPartition, int] = {}
        self._opened = asyncio.Event()
        self._over = False
        self._alone = False
        self._listeners: Sequence[ProjectionListener] = ()
        self._rebuilds: dict[str, asyncio.Task[None]] = {}
        self.ready = asyncio.Event()

    @property
    def trouble(self) -> str:
        return self._thread.trouble or self._builder.trouble

    async def run(self, listeners: Sequence[ProjectionListener] = ()) -> None:
        """Feeds all partitions from the log until cancelled, and notifies `listeners` of durable records.

        Raises WriterConflict, LogDamaged, Superseded.
        """
        self._alone = True
        self._listeners = listeners
        subscriptions = [self._subscription(topic) for topic in dict.fromkeys(self._topics.values())]
        await self._until_cancelled(self._replace_outdated, self._become_ready, subscriptions=subscriptions)

    async def host(self) -> None:
        """Writes the records that a host passes to `take`, until cancelled; other processes may feed other
        partitions.

        Raises Superseded.
        """

        async def become_ready() -> None:
            await self._replace_outdated()
            self.ready.set()

        await self._until_cancelled(become_ready)

    async def assigned(self, topic: Topic, partition: int) -> int:
        """The partition is fed from now on; returns the position that its read models continue after.

        One attempt; raises errors that are `projections.failures.unavailable`, Superseded, RunnerStopped.
        """
        await self._open()
        await self._thread.run(self._writer.reload)
        self._fed[topic, partition] = await self._start(topic, partition)
        return self._fed[topic, partition]

    async def revoked(self, topic: Topic, partition: int) -> None:
        """Ends the feeding of the partition."""
        self._fed.pop((topic, partition), None)

    async def take(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        """Returns when `records`, in order, are durable in all read models of `topic`, dead letters included.

        Records that a read model contains already are left out. Records that are missing before the first
        ones after `assigned`, or after another process fed the partition, are read from the log. Waits while
        the store is unavailable. Raises RunnerStopped.
        """
        await self._open()
        if not records:
            return
        after = min(self._fed.get((topic, partition), records[0].position - 1), records[-1].position)
        await self._give(topic, partition, Batch(after, records))

    async def wait_for(self, read_model: str, partition: int, position: int) -> None:
        """Returns as soon as `read_model` contains `position`; bound it with `asyncio.timeout`.

        Raises UnknownReadModel, and RunnerStopped when the runner stops.
        """
        known(self._models, read_model)
        await self._waiters.wait_for(read_model, partition, position)

    def keeps_up(self, read_model: str, partition: int, position: int) -> bool:
        """Whether `read_model` is being advanced, and will soon contain `position`."""
        progress = self._writer.progress.get(read_model)
        if progress is None or read_model in self._writer.outdated or self.trouble or self._over:
            return False
        return position - progress.positions[partition] <= self._batch

    def positions(self) -> dict[str, dict[int, int]]:
        """The position of each read model by partition; with a host, of the partitions that it feeds."""
        fed = {(n, p) for n, topic in self._topics.items() for t, p in self._fed if t == topic}
        return {
            name: {p: at for p, at in progress.positions.items() if self._alone or (name, p) in fed}
            for name, progress in self._writer.progress.items()
        }

    async def lag(self) -> dict[str, int]:
        """The number of positions that each read model is behind its topic. Raises LogUnavailable."""
        return await lag(self._log, self._topics, self.positions())

    async def rebuild(self, read_model: str) -> None:
        """Fills new tables from the first record on and swaps them in; queries see the old ones until then.

        Returns after the swap; joins a rebuild in progress. Raises UnknownReadModel.
        """
        known(self._models, read_model)
        await self._open()
        task = self._rebuilds.get(read_model)
        if task is None or task.done():
            task = asyncio.create_task(self._rebuild(read_model))
            self._rebuilds[read_model] = task
        await asyncio.shield(task)

    async def retry(self, read_model: str, subject: str) -> int:
        """See `DeadLetters.retry`."""
        await self._open()
        return await self._parked.retry(read_model, subject)

    async def skip(self, read_model: str, subject: str) -> int:
        """See `DeadLetters.skip`."""
        await self._open()
        return await self._parked.skip(read_model, subject)

    async def _until_cancelled(
        self, *work: Callable[[], Coroutine[Any, Any, None]], subscriptions: Sequence[Subscription] = ()
    ) -> None:
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._thread.run_with_retry(self._writer.open)
            for subscription in subscriptions:
                await self._thread.retry(subscription.open)
            tasks += [asyncio.create_task(each()) for each in (*work, *(s.run for s in subscriptions))]
            self._announce()
            self._opened.set()
            tasks.append(asyncio.create_task(self._advance()))
            if self._shared:
                tasks.append(asyncio.create_task(self._watch()))
            await _first_failure(tasks)
        finally:
            self._over = True
            self._opened.set()
            await _cancelled([*tasks, *self._rebuilds.values()])
            self._waiters.stop()
            for given in self._given:
                if not given.done.done():
                    given.done.set_exception(RunnerStopped("the projection runner has stopped"))
            self._thread.close()
            self._builder.close()

    def _subscription(self, topic: Topic) -> Subscription:
        """Reads no batch while the one before is written: a thread that writes to SQLite releases the
        interpreter at every statement, and a busy one returns it milliseconds later."""

        async def start(partition: int) -> int:
            self._fed[topic, partition] = position = await self._start(topic, partition)
            for listener in self._listeners:
                listener.assigned(self._fed)
            return position

        async def take(records: Sequence[Record]) -> None:
            partition = records[0].partition
            await self.take(topic, partition, records)
            for listener in self._listeners:
                listener.taken(topic, partition, records)

        async def gather(partition: int, after: int) -> None:
            behind = await self._log.end(topic, partition) - after
            if behind >= self._batch:  # it catches up
                return
            now = asyncio.get_running_loop().time()
            if behind >= FEW:
                due = now + MANY * self._gather_seconds
            elif self._due < now:
                due = self._due = now + self._gather_seconds
            else:
                due = self._due
            await self._waiters.any_of([(n, partition) for n in names], due)

        names = [name for name, of in self._topics.items() if of == topic]
        return Subscription(
            self._log,
            topic,
            take,
            start=start,
            retry=self._thread.retry,
            batch=self._batch,
            gather=gather if self._gather_seconds else None,
        )

    async def _open(self) -> None:
        """Waits until the read models can be fed. Raises RunnerStopped."""
        await self._opened.wait()
        if self._over:
            raise RunnerStopped("the projection runner has stopped")

    async def _start(self, topic: Topic, partition: int) -> int:
        """The position that the live read models of `topic` continue after."""
        slots = self._writer.progress
        current = [
            slots[n].positions[partition]
            for n, t in self._topics.items()
            if t == topic and n not in self._writer.outdated
        ]
        return min(current) if current else await self._log.end(topic, partition)

    async def _give(self, topic: Topic, partition: int, batch: Batch) -> None:
        given = _Submitted((topic, partition), batch, asyncio.get_running_loop().create_future())
        self._given.append(given)
        self._news.set()
        await given.done

    async def _advance(self) -> None:
        """Writes the submitted batches, one of each partition per transaction."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._given:
                taken = {given.place: given for given in reversed(self._given)}
                async with self._turn:
                    await self._write({place: given.batch for place, given in taken.items()})
                for place, given in taken.items():
                    self._given.remove(given)
                    if place in self._fed:
                        self._fed[place] = max(self._fed[place], given.batch.records[-1].position)
                    if not given.done.done():
                        given.done.set_result(None)

    async def _write(self, given: Mapping[TopicPartition, Batch]) -> None:
        """Returns once all live read models contain `given`, also if another process advances them."""
        batches = dict(given)
        while True:
            now = _by_topic(batches)
            try:
                await self._thread.run_with_retry(
                    partial(self._writer.apply, now), partial(self._writer.apply_again, now)
                )
                break
            except Gap as gap:
                place, missing = await self._missing(gap)
                if missing.records:
                    await self._write({place: missing})
                else:  # there is nothing in between
                    batches[place] = replace(batches[place], after=missing.after)
            except StaleProgress as moved:
                await self._reload(moved)
                for place, at in self._fed.items():
                    batches.setdefault(place, Batch(at, ()))
        self._announce()

    async def _missing(self, gap: Gap) -> tuple[TopicPartition, Batch]:
        topic = self._topics[gap.read_model]
        read = await self._thread.retry(
            partial(self._log.read, topic, gap.partition, gap.position, self._batch)
        )
        return (topic, gap.partition), Batch(gap.position, [r for r in read if r.position <= gap.until])

    async def _reload(self, moved: StaleProgress) -> None:
        before = self._writer.progress[moved.read_model]
        await self._thread.run_with_retry(self._writer.reload)
        now = self._writer.progress[moved.read_model]
        same = now.generation == before.generation
        if self._alone and same and now.positions[moved.partition] != before.positions[moved.partition]:
            raise moved

    async def _watch(self) -> None:
        """Loads generations that other processes swap in, also while no records arrive."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                if not await self._thread.run(self._writer.swapped):
                    continue
            except Exception as error:
                if unavailable(error):
                    continue
                raise
            async with self._turn:
                await self._thread.run_with_retry(self._writer.reload)
                await self._write({place: Batch(at, ()) for place, at in self._fed.items()})
            await self._replace_outdated()

    async def _become_ready(self) -> None:
        for name, topic in self._topics.items():
            for partition in range(self._log.partitions):
                end = await self._thread.retry(partial(self._log.end, topic, partition))
                await self._waiters.wait_for(name, partition, end)
        self.ready.set()

    async def _replace_outdated(self) -> None:
        for name in sorted(self._writer.outdated):
            _LOG.info("the read model %s has another version: it is rebuilt", name)
            await self.rebuild(name)

    async def _rebuild(self, name: str) -> None:
        await self._rebuilding.rebuild(self._models[name])
        async with self._turn:
            await self._thread.run_with_retry(self._writer.reload)
            await self._write({place: Batch(at, ()) for place, at in self._fed.items()})

    def _announce(self) -> None:
        for name, progress in self._writer.progress.items():
            if name not in self._writer.outdated and progress is not self._announced.get(name):
                self._announced[name] = progress
                self._waiters.reached({(name, p): at for p, at in progress.positions.items()})


def _by_topic(batches: Mapping[TopicPartition, Batch]) -> dict[str, dict[int, Batch]]:
    result: dict[str, dict[int, Batch]] = {}
    for (topic, partition), batch in batches.items():
        result.setdefault(topic, {})[partition] = batch
    return result


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
