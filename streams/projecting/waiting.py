"""In-process wake-ups: who waits for which read model to reach which position."""

import asyncio
import heapq
from collections.abc import Mapping
from itertools import count

Place = tuple[str, int]
"""A read model's name and a partition."""


class RunnerStopped(Exception):
    """The read models do not advance any more."""


class Waiters:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._reached: dict[Place, int] = {}
        self._waiting: dict[Place, list[tuple[int, int, asyncio.Future[None]]]] = {}
        self._ticket = count()

    async def wait_for(self, read_model: str, partition: int, position: int) -> None:
        """Returns once `read_model` has taken in `position`; bound it with `asyncio.timeout`."""
        place = (read_model, partition)
        if self._reached.get(place, 0) >= position:
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting.setdefault(place, []), (position, next(self._ticket), future))
        await future

    def reached(self, places: Mapping[Place, int]) -> None:
        """Wakes everybody who waits for no more than these positions."""
        self._reached.update(places)
        for place, at in places.items():
            waiting = self._waiting.get(place)
            while waiting and waiting[0][0] <= at:
                _, _, future = heapq.heappop(waiting)
                if not future.done():
                    future.set_result(None)

    def stop(self) -> None:
        """Tells everybody who still waits that it is in vain."""
        for waiting in self._waiting.values():
            for _, _, future in waiting:
                if not future.done():
                    future.set_exception(RunnerStopped("the projection runner has stopped"))
            waiting.clear()
