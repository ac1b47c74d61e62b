"""Damage to what SQLite does not check: a sealed directory shows it, and a log that ends too early too."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from gateways.config_resource import ConfigResource
from projections.source_log import SourceLog
from projections.store import open_store
from signalbox.data_directory.open_directory import DataDirectory
from signalbox.roles.embedded_database import open_read_models
from streams.gateway_sync.marks import POSITION
from streams.log import Append, LogDamaged, Transaction
from streams.sqlite.checks.ahead_of_log import require_reached
from streams.sqlite.checks.directory import check
from streams.sqlite.checks.seal import SEAL, compared, seal, unseal
from streams.sqlite.config import SqliteConfigTopic
from streams.sqlite.log import SqliteLog
from tests.streams.envelopes import chained


async def log_of(directory: Path, events: int) -> SqliteLog:
    log = await SqliteLog.open(directory)
    await log.commit(Transaction([Append("events", 0, chained(events))]))
    return log


async def configured_up_to(directory: Path, position: int) -> None:
    config = await SqliteConfigTopic.open(directory)
    await config.put([ConfigResource("", "", POSITION, "events/0", str(position), position, b"-")])
    await config.close()


def flip(file: Path, at: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 0xFF]))


async def test_a_log_that_lost_its_journal_is_refused_by_the_databases_computed_from_it(tmp_path: Path):
    log = await log_of(tmp_path, 5)
    await configured_up_to(tmp_path, 9)
    with pytest.raises(LogDamaged) as refusal:
        require_reached(tmp_path, await log.identity(), log.ends())
    await log.close()
    output = str(refusal.value)
    assert "events/0 ends at position 5" in output
    assert "config.db was computed from records up to 9" in output
    assert "log.db-wal" in output, "what may bring it back"
    (finding,) = check(tmp_path)
    assert "events/0 ends at position 5" in finding.message


async def test_read_models_beyond_the_end_of_the_log_are_noticed(tmp_path: Path):
    log = await log_of(tmp_path, 5)
    open_store(tmp_path / "readmodels.db").close()
    with sqlite3.connect(tmp_path / "readmodels.db") as db:
        db.execute("INSERT INTO generations VALUES ('resources', 1, 1, 'live')")
        db.execute("INSERT INTO checkpoints VALUES ('resources', 1, 'events', 0, 6, 0)")
    with pytest.raises(LogDamaged, match=r"readmodels\.db was computed from records up to 6"):
        require_reached(tmp_path, await log.identity(), log.ends())
    await log.close()


async def test_a_log_that_reaches_as_far_as_it_was_read_is_used(tmp_path: Path):
    log = await log_of(tmp_path, 5)
    await configured_up_to(tmp_path, 5)
    require_reached(tmp_path, await log.identity(), log.ends())
    await log.close()
    assert check(tmp_path) == []


def names_in(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir()]


async def sealed(directory: Path) -> None:
    log = await log_of(directory, 5)
    await log.close()
    open_store(directory / "readmodels.db").close()
    seal(directory, ["log.db", "readmodels.db"])


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("file", ["log.db", "readmodels.db"])
async def test_one_flipped_byte_anywhere_in_a_sealed_file_shows(tmp_path: Path, file: str, part: float):
    await sealed(tmp_path)
    assert compared(tmp_path) == ({"log.db", "readmodels.db"}, {})
    size = (tmp_path / file).stat().st_size
    flip(tmp_path / file, int(part * (size - 1)))
    intact, broken = compared(tmp_path)
    assert file not in intact
    assert list(broken) == [file]


async def test_a_damaged_seal_proves_nothing(tmp_path: Path):
    await sealed(tmp_path)
    flip(tmp_path / SEAL, 20)
    assert compared(tmp_path) == (frozenset(), {})


async def test_a_directory_is_not_sealed_while_it_is_used(tmp_path: Path):
    await sealed(tmp_path)
    log = await SqliteLog.open(tmp_path)
    assert not (tmp_path / SEAL).exists()
    await log.close()


async def test_a_directory_with_a_damaged_log_is_refused_until_the_seal_is_removed(tmp_path: Path):
    await sealed(tmp_path)
    flip(tmp_path / "log.db", (tmp_path / "log.db").stat().st_size - 1)
    for _ in range(2):
        with pytest.raises(LogDamaged, match=r"remove .*sealed"):
            await DataDirectory.open(tmp_path)
    unseal(tmp_path)
    directory = await DataDirectory.open(tmp_path)
    await directory.close()


async def test_damaged_read_models_are_set_aside_and_computed_again(tmp_path: Path):
    await sealed(tmp_path)
    flip(tmp_path / "readmodels.db", 5000)
    directory = await DataDirectory.open(tmp_path)
    names = names_in(tmp_path)
    assert "readmodels.db" not in names
    assert [name for name in names if name.startswith("readmodels.db.damaged-")]
    await directory.close()


@pytest.mark.parametrize("damage", ["empty", "text", "half", "journal alone"])
async def test_read_models_that_cannot_be_opened_are_set_aside(tmp_path: Path, damage: str):
    file = tmp_path / "readmodels.db"
    open_store(file).close()
    match damage:
        case "empty":
            file.write_bytes(b"")
        case "text":
            file.write_bytes(b"hello\n" * 4000)
        case "half":
            with file.open("r+b") as opened:
                opened.truncate(file.stat().st_size // 2)
        case _:
            shutil.copy(file, tmp_path / "readmodels.db-wal")
            file.unlink()
    store = open_read_models(file, SourceLog("a", "the log"))
    with store.reader.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM checkpoints").scalar() == 0
    store.close()
    kept = [name for name in names_in(tmp_path) if ".damaged-" in name]
    assert bool(kept) == (damage != "empty")
