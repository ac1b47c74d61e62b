import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from streams.submission import shared_timeout
from streams.submission.shared_timeout import SharedTimeout


class Clock:
    """The time of the event loop, which passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        self._timers.append((when, callback))

    def pass_until(self, now: float) -> None:
        while due := [timer for timer in self._timers if timer[0] <= now]:
            timer = min(due, key=lambda timer: timer[0])
            self._timers.remove(timer)
            self.now = timer[0]
            timer[1]()
        self.now = now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    timed = SimpleNamespace(**{**vars(asyncio), "get_running_loop": lambda: clock})
    monkeypatch.setattr(shared_timeout, "asyncio", timed)
    return clock


async def entered(limit: SharedTimeout) -> asyncio.Task[None]:
    """A task that is within the limit and does not end by itself."""
    inside = asyncio.Event()

    async def endless() -> None:
        with limit:
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(endless())
    await inside.wait()
    return task


async def test_an_operation_that_takes_too_long_raises_timeout_error(clock: Clock) -> None:
    task = await entered(SharedTimeout(5))
    clock.pass_until(5)
    with pytest.raises(TimeoutError):
        await task


async def test_each_task_has_the_whole_time(clock: Clock) -> None:
    limit = SharedTimeout(5)
    first = await entered(limit)
    clock.pass_until(3)
    second = await entered(limit)
    clock.pass_until(4.9)
    assert (first.cancelling(), second.cancelling()) == (0, 0)
    clock.pass_until(7.9)
    assert (first.cancelling(), second.cancelling()) == (1, 0)
    clock.pass_until(8)
    for task in (first, second):
        with pytest.raises(TimeoutError):
            await task


async def test_a_task_that_ends_in_time_is_left_alone(clock: Clock) -> None:
    limit, task = SharedTimeout(5), asyncio.current_task()
    assert task is not None
    with limit:
        pass
    with pytest.raises(ZeroDivisionError), limit:
        _ = 1 // 0
    clock.pass_until(10)
    assert task.cancelling() == 0


async def test_cancelling_a_task_from_outside_stays_a_cancellation() -> None:
    task = await entered(SharedTimeout(60))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
