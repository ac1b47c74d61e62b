"""A durable consumer of a topic: reads its partitions in batches and passes each batch to a handler.

A batch counts as consumed when the handler returns and, with `commit`, the position is stored. If handler or
commit fail because something is unavailable, the same records are passed again, with those that were appended
meanwhile. So a handler either stores the position in its own transaction, from which `start` returns it, or
can handle a record twice.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from streams.dead_letters import DeadLetterTopic
from streams.log import Consumed, Fault, Log, LogUnavailable, Record, Topic, Transaction
from streams.retry import Retry

Handler = Callable[[Sequence[Record]], Awaitable[None]]
"""Takes records of one partition, in order."""
Start = Callable[[int], Awaitable[int]]
"""Returns the position of a partition up to which all records are consumed."""
Commit = Callable[[int, int], Awaitable[None]]
"""Stores the position of a partition."""
Gather = Callable[[int, int], Awaitable[None]]
"""Returns when the records of a partition after a position are to be read: some more may come meanwhile."""

BATCH = 500
JOINED = 4
"""Maximum number of reads per batch: its size is limited, too."""
FEW = 100
"""Up to so many records are handled at once: they are probably the last, and another read would be empty."""

logger = logging.getLogger("signalbox.subscription")


class Source(Protocol):
    """The part of a log that a consumer reads; see `streams.log.Log`."""

    @property
    def partitions(self) -> int: ...
    async def read(self, topic: Topic, partition: int, after: int, limit: int) -> list[Record]: ...
    async def wait(self, topic: Topic, partition: int, after: int) -> None: ...
    async def end(self, topic: Topic, partition: int) -> int: ...


class Unprocessable(Exception):
    """Raised by a handler for a record that it can never handle: the record is dead-lettered."""

    def __init__(self, record: Record, fault: Fault) -> None:
        super().__init__(fault.reason)
        self.record = record
        self.fault = fault


class Offsets:
    """Positions of a consumer on the log itself. On Kafka their partition has to be claimed."""

    def __init__(self, log: Log, consumer: str, topic: Topic) -> None:
        self._log = log
        self._consumer = consumer
        self._topic: Topic = topic

    async def start(self, partition: int) -> int:
        return await self._log.consumed(self._consumer, self._topic, partition)

    async def commit(self, partition: int, position: int) -> None:
        consumed = Consumed(self._consumer, self._topic, partition, position)
        await self._log.commit(Transaction(consumed=(consumed,)))


def end_of(log: Source, topic: Topic) -> Start:
    """Starts at the current end: for a consumer that serves this process and keeps no state."""

    async def start(partition: int) -> int:
        return await log.end(topic, partition)

    return start


class Subscription:
    """Belongs to one event loop. `run` consumes a fixed set of partitions, or those that a consumer group
    assigns (`streams.kafka.membership.Membership` calls `assigned` and `revoked`).

    `trouble`: why nothing is consumed at the moment, empty otherwise. With `dead_letters`, a record for
    which the handler raises Unprocessable goes there, and the rest of its batch is passed again. With
    `read_ahead`, the batch after a full one is read while that one is handled, and a batch that is cut off at
    the most bytes of a read (`LARGEST_READ`) is filled by further reads. `gather` is awaited before a batch
    is read, once there is one.
    """

    def __init__(
        self,
        log: Source,
        topic: Topic,
        handler: Handler,
        *,
        start: Start,
        commit: Commit | None = None,
        dead_letters: DeadLetterTopic | None = None,
        retry: Retry | None = None,
        batch: int = BATCH,
        read_ahead: bool = False,
        gather: Gather | None = None,
    ) -> None:
        self._log = log
        self._topic: Topic = topic
        self._handler = handler
        self._start = start
        self._commit = commit
        self._dead_letters = dead_letters
        self._batch = batch
        self._read_ahead = read_ahead
        self._gather = gather
        self._positions: dict[int, int] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._idle: set[int] = set()
        """Partitions without a batch in progress."""
        self._stopping: set[int] = set()
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._observers: list[asyncio.Future[None]] = []
        """Resolved when a position, `trouble` or `_over` changes."""
        self.retry = retry or Retry(f"{topic} are not consumed", logger)

    @property
    def trouble(self) -> str:
        return self.retry.trouble

    @property
    def positions(self) -> dict[int, int]:
        """The position up to which each partition is consumed."""
        return dict(self._positions)

    async def lag(self) -> int:
        """The number of positions that are not consumed yet. Raises LogUnavailable."""
        ends = [await self._log.end(self._topic, p) - at for p, at in self.positions.items()]
        return sum(max(0, behind) for behind in ends)

    async def caught_up(self) -> dict[int, int]:
        """Returns the ends that the open partitions have now, once everything up to them is consumed.

        Raises LogUnavailable while nothing can be consumed, and the failure that ended `run`.
        """
        ends = {p: await self._log.end(self._topic, p) for p in self.positions}
        while any(self._positions.get(p, 0) < end for p, end in ends.items()):
            if self._over.done():
                self._over.result()
            if self.trouble or self._over.done():
                raise LogUnavailable(self.trouble or f"{self._topic} are not consumed any more")
            changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._observers.append(changed)
            await changed
        return ends

    def pause(self) -> None:
        """Begins no further batch until `resume`."""
        self._resumed.clear()

    def resume(self) -> None:
        self._resumed.set()

    async def open(self, partitions: Iterable[int] | None = None) -> None:
        """Loads the starts of these partitions, or all, in one attempt. Raises the errors of `start`."""
        for partition in range(self._log.partitions) if partitions is None else partitions:
            self._positions[partition] = await self._start(partition)

    async def run(self, partitions: Iterable[int] | None = None) -> None:
        """Consumes the partitions that are open, or else `partitions` (all when None), until cancelled or
        stopped.

        Raises the first failure that is not retryable.
        """
        wanted = range(self._log.partitions) if partitions is None else partitions
        for partition in tuple(self._positions or wanted):
            self._consume_in_task(partition)
        try:
            await asyncio.shield(self._over)
        finally:
            tasks = tuple(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def run_until(self, stop: asyncio.Event, partitions: Iterable[int] | None = None) -> None:
        """As `run`, until `stop` is set; finishes the batches in progress."""

        async def stop_when_set() -> None:
            await stop.wait()
            await self.stop()

        stopping = asyncio.create_task(stop_when_set())
        try:
            await self.run(partitions)
        finally:
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)

    async def assigned(self, partition: int) -> None:
        """Consumes this partition from now on."""
        self._consume_in_task(partition)

    async def revoked(self, partition: int) -> None:
        """Returns when the batch in progress is finished and the partition is no longer consumed here."""
        await self._finish((partition,))
        self._positions.pop(partition, None)

    async def stop(self) -> None:
        """Finishes the batches in progress; then `run` returns."""
        await self._finish(tuple(self._tasks))
        if not self._over.done():
            self._over.set_result(None)
            self._notify_observers()

    async def _finish(self, partitions: Sequence[int]) -> None:
        tasks = {p: task for p in partitions if (task := self._tasks.pop(p, None)) is not None}
        self._stopping.update(tasks)
        for partition in self._idle.intersection(tasks):
            tasks[partition].cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        self._stopping.difference_update(tasks)

    def _consume_in_task(self, partition: int) -> None:
        if partition in self._tasks:
            return
        task = asyncio.create_task(self._consume(partition), name=f"{self._topic}/{partition}")
        task.add_done_callback(self._ended)
        self._tasks[partition] = task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self._over.done():
            self._over.set_exception(error)
            self._notify_observers()

    def _notify_observers(self) -> None:
        observers, self._observers = self._observers, []
        for observer in observers:
            if not observer.done():
                observer.set_result(None)

    async def _consume(self, partition: int) -> None:
        self._idle.add(partition)
        ahead: asyncio.Task[list[Record]] | None = None
        try:
            while partition not in self._stopping:
                try:
                    await self._resumed.wait()
                    if partition not in self._positions:
                        self._positions[partition] = await self._start(partition)
                    records = await (ahead or self._next(partition, self._positions[partition]))
                    ahead = None
                    if records and self._resumed.is_set():
                        if self._read_ahead and len(records) >= self._batch:
                            ahead = asyncio.create_task(self._next(partition, records[-1].position))
                        self._idle.discard(partition)
                        await self._process(partition, records)
                        self._idle.add(partition)
                except Exception as error:
                    if not self.retry.retryable(error):
                        raise
                    self._idle.add(partition)
                    await _cancelled(ahead)
                    ahead = None
                    pause = self.retry.failed(error)
                    self._notify_observers()
                    await asyncio.sleep(pause)
                else:
                    self.retry.succeeded()
        finally:
            await _cancelled(ahead)

    async def _next(self, partition: int, after: int) -> list[Record]:
        """The next batch, as soon as there is one."""
        await self._log.wait(self._topic, partition, after)
        if self._gather is not None:
            await self._gather(partition, after)
        records = await self._log.read(self._topic, partition, after, self._batch)
        if not self._read_ahead:
            return records
        reads = 1
        while FEW < len(records) < self._batch and reads < JOINED:
            left = self._batch - len(records)
            more = await self._log.read(self._topic, partition, records[-1].position, left)
            if not more:
                break
            records, reads = [*records, *more], reads + 1
        return records

    async def _process(self, partition: int, records: Sequence[Record]) -> None:
        last = records[-1].position
        while records:
            try:
                await self._handler(records)
                break
            except Unprocessable as error:
                if self._dead_letters is None:
                    raise
                await self._dead_letters.add(error.record, error.fault)
                where = f"{self._topic}/{error.record.partition} at {error.record.position}"
                logger.error("%s is dead-lettered: %s", where, error)
                records = [record for record in records if record.position != error.record.position]
        if self._commit is not None:
            await self._commit(partition, last)
        self._positions[partition] = last
        self._notify_observers()


async def _cancelled(task: asyncio.Task[list[Record]] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
