"""The services of a process: stopped in the reverse order of their start, and all when one of them fails."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, ParamSpec, Protocol, TypeVar

logger = logging.getLogger("signalbox")

LEAST_SECONDS = 0.2
"""For each service that stops after the deadline."""


class Closing(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=Closing)
T = TypeVar("T")
P = ParamSpec("P")
Finish = Callable[[], Coroutine[Any, Any, None]]


class ServiceGroup(AsyncExitStack):
    """`failed` is done when a task that must run until the stop has ended, with its error."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stopping = asyncio.Event()
        self._later: list[Finish] = []
        self._first_at_stop: list[Finish] = []
        self._deadline: float | None = None

    async def stop(self, deadline: float | None = None) -> None:
        """A service that has not stopped at `deadline`, a time of the event loop, is abandoned: logged, and
        not waited for."""
        self._deadline = deadline
        self.stopping.set()
        for stop in self._first_at_stop:
            await self._in_time(stop.__qualname__, stop())
        await self.aclose()

    def push_async_callback(
        self, callback: Callable[P, Awaitable[T]], /, *args: P.args, **kwds: P.kwargs
    ) -> Callable[P, Awaitable[T]]:
        self._push(callback.__qualname__, lambda: callback(*args, **kwds))
        return callback

    def _push(self, what: str, close: Callable[[], Awaitable[Any]]) -> None:
        async def bounded() -> None:
            await self._in_time(what, close())

        super().push_async_callback(bounded)

    async def _in_time(self, what: str, closing: Awaitable[Any]) -> None:
        if self._deadline is None:
            await closing
            return
        left = self._deadline - asyncio.get_running_loop().time()
        task = asyncio.ensure_future(closing)
        try:
            await asyncio.wait([task], timeout=max(left, LEAST_SECONDS))
        finally:
            if not task.done():
                logger.error("not waited for any longer: %s", what)
                task.cancel()
        if not task.cancelled() and task.done():
            task.result()

    def first_at_stop(self, stop: Finish) -> None:
        """Awaits `stop` before everything else stops."""
        self._first_at_stop.append(stop)

    def later(self, finish: Finish) -> None:
        """Adds a last part to the start, which needs other groups: it begins when these start, too."""
        self._later.append(finish)

    async def finish_start(self) -> None:
        """Awaits what `later` added."""
        for finish in self._later:
            await finish()

    def closed_at_stop(self, service: C) -> C:
        self.push_async_callback(service.close)
        return service

    def run(self, name: str, service: Coroutine[Any, Any, None]) -> None:
        """Runs a task until the group stops; when it ends before, the group has failed."""
        task = asyncio.create_task(service, name=name)
        task.add_done_callback(self._ended)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._push(name, end)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self.stopping.is_set():
            return
        error = task.exception() or RuntimeError("it ended")
        logger.error("%s ended: %s", task.get_name(), error, exc_info=error)
        if not self.failed.done():
            self.failed.set_exception(error)

    async def wait(self, waiting: Awaitable[T]) -> T:
        """Waits, but only while every task runs. Raises the error of a task that ended."""
        task = asyncio.ensure_future(waiting)
        await asyncio.wait([task, self.failed], return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            task.cancel()
            self.failed.result()
        return await task
