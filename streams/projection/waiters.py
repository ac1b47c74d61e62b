"""Tasks of this process that wait until a read model has reached a position."""

import asyncio
import heapq
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import count

from streams.log import Log, Topic
from streams.projection.notifications import ReadModelPartition


class RunnerStopped(Exception):
    """The read models do not advance any more."""


class Waiters:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._reached: dict[ReadModelPartition, int] = {}
        self._waiting: dict[ReadModelPartition, list[tuple[int, int, asyncio.Future[None]]]] = {}
        self._ticket = count()
        self._came = asyncio.Event()
        """Set by each task that begins to wait."""

    async def wait_for(self, read_model: str, partition: int, position: int) -> None:
        """Returns once `read_model` contains `position`; bound it with `asyncio.timeout`."""
        key = (read_model, partition)
        if self._reached.get(key, 0) >= position:
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting.setdefault(key, []), (position, next(self._ticket), future))
        self._came.set()
        await future

    async def any_of(self, keys: Iterable[ReadModelPartition], until: float) -> None:
        """Returns as soon as a task waits for one of `keys`, at the latest at this time of the event loop."""
        wanted = tuple(keys)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while not self._any(wanted):
                    self._came.clear()
                    await self._came.wait()

    def _any(self, keys: Iterable[ReadModelPartition]) -> bool:
        return any(not future.done() for key in keys for _, _, future in self._waiting.get(key, ()))

    def reached(self, positions: Mapping[ReadModelPartition, int]) -> None:
        """Wakes the tasks that wait for these positions or earlier ones."""
        self._reached.update(positions)
        for key, at in positions.items():
            waiting = self._waiting.get(key)
            while waiting and waiting[0][0] <= at:
                _, _, future = heapq.heappop(waiting)
                if not future.done():
                    future.set_result(None)

    def stop(self) -> None:
        """Raises RunnerStopped in the tasks that still wait."""
        for waiting in self._waiting.values():
            for _, _, future in waiting:
                if not future.done():
                    future.set_exception(RunnerStopped("the projection runner has stopped"))
            waiting.clear()


async def lag(
    log: Log, topics: Mapping[str, Topic], positions: Mapping[str, Mapping[int, int]]
) -> dict[str, int]:
    """The number of positions that each read model is behind its topic. Raises LogUnavailable."""
    behind: dict[str, int] = {}
    for name, reached in positions.items():
        ends = [await log.end(topics[name], p) for p in reached]
        behind[name] = sum(max(0, end - at) for end, at in zip(ends, reached.values(), strict=True))
    return behind
