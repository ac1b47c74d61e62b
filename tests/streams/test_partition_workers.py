"""The work on assigned partitions: restarted after a failure, finished when the partition is revoked."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from streams import partition_workers, retry
from streams.log import Fenced, LogDamaged, LogUnavailable
from streams.partition_workers import Assignment, PartitionWorkers
from tests.support.hang_guard import HANG_SECONDS


@pytest.fixture(autouse=True)
async def bounded(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(retry, "BACK_OFF", (0.001,))
    monkeypatch.setattr(partition_workers, "FENCED_SECONDS", 0.001)
    async with asyncio.timeout(HANG_SECONDS):
        yield


class Work:
    """Fails as often as there are `failures`, then works until the partition is revoked."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.working = asyncio.Event()
        self.failed = asyncio.Event()
        self.finished = False
        self.released: list[int] = []

    async def __call__(self, assignment: Assignment) -> None:
        if self.failures:
            self.failed.set()
            raise self.failures.pop(0)
        assignment.ready()
        self.working.set()
        await assignment.revoked.wait()
        self.finished = True

    async def release(self, partition: int) -> None:
        self.released.append(partition)

    def workers(self, finish_seconds: float = HANG_SECONDS) -> PartitionWorkers:
        return PartitionWorkers("decided", self, self.release, finish_seconds=finish_seconds)


async def test_a_partition_is_loaded_worked_on_finished_and_released():
    work = Work()
    workers = work.workers()
    await workers.assigned(3)
    assert workers.trouble() == "partition 3 is being loaded"
    await work.working.wait()
    assert workers.trouble() is None
    await workers.revoked(3)
    assert (work.finished, work.released, workers.trouble()) == (True, [3], None)


async def test_work_that_does_not_finish_in_time_is_cancelled_and_the_partition_released():
    started = asyncio.Event()

    async def endless(assignment: Assignment) -> None:
        assignment.ready()
        started.set()
        await asyncio.Event().wait()

    work = Work()
    workers = PartitionWorkers("synced", endless, work.release)
    await workers.assigned(0)
    await started.wait()
    await workers.stop()
    assert work.released == [0]


async def test_work_that_is_still_loading_is_cancelled_at_once():
    started = asyncio.Event()

    async def loading(assignment: Assignment) -> None:
        started.set()
        await asyncio.Event().wait()

    work = Work()
    workers = PartitionWorkers("synced", loading, work.release, finish_seconds=1_000 * HANG_SECONDS)
    await workers.assigned(0)
    await started.wait()
    await workers.revoked(0)
    assert work.released == [0]


@pytest.mark.parametrize(
    ("failure", "trouble"),
    [
        (LogUnavailable("the broker is away\nin detail"), "partition 3 is not decided: the broker is away"),
        (
            ValueError("secret"),
            "partition 3 is not decided: ValueError; the log of this process has its traceback",
        ),
    ],
)
async def test_after_a_failure_the_work_starts_again_and_until_then_trouble_says_why(
    failure: Exception, trouble: str, monkeypatch: pytest.MonkeyPatch
):
    may_retry = asyncio.Event()
    work = Work(failure)
    workers = work.workers()

    async def pause(event: asyncio.Event, seconds: float) -> None:
        assert workers.trouble() == trouble
        may_retry.set()

    monkeypatch.setattr(partition_workers, "set_within", pause)
    await workers.assigned(3)
    await may_retry.wait()
    await work.working.wait()
    assert workers.trouble() is None
    await workers.stop()


async def test_a_damaged_log_is_read_again_much_later(monkeypatch: pytest.MonkeyPatch):
    pauses: list[float] = []

    async def pause(event: asyncio.Event, seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(partition_workers, "set_within", pause)
    work = Work(LogDamaged("a record is missing"))
    workers = work.workers()
    await workers.assigned(0)
    await work.working.wait()
    await workers.stop()
    assert pauses == [partition_workers.DAMAGED_SECONDS]


async def test_a_fenced_partition_is_no_trouble_and_the_group_is_joined_again():
    work = Work(Fenced("another process has claimed it"))
    workers = work.workers()
    rejoined = asyncio.Event()
    workers.rejoin = rejoined.set
    await workers.assigned(0)
    await rejoined.wait()
    assert workers.trouble() is None
    await workers.revoked(0)
    assert (work.working.is_set(), work.released) == (False, [0])


async def test_a_worker_that_fails_soon_after_each_start_pauses_longer_each_time(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(retry, "BACK_OFF", (0.001, 0.002, 0.003))
    pauses: list[float] = []

    async def pause(event: asyncio.Event, seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(partition_workers, "set_within", pause)
    worked = asyncio.Event()

    async def fails(assignment: Assignment) -> None:
        assignment.ready()
        if len(pauses) == 3:
            worked.set()
            await assignment.revoked.wait()
            return
        raise LogUnavailable("the broker is away")

    workers = PartitionWorkers("synced", fails, Work().release, finish_seconds=HANG_SECONDS)
    await workers.assigned(0)
    await worked.wait()
    await workers.stop()
    assert pauses == [0.001, 0.002, 0.003]
