"""The local index over a log that is damaged, restored, replaced, or slow to be read."""

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from streams import retry
from streams.kafka.local_index import index as bounds
from streams.kafka.local_index import index_file
from streams.kafka.local_index.index import LocalIndex
from streams.log import Fault, LogUnavailable, Record, Topic
from tests.streams.envelopes import envelope, envelopes
from tests.streams.memory_log import MemoryLog
from tests.support.hang_guard import HANG_SECONDS

SUBJECT = "organizations/acme/apis/orders"


class Source(MemoryLog):
    """A log in memory, with topics that have an identity."""

    def __init__(self, identity: str = "cluster topic") -> None:
        super().__init__()
        self.is_ = identity
        self.faults: dict[int, Fault] = {}
        self.reads: list[int] = []
        """Positions after which was read."""
        self.may_be_read = asyncio.Event()
        self.may_be_read.set()

    async def topic_identity(self, topic: Topic) -> str:
        return self.is_

    async def read(self, topic: Topic, partition: int, after: int, limit: int) -> list[Record]:
        await self.may_be_read.wait()
        self.reads.append(after)
        records = await super().read(topic, partition, after, limit)
        return [replace(record, fault=self.faults.get(record.position)) for record in records]


@asynccontextmanager
async def opened(directory: Path, source: Source) -> AsyncIterator[LocalIndex]:
    index = LocalIndex(directory, source)
    try:
        yield index
    finally:
        await index.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACK_OFF", (0.01,))


async def subjects(index: LocalIndex, subject: str = SUBJECT) -> list[int]:
    return [record.position for record in await index.of_subject("events", subject, 0, 1000)]


async def test_an_index_that_is_damaged_while_it_is_filled_is_filled_again(tmp_path: Path):
    source = Source()
    await source.append("events", envelopes(3))
    async with opened(tmp_path, source) as index:
        assert await subjects(index) == [1, 2, 3]
        with sqlite3.connect(tmp_path / index_file.FILE) as other:
            other.execute("DROP TABLE records")
        other.close()

        await source.append("events", envelopes(1))

        assert await subjects(index) == [1, 2, 3, 4]


async def test_a_full_disk_is_reported_and_filling_continues_when_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    connect = index_file.connect
    room = [1_000]

    def small(path: Path) -> sqlite3.Connection:
        db = connect(path)
        db.execute(f"PRAGMA max_page_count={room[0]}")
        return db

    monkeypatch.setattr(index_file, "connect", small)
    source = Source()
    async with opened(tmp_path, source) as index:
        assert await subjects(index) == []
        await source.append("events", [envelope(data={"text": "x" * 10_000_000})])
        with pytest.raises(LogUnavailable, match=r"index\.db cannot be used: .* full"):
            await subjects(index)

        room[0] = 1_000_000

        async with asyncio.timeout(HANG_SECONDS):
            while True:
                try:
                    assert await subjects(index) == [1]
                    break
                except LogUnavailable:
                    await asyncio.sleep(0)


def modes_in(directory: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}


async def test_its_files_are_for_the_owner_alone_also_those_of_earlier_versions(tmp_path: Path):
    source = Source()
    (tmp_path / "index.db").touch(mode=0o644)
    (tmp_path / "index.db").chmod(0o644)
    async with opened(tmp_path, source) as index:
        await source.append("events", [envelope("a")])
        await subjects(index)
        modes = modes_in(tmp_path)
    assert modes == {"index.db": 0o600, "index.db-wal": 0o600, "index.db-shm": 0o600}


async def test_an_index_of_more_than_a_restored_log_holds_is_not_believed(tmp_path: Path):
    before, restored = Source(), Source()
    await before.append("events", [envelope("a"), envelope("b"), envelope("lost", subject="gone")])
    await restored.append("events", [envelope("a"), envelope("b")])
    async with opened(tmp_path, before) as index:
        assert await subjects(index, "gone") == [3]

    async with opened(tmp_path, restored) as index:
        assert await subjects(index, "gone") == []
        assert await subjects(index) == [1, 2]
        await restored.append("events", [envelope("c")])
        assert await subjects(index) == [1, 2, 3]


async def test_an_index_of_another_log_at_the_same_positions_is_not_believed(tmp_path: Path):
    before, restored = Source(), Source()
    await before.append("events", [envelope("a", subject="gone")])
    await restored.append("events", [envelope("b"), envelope("c")])
    async with opened(tmp_path, before) as index:
        assert await subjects(index, "gone") == [1]

    async with opened(tmp_path, restored) as index:
        assert await subjects(index, "gone") == []
        assert await subjects(index) == [1, 2]


async def test_an_index_is_of_one_topic_of_one_cluster(tmp_path: Path):
    source, made_again = Source("cluster first"), Source("cluster second")
    await source.append("events", [envelope("a", subject="gone"), envelope("b")])
    # Even if what was indexed last is there again, at its position.
    await made_again.append("events", [envelope("other"), envelope("b")])
    async with opened(tmp_path, source) as index:
        assert await subjects(index, "gone") == [1]

    async with opened(tmp_path, made_again) as index:
        assert await subjects(index, "gone") == []


async def test_an_indexed_record_is_not_read_again(tmp_path: Path):
    source = Source()
    await source.append("events", envelopes(3))
    async with opened(tmp_path, source) as index:
        assert await subjects(index) == [1, 2, 3]

    async with opened(tmp_path, source) as index:
        source.reads.clear()
        assert await subjects(index) == [1, 2, 3]
        assert 0 not in source.reads


async def test_a_mended_command_is_found_instead_of_the_one_that_could_not_be_taken(tmp_path: Path):
    source = Source()
    await source.append("commands", [envelope("a", data={"by": "intruder"}), envelope("a")])
    source.faults[1] = Fault("unauthorized", "no token")
    async with opened(tmp_path, source) as index:
        found = await index.of_keys("commands", [("acme", "a")])
        by_id = await index.of_id("commands", "a")
    assert found["acme", "a"].position == 2
    assert [record.position for record in by_id] == [2]


async def test_a_question_is_not_kept_waiting_while_the_index_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bounds, "FILL_SECONDS", 0.05)
    source = Source()
    await source.append("events", envelopes(2))
    source.may_be_read.clear()
    async with opened(tmp_path, source) as index:
        with pytest.raises(LogUnavailable, match="the index of events is being filled"):
            await subjects(index)

        source.may_be_read.set()
        monkeypatch.setattr(bounds, "FILL_SECONDS", 30)
        assert await subjects(index) == [1, 2]
