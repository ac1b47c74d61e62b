"""Status messages on their way to the log, which may refuse them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from schemas.envelope import Envelope
from schemas.status import DeliveryReported, Fact
from streams.log import LogUnavailable, Topic
from streams.sqlite.log import SqliteLog
from streams.status_reporter import StatusReporter
from tests.commands.specification import AT
from tests.support.hang_guard import HANG_SECONDS


def report(deployment: str, fact: Fact = "acknowledged", reason: str = "") -> DeliveryReported:
    return DeliveryReported(
        organization="acme", name="east", at=AT, deployment=deployment, node="n", fact=fact, reason=reason
    )


async def test_the_newest_message_per_thing_is_appended_in_order(tmp_path: Path):
    log = await SqliteLog.open(tmp_path)
    reporter = StatusReporter(log, "/test")
    reporter.report([report("d1", "refused", "a"), report("d2"), report("d1", "refused", "b")])
    await reporter.flush()
    found = [r.envelope.data for r in await log.read("status", 0, 0, 10)]
    assert [(d["deployment"], d["reason"]) for d in found] == [("d2", ""), ("d1", "b")]
    await log.close()


async def test_a_stop_does_not_wait_for_a_log_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = await SqliteLog.open(tmp_path)
    reporter = StatusReporter(log, "/test")
    reporter.report([report("d1")])

    async def full(topic: Topic, envelopes: Sequence[Envelope]) -> list[int]:
        raise LogUnavailable("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(log, "append", full)
        async with asyncio.timeout(HANG_SECONDS):
            await reporter.close()
    await reporter.close()
    assert await log.end("status", 0) == 1, "what was refused was kept"
    await log.close()


async def test_an_append_in_progress_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    log = await SqliteLog.open(tmp_path)
    reporter = StatusReporter(log, "/test")
    append, begun, go_on = log.append, asyncio.Event(), asyncio.Event()

    async def slow(topic: Topic, envelopes: Sequence[Envelope]) -> list[int]:
        begun.set()
        await go_on.wait()
        return await append(topic, envelopes)

    monkeypatch.setattr(log, "append", slow)
    reporter.report([report("d1")])
    flushing = asyncio.create_task(reporter.flush())
    await begun.wait()
    durable = asyncio.create_task(reporter.durable())
    await asyncio.sleep(0)
    assert not durable.done()
    go_on.set()
    await durable
    assert await log.end("status", 0) == 1
    await flushing
    await log.close()


async def test_later_messages_do_not_delay_what_waits_for_earlier_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = await SqliteLog.open(tmp_path)
    reporter = StatusReporter(log, "/test")
    append, later = log.append, iter(range(100))

    async def append_and_report(topic: Topic, envelopes: Sequence[Envelope]) -> list[int]:
        if (number := next(later, None)) is not None:
            reporter.report([report(f"later-{number}")])
        return await append(topic, envelopes)

    monkeypatch.setattr(log, "append", append_and_report)
    reporter.report([report("d1")])
    await reporter.durable()
    assert await log.end("status", 0) == 1
    await log.close()
