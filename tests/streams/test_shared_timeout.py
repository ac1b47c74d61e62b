import asyncio

import pytest

from streams.submission.shared_timeout import SharedTimeout


async def test_an_operation_that_takes_too_long_raises_timeout_error() -> None:
    limit = SharedTimeout(0.01)
    with pytest.raises(TimeoutError), limit:
        await asyncio.Event().wait()
    assert asyncio.current_task() is not None
    await asyncio.sleep(0)


async def test_each_task_has_the_whole_time() -> None:
    limit, entered = SharedTimeout(0.05), asyncio.Event()

    async def endless() -> float:
        began = asyncio.get_running_loop().time()
        try:
            with limit:
                entered.set()
                await asyncio.Event().wait()
        except TimeoutError:
            return asyncio.get_running_loop().time() - began
        raise AssertionError("not ended")

    first = asyncio.create_task(endless())
    await entered.wait()
    await asyncio.sleep(0.03)
    second = asyncio.create_task(endless())
    assert min(await asyncio.gather(first, second)) >= 0.05


async def test_a_task_that_ends_in_time_is_left_alone() -> None:
    limit = SharedTimeout(0.01)
    with limit:
        await asyncio.sleep(0)
    with pytest.raises(ZeroDivisionError), limit:
        _ = 1 // 0
    longer = asyncio.Event()
    asyncio.get_running_loop().call_later(0.03, longer.set)
    await longer.wait()


async def test_cancelling_a_task_from_outside_stays_a_cancellation() -> None:
    limit, entered = SharedTimeout(60), asyncio.Event()

    async def endless() -> None:
        with limit:
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(endless())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
