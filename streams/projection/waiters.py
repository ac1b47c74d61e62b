"""Tasks of this process that wait until a read model has reached a position."""

import asyncio
import heapq
from collections.abc import Mapping
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

    async def wait_for(self, read_model: str, partition: int, position: int) -> None:
        """Returns once `read_model` contains `position`; bound it with `asyncio.timeout`."""
        key = (read_model, partition)
        if self._reached.get(key, 0) >= position:
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting.setdefault(key, []), (position, next(self._ticket), future))
        await future

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
    """How many positions each read model is behind its topic. Raises LogUnavailable."""
    behind: dict[str, int] = {}
    for name, reached in positions.items():
        ends = [await log.end(topics[name], p) for p in reached]
        behind[name] = sum(max(0, end - at) for end, at in zip(ends, reached.values(), strict=True))
    return behind
