"""When the liveness of a gateway is published: soon after a node connects or leaves, and not for what a stop
of Signalbox caused."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from projections.derived.liveness import Change, Liveness
from projections.queries import ReadModels
from schemas.envelope import QualifiedName
from streams.derived.liveness import LivenessPublisher
from streams.log import Record
from tests.projections.events import START, at, envelope, node
from tests.streams.memory_log import MemoryLog
from tests.support.hang_guard import HANG_SECONDS

LOCAL = ("acme", "local")
HEALTHY, OFFLINE = Liveness("healthy", 1, 1), Liveness("offline", 1, 0)
NEVER = 10 * HANG_SECONDS


class Changed:
    """Read models in which these gateways differ from their last reports, and how often they were asked."""

    def __init__(self) -> None:
        self.changes: Mapping[QualifiedName, Change] = {}
        self.asked = asyncio.Semaphore(0)

    async def ask(self, question: Any) -> Mapping[QualifiedName, Change]:
        self.asked.release()
        return self.changes


class Publishing:
    """A publisher that looks by its timer only `every` so many seconds."""

    def __init__(self, every: float) -> None:
        self.log = MemoryLog()
        self.read_models = Changed()
        self.now = START
        self.publisher = LivenessPublisher(
            self.log,
            cast("ReadModels", self.read_models),
            "/test",
            clock=lambda: self.now,
            every=every,
            heartbeats=False,
        )
        self.publisher.assigned({("status", 0): 0})

    async def report(self, connected: bool, seconds: float = 0) -> None:
        reported = envelope(node("n1", connected, seconds), seconds)
        (position,) = await self.log.append("status", [reported])
        self.publisher.taken("status", 0, [Record("status", 0, position, reported)])

    async def looked(self, times: int = 1) -> None:
        async with asyncio.timeout(HANG_SECONDS):
            for _ in range(times):
                await self.read_models.asked.acquire()

    async def published(self) -> list[tuple[str, str]]:
        records = await self.log.read("status", 0, 0, 1000)
        data = [r.envelope.data for r in records if "liveness" in r.envelope.type]
        return [(each["state"], each["at"]) for each in data]

    async def until_published(self, count: int) -> None:
        async with asyncio.timeout(HANG_SECONDS):
            while len(await self.published()) < count:
                await self.looked()


async def run(publishing: Publishing) -> "asyncio.Task[None]":
    return asyncio.create_task(publishing.publisher.run())


@pytest.fixture(name="end")
async def _end() -> Any:
    tasks: list[asyncio.Task[None]] = []
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_node_that_connects_or_leaves_is_looked_at_without_waiting_for_the_timer(
    end: "list[asyncio.Task[None]]",
) -> None:
    publishing = Publishing(every=NEVER)
    end.append(await run(publishing))

    publishing.read_models.changes = {LOCAL: Change(HEALTHY, None, at(1))}
    await publishing.report(connected=True)
    await publishing.until_published(1)
    publishing.read_models.changes = {LOCAL: Change(OFFLINE, HEALTHY, at(5))}
    await publishing.report(connected=False)
    await publishing.until_published(2)

    assert await publishing.published() == [("healthy", at(1)), ("offline", at(5))]


async def test_a_node_that_a_stop_of_signalbox_disconnected_is_awaited(
    end: "list[asyncio.Task[None]]",
) -> None:
    publishing = Publishing(every=0.001)
    publishing.read_models.changes = {LOCAL: Change(OFFLINE, HEALTHY, at(1))}
    end.append(await run(publishing))
    await publishing.report(connected=False)
    await publishing.looked(5)
    assert await publishing.published() == []

    publishing.now += 31
    await publishing.until_published(1)
    assert await publishing.published() == [("offline", at(1))]


async def test_a_node_is_awaited_whose_reports_are_read_again_after_the_read_models_were_lost(
    end: "list[asyncio.Task[None]]",
) -> None:
    publishing = Publishing(every=NEVER)
    publishing.read_models.changes = {LOCAL: Change(OFFLINE, HEALTHY, at(1))}
    end.append(await run(publishing))
    await publishing.report(True, -20)
    await publishing.report(False, -10)
    await publishing.report(True, 1)
    await publishing.looked()
    assert await publishing.published() == []

    await publishing.report(False, 2)
    await publishing.until_published(1)
