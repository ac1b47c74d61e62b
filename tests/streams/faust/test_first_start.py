"""Derived streams of a Signalbox whose read models are not there yet: nothing is wrong."""

import asyncio
import logging
from typing import Any, cast

import pytest

from projections.failures import ReadModelsUnavailable
from projections.queries import ReadModels
from projections.read_transactions import NotReady
from streams import retry
from streams.derived.liveness import LivenessPublisher
from streams.derived.rollouts import RolloutPublisher
from tests.streams.memory_log import MemoryLog
from tests.support.hang_guard import HANG_SECONDS


class Failing:
    """Read models that cannot be asked, and how often that was tried."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = asyncio.Semaphore(0)

    async def ask(self, question: Any) -> Any:
        self.asked.release()
        raise self.error


def derived(kind: str, read_models: ReadModels) -> LivenessPublisher | RolloutPublisher:
    if kind == "liveness":
        return LivenessPublisher(MemoryLog(), read_models, "/test", every=0.01)
    return RolloutPublisher(MemoryLog(), read_models, "/test")


@pytest.mark.parametrize("kind", ["liveness", "rollouts"])
@pytest.mark.parametrize(
    ("error", "warned"),
    [(NotReady("does not exist yet"), False), (ReadModelsUnavailable(), True)],
    ids=["not there yet", "not reached"],
)
async def test_read_models_that_are_not_there_yet_are_waited_for_without_a_warning(
    kind: str,
    error: Exception,
    warned: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "BACK_OFF", (0.01,))
    failing = Failing(error)
    telling = derived(kind, cast("ReadModels", failing))
    telling.assigned({("status", 0): 0})

    running = asyncio.create_task(telling.run())
    async with asyncio.timeout(HANG_SECONDS):
        for _ in range(3):
            await failing.asked.acquire()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    ours = [r for r in caplog.records if r.name == type(telling).__module__ and r.levelno >= logging.WARNING]
    assert bool(ours) == warned
