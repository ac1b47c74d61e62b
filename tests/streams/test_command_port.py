"""Submits commands, and receives their outcomes from any decider."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from schemas.envelope import Envelope, MessageKey
from schemas.outcome import UNREADABLE, Outcome
from streams.decider.decider import Decider
from streams.log import LogUnavailable, Record, Topic
from streams.sqlite.log import SqliteLog
from streams.submission import command_port as bounds
from streams.submission.command_port import CommandPort
from streams.submission.outcome_subscription import open_command_port
from tests.commands.shop import ORG
from tests.streams.decider_cases import envelope
from tests.support.hang_guard import HANG_SECONDS

FIRST = DefineOrganization(organization=ORG, name=ORG)


class Hanging(SqliteLog):
    """A log whose broker says nothing."""

    async def append(self, topic: Topic, envelopes: Sequence[Envelope]) -> list[int]:
        await asyncio.Event().wait()
        return []


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "LOOK_SECONDS", 0.05)


@asynccontextmanager
async def elsewhere(log: SqliteLog) -> AsyncIterator[CommandPort]:
    """A decider without listeners: outcomes are only on the log, as in another process."""
    decider = Decider(log, 0, "/test", lambda done, seconds: None)
    await decider.start()
    commanding, subscription = await open_command_port(log)
    tasks = [asyncio.create_task(decider.run()), asyncio.create_task(subscription.run())]
    try:
        yield commanding
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_outcome_is_received_from_the_log(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path)
    async with elsewhere(log) as commanding:
        outcomes = await commanding.execute([envelope(FIRST, "one")], 10)
    await log.close()
    assert outcomes[ORG, "one"].accepted


@pytest.mark.parametrize("decided", ["before", "after"])
async def test_outcomes_from_before_and_after_the_port_was_opened_are_received(
    tmp_path: Path, decided: str
) -> None:
    # Given a command that another process decides, before or after this process opens its port at the end
    # of the outcomes, and before it runs the consumer,
    log = await SqliteLog.open(tmp_path)
    decider = Decider(log, 0, "/test", lambda done, seconds: None)
    await decider.start()
    asked = envelope(FIRST, "one")
    await log.append("commands", [asked])
    records = await log.read("commands", 0, 0, 10)
    if decided == "before":
        await decider.decide(records, records[-1].position)
    commanding, subscription = await open_command_port(log)
    if decided == "after":
        await decider.decide(records, records[-1].position)

    # when its outcome is waited for,
    running = asyncio.create_task(subscription.run())
    outcomes = await commanding.outcomes([asked.key], HANG_SECONDS)

    # then it is received.
    assert outcomes[asked.key].accepted
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await log.close()


async def test_a_command_that_was_decided_before_is_answered_again(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path)
    async with elsewhere(log) as commanding:
        asked = envelope(FIRST, "one")
        first = await commanding.execute([asked], 10)
        assert await commanding.execute([asked], 10) == first
        assert await commanding.outcomes([(ORG, "one")], 10) == first
    await log.close()


async def test_another_command_with_the_same_id_does_not_get_its_rejection_as_that_of_the_first_one(
    tmp_path: Path,
) -> None:
    log = await SqliteLog.open(tmp_path)
    async with elsewhere(log) as commanding:
        first = await commanding.execute([envelope(FIRST, "one")], 10)
        other = envelope(DefineProject(organization=ORG, name="shop"), "one")
        assert await commanding.execute([other], 10) == first
    await log.close()


async def test_an_outcome_is_answered_once_its_events_can_be_read(tmp_path: Path) -> None:
    shown = asyncio.Event()
    asked_for: asyncio.Queue[int] = asyncio.Queue()

    class Late(SqliteLog):
        """Shows readers the events of a transaction later than its outcome."""

        def readable(self, topic: Topic, partition: int) -> int:
            return super().readable(topic, partition) if shown.is_set() else 0

        async def wait(self, topic: Topic, partition: int, after: int) -> None:
            if topic == "events":
                asked_for.put_nowait(after)
                await shown.wait()
            await super().wait(topic, partition, after)

    log = await Late.open(tmp_path)
    async with elsewhere(log) as commanding:
        executing = asyncio.create_task(commanding.execute([envelope(FIRST, "one")], 60))
        async with asyncio.timeout(HANG_SECONDS):
            assert await asked_for.get() == 0
        assert not executing.done()
        shown.set()
        assert (await executing)[ORG, "one"].position == 1

        shown.clear()
        assert await commanding.outcomes([(ORG, "one")], 0.01) == {}
    await log.close()


async def test_looking_for_an_earlier_outcome_takes_no_longer_than_the_caller_waits(tmp_path: Path) -> None:
    class Filling(SqliteLog):
        """A log whose index is being filled."""

        async def find_all(self, topic: Topic, keys: Sequence[MessageKey]) -> dict[MessageKey, Record]:
            await asyncio.Event().wait()
            return {}

    log = await Filling.open(tmp_path)
    async with asyncio.timeout(HANG_SECONDS):
        assert await CommandPort(log).execute([envelope(FIRST)], 0.1) == {}
        assert await CommandPort(log).outcomes([(ORG, "one")], 0.1) == {}
    await log.close()


async def test_an_outcome_is_received_although_earlier_ones_cannot_be_searched(tmp_path: Path) -> None:
    looked = asyncio.Event()

    class Broken(SqliteLog):
        """A log whose index cannot be used."""

        async def find_all(self, topic: Topic, keys: Sequence[MessageKey]) -> dict[MessageKey, Record]:
            looked.set()
            raise LogUnavailable("the disk is full")

    log = await Broken.open(tmp_path)
    commanding = CommandPort(log)
    waiting = asyncio.create_task(commanding.outcomes([(ORG, "one")], 60))
    async with asyncio.timeout(HANG_SECONDS):
        await looked.wait()
        outcome = _outcome("one")
        commanding.decided([outcome])
        assert await waiting == {(ORG, "one"): outcome}
    await log.close()


@pytest.mark.parametrize("rule", sorted(UNREADABLE))
async def test_a_refusal_of_another_message_of_the_same_id_is_not_the_answer(
    tmp_path: Path, rule: str
) -> None:
    log = await SqliteLog.open(tmp_path)
    commanding = CommandPort(log)
    refusal, accepted = _outcome("one", rule), _outcome("one")
    waiting = asyncio.create_task(commanding.outcomes([(ORG, "one")], 60))
    await asyncio.sleep(0)
    commanding.decided([refusal])
    commanding.decided([accepted])
    assert await waiting == {(ORG, "one"): accepted}
    await log.close()


@pytest.mark.parametrize("rule", sorted(UNREADABLE))
async def test_a_refusal_is_the_answer_when_nothing_else_is_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    monkeypatch.setattr(bounds, "REFUSED_SECONDS", 0.01)
    log = await SqliteLog.open(tmp_path)
    commanding = CommandPort(log)
    refusal = _outcome("one", rule)
    waiting = asyncio.create_task(commanding.outcomes([(ORG, "one")], 60))
    await asyncio.sleep(0)
    commanding.decided([refusal])
    assert await waiting == {(ORG, "one"): refusal}
    await log.close()


def _outcome(id: str, rule: str = "") -> Outcome:
    return Outcome(
        organization=ORG,
        name=id,
        command=FIRST.type(),
        subject="organizations/acme",
        digest="",
        accepted=not rule,
        rule=rule,
        requested_at="2026-11-20T10:00:00Z",
        decided_at="2026-11-20T10:00:00Z",
        position=0,
    )


async def test_a_log_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "APPEND_SECONDS", 0.05)
    log = await Hanging.open(tmp_path)
    with pytest.raises(LogUnavailable, match="with the same id"):
        await CommandPort(log).execute([envelope(FIRST)], 10)
    await log.close()
