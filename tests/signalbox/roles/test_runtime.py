"""What the roles of a process share: services that are waited for, readiness, and things opened once."""

import asyncio
from pathlib import Path

import pytest

from signalbox.roles.embedded_runtime import EmbeddedRuntime
from signalbox.roles.kafka_runtime import KafkaRuntime
from signalbox.roles.runtime import Runtime, Shared
from signalbox.service_group import ServiceGroup
from signalbox.settings import Settings
from streams.log import LogUnavailable


@pytest.fixture
async def runtime(tmp_path: Path) -> Runtime:
    return KafkaRuntime(Settings(data=tmp_path, engine="kafka"), ServiceGroup(), ["api"])


async def test_a_process_is_not_ready_while_a_service_is_unavailable(runtime: Runtime):
    reasons: list[str | None] = []

    async def attempt() -> str:
        reasons.append(runtime.not_ready_reason())
        if len(reasons) < 3:
            raise LogUnavailable("no broker\nanswers")
        return "opened"

    runtime.add_readiness_check(lambda: "starting")
    assert await runtime.retry("the broker", attempt, LogUnavailable) == "opened"
    assert reasons == ["starting", *["waits for the broker: no broker"] * 2]
    assert runtime.waits.is_set()
    assert runtime.not_ready_reason() == "starting"


async def test_another_error_ends_the_attempts(runtime: Runtime):
    async def attempt() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await runtime.retry("the broker", attempt, LogUnavailable)
    assert not runtime.waits.is_set()
    assert runtime.not_ready_reason() is None


async def test_embedded_files_are_not_waited_for(tmp_path: Path):
    embedded = EmbeddedRuntime(Settings(data=tmp_path), ServiceGroup(), ["api"])

    async def attempt() -> None:
        raise LogUnavailable("the disk is full")

    with pytest.raises(LogUnavailable):
        await embedded.retry("the log", attempt, LogUnavailable)


async def test_a_process_is_not_ready_while_it_waits_for_another_role(runtime: Runtime):
    other: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(runtime.wait_for("gateway sync", other))
    await asyncio.sleep(0)  # the task begins
    assert runtime.not_ready_reason() == "waits for gateway sync"
    other.set_result(7)
    assert await waiting == 7
    assert runtime.not_ready_reason() is None


async def test_a_shared_service_is_opened_once_and_not_cancelled_with_a_caller():
    opening, answers = asyncio.Event(), asyncio.Event()
    opened: list[str] = []

    async def open() -> str:
        opened.append("log")
        opening.set()
        await answers.wait()
        return "log"

    group = ServiceGroup()
    shared = Shared(group, "log", open)
    first, second = asyncio.create_task(shared()), asyncio.create_task(shared())
    await opening.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    answers.set()
    assert (await second, await shared(), opened) == ("log", "log", ["log"])
    await group.stop()


async def test_opening_a_shared_service_ends_with_the_group():
    opening, ended = asyncio.Event(), asyncio.Event()

    async def open() -> None:
        opening.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    group = ServiceGroup()
    caller = asyncio.create_task(Shared(group, "log", open)())
    await opening.wait()
    await group.stop()
    assert ended.is_set()
    with pytest.raises(asyncio.CancelledError):
        await caller
