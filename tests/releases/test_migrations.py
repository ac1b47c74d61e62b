"""The data directory of an earlier release is migrated when it is opened."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from streams.log import TOPICS
from streams.sqlite.checks.directory import check
from streams.sqlite.database import Kind, LaterVersion, connect, prepare
from streams.sqlite.log import SqliteLog
from streams.sqlite.schema import LOG
from tests.releases.conftest import unpack
from tests.support.hang_guard import HANG_SECONDS
from tests.support.running_signalbox import ROOT

NOTES = replace(LOG, migrations=(*LOG.migrations, "CREATE TABLE notes (note TEXT NOT NULL)"))
USE = """
import asyncio, sys
from pathlib import Path
from schemas.envelope import Envelope
from streams.sqlite.checks.directory import check
from streams.sqlite.log import SqliteLog

SUBJECT = "organizations/default/apis/orders"
MESSAGE = Envelope(
    id="1",
    type="t",
    source="/test",
    subject=SUBJECT,
    time="2026-11-22T00:00:00.000000Z",
    partitionkey="default",
    data={},
)

async def use(directory):
    assert check(directory) == []
    log = await SqliteLog.open(directory)
    assert await log.append("added", [MESSAGE]) == [1]
    await log.close()
    log = await SqliteLog.open(directory)
    (record,) = await log.read("added", 0, 0, 10)
    assert record.envelope == MESSAGE
    print(await log.end("events", 0))
    await log.close()
    assert check(directory) == []

asyncio.run(use(Path(sys.argv[1])))
"""


@pytest.fixture
def directory(release: Path, tmp_path: Path) -> Path:
    unpack(release / "data-directory.tar.xz", tmp_path / "data")
    return tmp_path / "data"


def edited(file: Path, *replacements: tuple[str, str]) -> None:
    text = file.read_text()
    for old, new in replacements:
        assert text.count(old) == 1, (file, old)
        text = text.replace(old, new)
    file.write_text(text)


def events(directory: Path) -> int:
    with closing(connect(LOG, directory / LOG.file, write=False)) as db:
        (end,) = db.execute("SELECT position FROM ends WHERE topic = 'events'").fetchone()
    return end


def version(directory: Path) -> int:
    with closing(connect(LOG, directory / LOG.file, write=False)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def test_a_topic_is_added_to_a_kept_directory(directory: Path, tmp_path: Path) -> None:
    # given a copy of the source with one more topic
    source = tmp_path / "source"
    shutil.copytree(ROOT / "streams", source / "streams")
    topics = ", ".join(f'"{topic}"' for topic in TOPICS)
    edited(
        source / "streams" / "log.py",
        (f"Literal[{topics}]", f'Literal[{topics}, "added"]'),
        (f"= ({topics})", f'= ({topics}, "added")'),
    )
    edited(
        source / "streams" / "sqlite" / "schema.py",
        ("MIGRATIONS: tuple[str, ...] = (", 'MIGRATIONS: tuple[str, ...] = (_topic_table("added"),'),
    )
    before = events(directory)

    # when it opens the kept directory, and uses the topic
    used = subprocess.run(
        [sys.executable, "-c", USE, str(directory)],
        cwd=source,
        env={"PYTHONPATH": f"{source}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )

    # then all that was there still is
    assert (used.returncode, used.stdout) == (0, f"{before}\n"), used.stderr
    assert version(directory) == LOG.version + 1


async def test_a_directory_of_a_later_release_is_refused_and_unchanged(directory: Path) -> None:
    prepare(NOTES, directory)
    content = (directory / LOG.file).read_bytes()

    with pytest.raises(LaterVersion, match=f"version {NOTES.version}, this release supports versions up to"):
        await SqliteLog.open(directory)

    assert (directory / LOG.file).read_bytes() == content
    assert any("version" in finding.message for finding in check(directory))


def test_a_migration_that_fails_leaves_the_earlier_version(directory: Path) -> None:
    failing = replace(
        LOG, migrations=(*NOTES.migrations, "CREATE TABLE more (m TEXT); SELECT no_such_column")
    )

    for _ in range(2):
        with pytest.raises(Exception, match="no_such_column"):
            prepare(failing, directory)

    assert version(directory) == NOTES.version
    prepare(NOTES, directory)
    assert tables(directory) >= {"events", "notes"}
    assert "more" not in tables(directory)


@pytest.mark.parametrize("kind", [LOG, NOTES], ids=["this release", "the next one"])
def test_a_new_directory_has_the_tables_of_a_migrated_one(
    directory: Path, tmp_path: Path, kind: Kind
) -> None:
    (tmp_path / "new").mkdir()
    prepare(kind, directory)
    prepare(kind, tmp_path / "new")

    assert tables(tmp_path / "new") == tables(directory)
    assert tables(directory) >= set(TOPICS)


def tables(directory: Path) -> set[str]:
    with closing(sqlite3.connect(directory / LOG.file)) as db:
        return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
