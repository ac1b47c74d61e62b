"""A damaged data directory: the start refuses and says what is wrong; doctor finds it all."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from gateways.config_resource import ConfigResource
from streams.gateway_sync.marks import POSITION
from streams.log import Append, Consumed, LogDamaged, Transaction
from streams.sqlite import SqliteLog
from streams.sqlite.checks.directory import check, check_documents
from streams.sqlite.config import SqliteConfigTopic
from streams.sqlite.documents import SqliteDocuments
from tests.streams.envelopes import chained, envelopes

EVENTS = 400
ENTRY = ConfigResource("organizations/o/gateways/g", "envoy", "route", "r", "v", EVENTS, b"body")


async def fill(directory: Path) -> None:
    log = await SqliteLog.open(directory)
    await log.append("commands", envelopes(EVENTS))
    await log.commit(
        Transaction(
            [Append("events", 0, chained(EVENTS)), Append("outcomes", 0, envelopes(EVENTS))],
            [Consumed("decider", "commands", 0, EVENTS)],
        )
    )
    config = await SqliteConfigTopic.open(directory)
    await config.put([ENTRY, ConfigResource("", "", POSITION, "events/0", str(EVENTS), EVENTS, b"-")])
    documents = await SqliteDocuments.open(directory)
    await documents.put(b"openapi: 3.1.0\n" * 100, "application/yaml")
    await documents.close()
    await config.close()
    await log.close()


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    await fill(tmp_path)
    return tmp_path


def overwrite(file: Path, at: int, content: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(at if at >= 0 else file.stat().st_size + at)
        opened.write(content)


def cut(file: Path, size: int) -> None:
    with file.open("r+b") as opened:
        opened.truncate(size)


def statement(sql: str) -> Callable[[Path], None]:
    def run(file: Path) -> None:
        db = sqlite3.connect(file)
        with db:
            db.execute(sql)
        db.close()

    return run


def foreign(file: Path) -> None:
    file.unlink()
    statement("CREATE TABLE theirs (a)")(file)


GARBAGE = bytes(range(7, 247)) * 18
KEY = "key = (SELECT max(key) FROM {0}) - {1}"

DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "the file is empty": (lambda f: cut(f, 0), "empty or belongs to another program"),
    "the file is gone": (lambda f: f.unlink(), "missing"),
    "the file was cut in half": (lambda f: cut(f, f.stat().st_size // 8192 * 4096), ""),
    "the last page was lost": (lambda f: cut(f, f.stat().st_size - 4096), "malformed"),
    "the last page was half written": (lambda f: cut(f, f.stat().st_size - 1000), "truncated"),
    "the header is garbage": (lambda f: overwrite(f, 0, GARBAGE[:100]), "not a database"),
    "the first page is garbage": (lambda f: overwrite(f, 100, GARBAGE[:3996]), ""),
    "the last page is garbage": (lambda f: overwrite(f, -4096, GARBAGE[:4096]), ""),
    "it is a text": (lambda f: overwrite(f, 0, b"hello\n" * 1000), "not a database"),
    "it is another program's database": (foreign, "another program"),
    "the last event is gone": (
        statement(f"DELETE FROM events WHERE {KEY.format('events', 0)}"),
        "events/0 ends at position 399, it was written up to 400",
    ),
    "an event near the end is gone": (
        statement(f"DELETE FROM events WHERE {KEY.format('events', 5)}"),
        "events/0 has 99 records between 301 and 400",
    ),
    "an event near the end was changed": (
        statement(
            "UPDATE events SET rest = replace(rest, '\"number\":', '\"nomber\":') "
            f"WHERE {KEY.format('events', 5)}"
        ),
        "events/0 position 396: its previoushash",
    ),
    "the last command is garbage": (
        statement(f"UPDATE commands SET rest = x'5b00ff' WHERE {KEY.format('commands', 0)}"),
        "commands/0 position 400",
    ),
    "a consumer has read what was never written": (
        statement("UPDATE consumed SET position = 401"),
        "decider has read commands/0 up to 401, it ends at 400",
    ),
    "the end is noted further than it is": (
        statement("UPDATE ends SET position = 500 WHERE topic = 'outcomes'"),
        "outcomes/0 ends at position 400, it was written up to 500",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
async def test_a_damaged_log_is_not_opened(case: str, data: Path):
    damage, message = DAMAGE[case]
    file = data / "log.db"
    damage(file)
    before = file.read_bytes() if file.exists() else None
    for _ in range(2):
        with pytest.raises(LogDamaged) as refusal:
            await SqliteLog.open(data)
        assert message in str(refusal.value)
        assert str(file) in str(refusal.value)
        assert "restore the data directory from a backup" in str(refusal.value)
    assert (file.read_bytes() if file.exists() else None) == before


@pytest.mark.parametrize("case", DAMAGE)
async def test_doctor_finds_it_too(case: str, data: Path):
    damage, _ = DAMAGE[case]
    damage(data / "log.db")
    findings = check(data)
    assert findings
    assert {finding.file for finding in findings} == {"log.db"}


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


async def test_a_close_writes_the_journals_back(data: Path):
    assert names(data) == ["config.db", "contents", "documents.db", "lock", "log.db"]


async def test_a_sound_directory_has_no_findings(data: Path):
    assert check(data) == []


async def test_doctor_looks_while_the_log_is_at_work(data: Path):
    log = await SqliteLog.open(data)
    await log.append("commands", envelopes(500))
    assert check(data) == []
    assert len(await log.append("commands", envelopes(1))) == 1
    await log.close()


async def test_doctor_says_when_there_is_no_log(tmp_path: Path):
    assert [finding.message for finding in check(tmp_path)] == [f"{tmp_path} holds no log"]


OLD: dict[str, tuple[str, str]] = {
    "an old event was changed": (
        "UPDATE events SET rest = replace(rest, '\"number\":', '\"nomber\":') WHERE key = 7",
        "the event at position 8: its previoushash",
    ),
    "an old event is gone": ("DELETE FROM events WHERE key = 7", "no record at position 7"),
    "an old command is gone": ("DELETE FROM commands WHERE key = 7", "no record at position 7"),
    "an old outcome is garbage": (
        "UPDATE outcomes SET rest = x'5bff' WHERE key = 7",
        "outcomes/0 position 7",
    ),
}


@pytest.mark.parametrize("case", OLD)
async def test_doctor_finds_old_damage(case: str, data: Path):
    sql, message = OLD[case]
    statement(sql)(data / "log.db")
    assert [message in finding.message for finding in check(data)] == [True]


async def test_reading_a_damaged_record_raises_and_names_it(data: Path):
    statement("UPDATE outcomes SET rest = x'5bff' WHERE key = 7")(data / "log.db")
    statement("DELETE FROM commands WHERE key = 7")(data / "log.db")
    log = await SqliteLog.open(data)
    with pytest.raises(LogDamaged, match="outcomes/0 position 7"):
        await log.read("outcomes", 0, 0, 100)
    with pytest.raises(LogDamaged, match="commands/0 has no record at position 7"):
        await log.read("commands", 0, 0, 100)
    assert len(await log.read("commands", 0, 7, 100)) == 100
    await log.close()


async def test_doctor_finds_damage_beside_the_log(data: Path):
    statement("UPDATE entries SET causes = x'7b7b'")(data / "config.db")
    statement("UPDATE documents SET content = zeroblob(50), packed = 0")(data / "documents.db")
    assert {finding.file for finding in check(data)} == {"config.db", "documents.db"}


async def test_doctor_finds_configuration_from_events_that_are_not_there(data: Path):
    config = await SqliteConfigTopic.open(data)
    await config.put([ConfigResource("", "", POSITION, "events/0", "401", 401, b"-")])
    await config.close()
    (finding,) = check(data)
    assert finding.file == "log.db"
    assert "401" in finding.message


async def test_documents_are_not_opened_damaged_either(data: Path):
    cut(data / "documents.db", 5000)
    with pytest.raises(LogDamaged, match="damaged"):
        await SqliteDocuments.open(data)
    (data / "documents.db").unlink()
    with pytest.raises(LogDamaged, match="missing"):
        await SqliteDocuments.open(data)


CONFIG_DAMAGE: dict[str, Callable[[Path], None]] = {
    "the file is gone": lambda f: f.unlink(),
    "the file is empty": lambda f: cut(f, 0),
    "the file was truncated": lambda f: cut(f, 5000),
    "the header is garbage": lambda f: overwrite(f, 0, GARBAGE[:100]),
    "it is of another version": statement("PRAGMA user_version = 1"),
    "a body was changed": statement("UPDATE entries SET body = x'626f6479ff' WHERE name = 'r'"),
    "a cause was changed": statement("UPDATE entries SET causes = '[]x' WHERE name = 'r'"),
    "a name was changed": statement("UPDATE entries SET name = 'q' WHERE name = 'r'"),
    "a position was changed": statement("UPDATE entries SET position = 399"),
}


@pytest.mark.parametrize("case", CONFIG_DAMAGE)
async def test_damaged_configuration_is_set_aside_and_begins_empty(case: str, data: Path):
    CONFIG_DAMAGE[case](data / "config.db")
    config = await SqliteConfigTopic.open(data)
    assert [chunk async for chunk in config.load(removals=True)] == []
    await config.put([ENTRY])
    await config.close()
    assert [
        name for name in names(data) if name.startswith("config.db.damaged-")
    ] or case == "the file is gone"
    again = await SqliteConfigTopic.open(data)
    assert [chunk async for chunk in again.load()] == [[ENTRY]]
    await again.close()


async def test_doctor_finds_a_missing_document_of_an_event(data: Path):
    names = orjson.dumps([""] * 12 + [{"document": {"sha256": "0" * 64}}])
    db = sqlite3.connect(data / "log.db")
    with db:
        db.execute("UPDATE events SET type = 'io.signalbox.api.published.v1'")
        db.execute("UPDATE events SET rest = ? WHERE key = 7", (names,))
    db.close()
    found = [finding for finding in check_documents(data) if finding.place == "0" * 64]
    assert ["events/0 position 7" in finding.message for finding in found] == [True]
