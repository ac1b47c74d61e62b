"""Blocking work in threads that do not outlive the task that waits for them."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from projections.source_log import SourceLog
from streams.projection.opening import open_store_of
from streams.threads import in_thread
from tests.streams.memory_log import MemoryLog
from tests.support.hang_guard import HANG_SECONDS


class Held:
    """Work that has begun, and goes on until it is allowed to end."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.ended = False

    def __call__(self) -> None:
        self.begun.set()
        assert self.may_end.wait(HANG_SECONDS)
        self.ended = True

    async def cancel(self, task: asyncio.Task[object]) -> None:
        """Cancels the task during the work, and lets the work end a few rounds of the event loop later."""
        await asyncio.to_thread(self.begun.wait, HANG_SECONDS)
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        self.may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert self.ended


async def test_a_result_and_an_error_are_those_of_the_function() -> None:
    assert await in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 7, 0)


async def test_a_cancelled_task_ends_after_its_thread() -> None:
    work = Held()
    await work.cancel(asyncio.create_task(in_thread(work)))


class Recorded:
    """Stands in for a store."""

    closed = False

    def close(self) -> None:
        self.closed = True


async def test_a_store_that_is_opened_for_a_cancelled_task_is_closed(tmp_path: Path) -> None:
    work, store = Held(), Recorded()

    def opening(path: Path, source: SourceLog) -> Any:
        work()
        return store

    await work.cancel(asyncio.create_task(open_store_of(MemoryLog(), tmp_path, opening)))
    assert store.closed
