"""Work on the partitions that a consumer group assigns to this process: one task for each partition."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from streams.log import Fenced, LogDamaged, LogUnavailable
from streams.retry import BACK_OFF, Retry

DAMAGED_SECONDS = 60.0
"""Pause after LogDamaged: only an operator can repair it, and another process would find the same damage."""
FENCED_SECONDS = 1.0
"""How long the group has for revoking a fenced partition before this process joins the group again."""

logger = logging.getLogger("signalbox.partitions")


class Assignment:
    """A partition assigned to this process. `verb` completes the sentences "partition 3 is (not) …".

    `trouble` is why the partition is not worked on at the moment, empty otherwise.
    """

    def __init__(self, partition: int, verb: str) -> None:
        self.partition = partition
        self.revoked = asyncio.Event()
        """Set when the work on the partition must finish."""
        self.trouble = f"partition {partition} is being loaded"
        self._not_worked_on = f"partition {partition} is not {verb}"
        self._verb = verb
        self._retry = Retry(self._not_worked_on, logger, describe=_described)
        self._ready_at: float | None = None
        self.loaded = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        return self._ready_at is not None

    def ready(self) -> None:
        """Marks the state of the partition as loaded."""
        logger.info("partition %d is %s here", self.partition, self._verb)
        self.trouble = ""
        self._ready_at = _now()
        self.loaded.set()

    def failed(self, error: Exception) -> float:
        """Records a failure; returns the seconds to wait before the next attempt."""
        # A worker that fails soon after each start must not start without a pause.
        if self._ready_at is not None and _now() - self._ready_at > BACK_OFF[-1]:
            self._retry.succeeded()
        self._ready_at = None
        if not isinstance(error, LogDamaged | LogUnavailable):
            logger.exception("partition %d: the work failed and starts again", self.partition)
        pause = self._retry.failed(error)
        self.trouble = f"{self._not_worked_on}: {_described(error)}"
        return DAMAGED_SECONDS if isinstance(error, LogDamaged) else pause


Work = Callable[[Assignment], Coroutine[Any, Any, None]]
"""Loads the state of a partition, calls `Assignment.ready`, and works until it is revoked."""


class PartitionWorkers:
    """Runs `work` for each assigned partition, and again after a failure.

    `revoked` cancels `work`, after `finish_seconds` once it is ready, and then calls `release`. After Fenced
    the state is dropped, and `rejoin` is called: the group determines the owner of the partition.
    """

    def __init__(
        self,
        verb: str,
        work: Work,
        release: Callable[[int], Coroutine[Any, Any, None]],
        *,
        finish_seconds: float = 0.0,
    ) -> None:
        self._verb = verb
        self._work = work
        self._release = release
        self._finish_seconds = finish_seconds
        self._assigned: dict[int, tuple[Assignment, asyncio.Task[None]]] = {}
        self.rejoin: Callable[[], None] = lambda: None

    def trouble(self) -> str | None:
        return next((a.trouble for a, _ in self._assigned.values() if a.trouble), None)

    async def assigned(self, partition: int) -> None:
        if partition in self._assigned:
            return
        assignment = Assignment(partition, self._verb)
        task = asyncio.create_task(self._run(assignment), name=f"partition {partition} is {self._verb}")
        self._assigned[partition] = (assignment, task)

    async def revoked(self, partition: int) -> None:
        """Returns when this process has stopped working on the partition."""
        if partition not in self._assigned:
            return
        assignment, task = self._assigned.pop(partition)
        assignment.revoked.set()
        if assignment.is_ready:
            await asyncio.wait([task], timeout=self._finish_seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self._release(partition)
        logger.info("partition %d is no longer %s here", partition, self._verb)

    async def begin(self, partition: int) -> asyncio.Task[None]:
        """Works on a partition that this process has without a group, until `revoked`. Returns the task of
        the work once its state is loaded, and raises an earlier failure of it."""
        assignment = Assignment(partition, self._verb)
        task = asyncio.create_task(self._work(assignment), name=f"partition {partition} is {self._verb}")
        self._assigned[partition] = (assignment, task)
        loaded = asyncio.create_task(assignment.loaded.wait())
        try:
            await asyncio.wait([task, loaded], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        except BaseException:
            await self.revoked(partition)
            raise
        finally:
            loaded.cancel()
        return task

    async def stop(self) -> None:
        for partition in tuple(self._assigned):
            await self.revoked(partition)

    async def _run(self, assignment: Assignment) -> None:
        while not assignment.revoked.is_set():
            try:
                await self._work(assignment)
                return
            except Fenced as error:
                logger.warning("partition %d has another writer: %s", assignment.partition, error)
                assignment.trouble = ""
                await set_within(assignment.revoked, FENCED_SECONDS)
                if not assignment.revoked.is_set():
                    self.rejoin()
                await assignment.revoked.wait()
            except Exception as error:
                await set_within(assignment.revoked, assignment.failed(error))


def _described(error: Exception) -> str:
    """The first line; of an unexpected failure its type, as its text may contain anything."""
    if isinstance(error, LogDamaged | LogUnavailable):
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{type(error).__name__}; the log of this process has its traceback"


async def set_within(event: asyncio.Event, seconds: float) -> None:
    """Returns when `event` is set, or after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _now() -> float:
    return asyncio.get_running_loop().time()
