"""An unreadable record on the event log stops its partition, until an operator skips it, which is
recorded."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from schemas.message import Command
from schemas.parked import RecordSkipped
from signalbox.cli import main
from streams.decider.chain import verify
from streams.decider.decider import Decider
from streams.decider.skip import CannotSkip, skip
from streams.log import LogDamaged
from streams.sqlite.checks.directory import check
from streams.sqlite.log import SqliteLog
from tests.streams.decider_cases import desk, envelope

FIRST: tuple[Command, ...] = (
    DefineOrganization(organization="acme", name="acme"),
    DefineProject(organization="acme", name="shop"),
)
AT = len(FIRST) + 1


def overwrite(directory: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(directory / "log.db")) as db, db:
        db.execute("DELETE FROM snapshots")
        db.execute("DELETE FROM snapshot_positions")
        db.execute(sql, values)


async def garbage_on(directory: Path) -> None:
    """Two events, and a row of another program behind them."""
    async with desk(directory) as at:
        await at.decide(*(envelope(command) for command in FIRST))
    overwrite(directory, "INSERT INTO events VALUES (?, '', '', '', ?)", AT, b"not an event")
    overwrite(directory, "UPDATE ends SET position = ? WHERE topic = 'events'", AT)


def skipped_by(directory: Path, position: int, reason: str = "a test wrote it") -> int:
    arguments = ["--data", str(directory), "--partition", "0", "--position", str(position)]
    return main(["log", "skip", *arguments, "--reason", reason])


async def test_the_log_says_where_the_record_is_and_names_the_remedy(tmp_path: Path):
    await garbage_on(tmp_path)
    with pytest.raises(LogDamaged) as refusal:
        await SqliteLog.open(tmp_path)
    text = str(refusal.value)
    assert f"events/0 position {AT}" in text
    assert f"signalbox log skip --partition 0 --position {AT} --reason" in text


async def test_a_decider_says_so_too(tmp_path: Path):
    await garbage_on(tmp_path)
    log = await SqliteLog.open(tmp_path, skipping=(0, AT))
    with pytest.raises(LogDamaged, match=f"cannot be read.*log skip --partition 0 --position {AT}"):
        await Decider(log, 0, "/test", lambda done, seconds: None).start()
    await log.close()


def test_a_record_that_was_skipped_is_passed_over_and_the_chain_goes_on(tmp_path: Path):
    asyncio.run(garbage_on(tmp_path))
    assert skipped_by(tmp_path, AT) == 0

    async def go_on() -> None:
        async with desk(tmp_path) as at:
            at.position = await at.log.end("commands", 0)
            (outcome,) = await at.decide(envelope(DefineProject(organization="acme", name="more")))
            assert outcome.accepted
            report = await verify(at.log, 0)
            assert report.broken is None
            assert (report.last, report.events) == (AT + 1, len(FIRST) + 1)
            (record,) = [
                one.envelope
                for one in await at.log.read("parked", 0, 0, 100)
                if one.envelope.type == RecordSkipped.type()
            ]
            assert "@" in record.authid, "who"
            assert (record.data["position"], record.data["reason"]) == (AT, "a test wrote it")

    asyncio.run(go_on())
    asyncio.run(go_on_again(tmp_path))
    assert check(tmp_path) == []


async def go_on_again(directory: Path) -> None:
    """A start folds over it once more."""
    overwrite(directory, "DELETE FROM settings WHERE name = 'nothing'")
    async with desk(directory) as at:
        assert at.decider.head.position == AT + 1


async def test_an_event_that_others_follow_from_cannot_be_skipped(tmp_path: Path):
    async with desk(tmp_path) as at:
        await at.decide(*(envelope(command) for command in FIRST))
    overwrite(tmp_path, "UPDATE events SET rest = x'ff' WHERE key = 1")
    with pytest.raises(LogDamaged, match="position 2: its sequence"):
        await SqliteLog.open(tmp_path, skipping=(0, 1))


@pytest.mark.parametrize(("position", "text"), [(1, "can be read"), (99, "there is no record")])
async def test_a_readable_or_missing_record_cannot_be_skipped(tmp_path: Path, position: int, text: str):
    async with desk(tmp_path) as at:
        await at.decide(*(envelope(command) for command in FIRST))
        with pytest.raises(CannotSkip, match=text):
            await skip(at.log, 0, position, "why not", "me")


def test_it_takes_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert skipped_by(tmp_path, 1, " ") == 3
    assert "why" in capsys.readouterr().err
