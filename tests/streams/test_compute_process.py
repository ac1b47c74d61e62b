"""Pure functions in a process of their own."""

import asyncio
import math
import operator
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from streams.compute_process import ComputeProcess, NoProcess, NotComputed, computed
from tests.support.hang_guard import HANG_SECONDS


@asynccontextmanager
async def process(
    idle_seconds: float = HANG_SECONDS, call_seconds: float = HANG_SECONDS
) -> AsyncIterator[ComputeProcess]:
    made = ComputeProcess(idle_seconds, call_seconds)
    try:
        yield made
    finally:
        await made.close()


async def first_result(compute: ComputeProcess, function: Callable[..., Any], *args: Any) -> Any:
    """That of the first call that the process answers."""
    async with asyncio.timeout(HANG_SECONDS):
        while True:
            try:
                return await compute.run(function, *args)
            except NotComputed:
                await asyncio.sleep(0.01)


async def test_results_come_from_another_process_in_the_order_of_the_calls() -> None:
    async with process() as compute:
        assert await first_result(compute, os.getpid) != os.getpid()
        assert await asyncio.gather(*(compute.run(math.sqrt, n * n) for n in range(50))) == list(range(50))


async def test_until_it_runs_a_thread_computes() -> None:
    async with process() as compute:
        assert await computed(compute, os.getpid) == os.getpid()
    assert await computed(NoProcess(), divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await computed(NoProcess(), divmod, 7, 0)


async def test_what_fails_there_is_computed_by_the_caller() -> None:
    async with process() as compute:
        await first_result(compute, os.getpid)
        with pytest.raises(NotComputed):
            await compute.run(divmod, 7, 0)
        with pytest.raises(NotComputed):  # it cannot be passed on
            await compute.run(operator.call, lambda: 1)
        assert await compute.run(divmod, 7, 2) == (3, 1)


async def test_a_cancelled_call_takes_no_result_of_another_one() -> None:
    async with process() as compute:
        await first_result(compute, os.getpid)
        cancelled = asyncio.create_task(compute.run(math.sqrt, 4.0))
        await asyncio.sleep(0)
        cancelled.cancel()
        assert await compute.run(math.sqrt, 9.0) == 3.0


async def test_when_the_process_dies_its_calls_are_computed_by_their_callers() -> None:
    async with process() as compute:
        await first_result(compute, os.getpid)
        calls = [compute.run(os._exit, 1), compute.run(math.sqrt, 4.0)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [NotComputed, NotComputed]
        with pytest.raises(NotComputed):
            await compute.run(math.sqrt, 4.0)


async def test_a_process_that_does_not_answer_is_killed() -> None:
    async with process(call_seconds=1.0) as compute:
        child = await first_result(compute, os.getpid)
        with pytest.raises(NotComputed):
            await compute.run(time.sleep, HANG_SECONDS)
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


async def test_an_idle_process_ends_and_is_started_again_when_it_is_wanted() -> None:
    async with process(idle_seconds=0.0) as compute:
        first = await first_result(compute, os.getpid)
        with pytest.raises(ProcessLookupError):
            async with asyncio.timeout(HANG_SECONDS):
                while True:
                    os.kill(first, 0)
                    await asyncio.sleep(0.01)
        assert await first_result(compute, os.getpid) != first


async def test_another_version_of_the_code_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.compute_process._STARTED", 0.0)
    async with process() as compute:
        for _ in range(2):
            with pytest.raises(NotComputed):
                await compute.run(os.getpid)
        assert not compute.running
