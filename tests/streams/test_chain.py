"""The hash chain of the events: what was changed, left out or reordered is found."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.envelope import GENESIS, Envelope
from streams.decider.chain import Break, ChainReport, verify
from streams.log import Append, Transaction
from streams.sqlite import SqliteLog
from tests.streams.envelopes import chained, envelope


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    log = await SqliteLog.open(tmp_path)
    yield log
    await log.close()


async def write(log: SqliteLog, events: list[Envelope]) -> None:
    await log.commit(Transaction([Append("events", 0, events)]))


async def test_an_empty_log_has_an_empty_chain(log: SqliteLog):
    assert await verify(log, 0) == ChainReport(0, events=0, last=0, head=GENESIS)


async def test_a_whole_chain_holds_and_its_head_is_the_last_hash(log: SqliteLog):
    events = chained(2500)
    await write(log, events)
    progress: list[int] = []
    report = await verify(log, 0, progress=progress.append)
    assert report == ChainReport(0, events=2500, last=2500, head=events[-1].hash())
    assert progress == [1000, 2000, 2500]


async def test_it_can_go_on_where_an_earlier_verification_ended(log: SqliteLog):
    events = chained(20)
    await write(log, events)
    assert await verify(log, 0, after=12) == ChainReport(0, events=8, last=20, head=events[-1].hash())
    assert await verify(log, 0, after=20) == ChainReport(0, events=0, last=20, head=events[-1].hash())
    with pytest.raises(ValueError, match="no event at position 21"):
        await verify(log, 0, after=21)


def forged(events: list[Envelope]) -> list[Envelope]:
    """The fifth event changed and its hash put right, but not those after it."""
    return [*events[:4], replace(events[4], data={"forged": True}), *events[5:]]


BREAKS = {
    "changed": (forged, 6, "previoushash"),
    "left out": (lambda e: [*e[:4], *e[5:]], 5, "sequence is 00000000000000000006"),
    "reordered": (lambda e: [*e[:3], e[4], e[3], *e[5:]], 4, "sequence is 00000000000000000005"),
    "doubled": (lambda e: [*e[:5], *e[4:]], 6, "sequence is 00000000000000000005"),
    "slipped in": (lambda e: [*e[:5], envelope(), *e[5:]], 6, "sequence is missing"),
    "begun late": (lambda e: e[1:], 1, "sequence is 00000000000000000002"),
    "begun on another chain": (lambda e: [e[0].chained(1, "f" * 64), *e[1:]], 1, "previoushash is fff"),
}


@pytest.mark.parametrize("case", BREAKS)
async def test_the_first_break_is_named(case: str, log: SqliteLog):
    tamper, position, reason = BREAKS[case]
    events = tamper(chained(10))
    await write(log, events)
    report = await verify(log, 0)
    assert isinstance(report.broken, Break)
    assert report.broken.position == position
    assert reason in report.broken.reason
    assert report.events == report.last == position - 1
    assert report.head == (events[position - 2].hash() if position > 1 else GENESIS)
