"""The newest records in memory are those on disk."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.log import Append, LogUnavailable, Transaction
from streams.sqlite import recent
from streams.sqlite.log import SqliteLog
from streams.sqlite.reader import Reader
from streams.sqlite.recent import RecentRecords
from streams.sqlite.rows import Row, decode, encode
from streams.sqlite.schema import key_of
from tests.streams.envelopes import envelope


def rows(first: int, count: int, size: int = 1) -> list[Row]:
    return [
        (key_of(0, first + n), *encode(envelope(f"e{first + n}", data={"text": "x" * size})))
        for n in range(count)
    ]


BATCHES = st.lists(st.integers(0, 40) | st.just(recent.MOST_RECORDS + 9), max_size=6)


@given(BATCHES, st.integers(0, 600), st.integers(0, 300))
@example([5, recent.MOST_RECORDS + 9], 5, 10)
def test_a_range_is_read_whole_or_not_at_all(batches: list[int], after: int, length: int) -> None:
    kept, written = RecentRecords("events"), list[Row]()
    for count in batches:
        new = rows(len(written) + 1, count)
        written += new
        kept.add(new, len(written))
    found = kept.read(after, after + length)
    if found is not None:
        assert found == [decode("events", row) for row in written[after : after + length]]
        assert len(found) == length


def test_the_newest_records_are_kept_up_to_a_number_and_to_a_size() -> None:
    kept = RecentRecords("events")
    most = recent.MOST_RECORDS
    kept.add(rows(1, most + 5), most + 5)
    assert kept.read(4, 10) is None
    assert kept.read(5, 10) is not None
    kept.add(rows(most + 6, most), 2 * most + 5)
    assert kept.read(5, 10) is not None, "trimmed at twice the number"
    kept.add(rows(2 * most + 6, 1), 2 * most + 6)
    assert kept.read(most + 5, 2 * most + 6) is None
    assert kept.read(most + 6, 2 * most + 6) is not None
    third, end = recent.MOST_BYTES // 3, 2 * most + 6
    kept.add(rows(end + 1, 8, third), end + 8)
    assert kept.read(end + 5, end + 8) is None
    assert kept.read(end + 6, end + 8) is not None


async def test_consumers_that_keep_up_read_without_a_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await SqliteLog.open(tmp_path / "data")
    await log.commit(Transaction([Append("events", 0, [envelope("a"), envelope("b")])]))
    from_disk = await Reader(tmp_path / "data" / "log.db").read("events", 0, 0, 2, 10)

    async def no_query(*_: object) -> None:
        raise AssertionError("read from disk")

    monkeypatch.setattr(Reader, "read", no_query)
    assert await log.read("events", 0, 0, 10) == from_disk
    assert await log.read("events", 0, 1, 10) == from_disk[1:]
    assert await log.read("events", 0, 2, 10) == []
    monkeypatch.undo()
    await log.close()
    with pytest.raises(LogUnavailable):
        await log.read("events", 0, 0, 10)


async def test_a_reopened_log_reads_earlier_records_from_disk(tmp_path: Path) -> None:
    log = await SqliteLog.open(tmp_path / "data")
    await log.append("events", [envelope("a")])
    await log.close()
    log = await SqliteLog.open(tmp_path / "data")
    await log.append("events", [envelope("b")])
    assert [r.envelope.id for r in await log.read("events", 0, 0, 10)] == ["a", "b"]
    assert [r.envelope.id for r in await log.read("events", 0, 1, 10)] == ["b"]
    await log.close()
