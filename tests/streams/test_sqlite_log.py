"""What holds for the log in SQLite beyond the contract of every engine."""

import asyncio
import os
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import ATTRIBUTES, Envelope
from schemas.limits import LARGEST_COMMAND
from streams.log import Append, LogUnavailable, MessageTooLarge, Transaction
from streams.partitioner import murmur2, partition_of
from streams.sqlite import DirectoryInUse, DirectoryLock, PartitionCountChanged, SqliteLog
from streams.sqlite.joined_appends import MOST
from streams.sqlite.writer import EncodedTransaction, LogUnit
from tests.streams.envelopes import envelope, envelopes
from tests.support.hang_guard import HANG_SECONDS
from tests.support.laws import SHARED_FIXTURE, examples


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    log = await SqliteLog.open(tmp_path / "data")
    yield log
    await log.close()


async def test_positions_have_no_gaps(log: SqliteLog):
    assert await log.append("commands", envelopes(3)) == [1, 2, 3]
    assert await log.append("commands", envelopes(2)) == [4, 5]


async def test_appends_that_wait_together_are_committed_together(log: SqliteLog):
    await log.append("commands", envelopes(1))
    before = log.transactions
    await asyncio.gather(*(log.append("commands", envelopes(1)) for _ in range(500)))
    assert await log.end("commands", 0) == 501
    assert 1 <= log.transactions - before <= 50


async def test_appends_of_one_turn_are_one_request_in_order(log: SqliteLog, monkeypatch: pytest.MonkeyPatch):
    requests: list[int] = []
    add = LogUnit.add

    def counted(self: LogUnit, request: EncodedTransaction) -> list[list[int]]:
        requests.append(len(request.appends[0].rows))
        return add(self, request)

    monkeypatch.setattr(LogUnit, "add", counted)
    large = envelope(data={"text": "x" * (LARGEST_COMMAND + 1)})
    wanted = envelopes(MOST + 2)
    done = await asyncio.gather(
        log.append("commands", [large]),
        *(log.append("commands", [each]) for each in wanted),
        return_exceptions=True,
    )

    assert isinstance(done[0], MessageTooLarge)
    assert done[1:] == [[position] for position in range(1, MOST + 3)]
    assert requests == [MOST, 2]
    assert [record.envelope.id for record in await log.read("commands", 0, MOST, 9)] == [
        each.id for each in wanted[MOST:]
    ]


async def test_a_caller_alone_is_answered_after_a_commit_of_his_own(log: SqliteLog):
    before = log.transactions
    for _ in range(5):
        await log.append("commands", envelopes(1))
    assert log.transactions - before == 5


async def test_reads_do_not_wait_for_a_thread(log: SqliteLog):
    await log.append("commands", [envelope("a")])
    reading = log.read("commands", 0, 0, 1000)
    with pytest.raises(StopIteration):
        reading.send(None)


async def test_a_closed_log_refuses_and_releases_waiting_callers(log: SqliteLog):
    waiting = asyncio.create_task(log.wait("commands", 0, 0))
    await asyncio.sleep(0)
    await log.close()
    with pytest.raises(LogUnavailable):
        await waiting
    with pytest.raises(LogUnavailable):
        await log.append("commands", envelopes(1))
    with pytest.raises(LogUnavailable):
        await log.find("commands", ("acme", "a"))


async def test_records_submitted_before_the_close_are_written(tmp_path: Path):
    log = await SqliteLog.open(tmp_path)
    appends = [asyncio.create_task(log.append("commands", envelopes(1))) for _ in range(50)]
    await asyncio.sleep(0)
    await log.close()
    await asyncio.gather(*appends)
    log = await SqliteLog.open(tmp_path)
    assert await log.end("commands", 0) == 50
    await log.close()


async def test_one_request_that_sqlite_cannot_take_does_not_hurt_those_beside_it(log: SqliteLog):
    good = envelopes(10)
    surrogate = envelope("\ud800")
    results = await asyncio.gather(
        *(log.append("commands", [each]) for each in good[:5]),
        log.append("commands", [surrogate]),
        *(log.append("commands", [each]) for each in good[5:]),
        return_exceptions=True,
    )
    assert isinstance(results[5], UnicodeEncodeError)
    assert [r.envelope.id for r in await log.read("commands", 0, 0, 100)] == [each.id for each in good]
    assert await log.append("commands", envelopes(1)) == [11]


async def test_the_partition_count_never_changes(tmp_path: Path):
    await (await SqliteLog.open(tmp_path, partitions=3)).close()
    with pytest.raises(PartitionCountChanged, match="3 partitions"):
        await SqliteLog.open(tmp_path, partitions=4)
    log = await SqliteLog.open(tmp_path, partitions=3)
    assert log.partitions == 3
    await log.close()


async def test_the_directory_is_for_its_owner_alone(log: SqliteLog, tmp_path: Path):
    directory = tmp_path / "data"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o600}


async def test_a_found_record_can_be_read(log: SqliteLog, monkeypatch: pytest.MonkeyPatch):
    # Given a transaction that is on disk, but whose end is not published to readers,
    on_disk, go_on, announce = threading.Event(), threading.Event(), LogUnit.committed

    def held_back(unit: LogUnit) -> None:
        on_disk.set()
        assert go_on.wait(HANG_SECONDS)
        announce(unit)

    monkeypatch.setattr(LogUnit, "committed", held_back)
    event, outcome = envelope("e", subject="organizations/acme/apis/orders"), envelope("a")
    transaction = Transaction([Append("events", 0, [event]), Append("outcomes", 0, [outcome])])
    committing = asyncio.create_task(log.commit(transaction))
    assert await asyncio.to_thread(on_disk.wait, 60)

    # then nothing of it is found, as long as it cannot be read:
    try:
        assert await log.read("events", 0, 0, 10) == []
        assert await log.find("outcomes", ("acme", "a")) is None
        assert await log.find_all("outcomes", [("acme", "a")]) == {}
        assert await log.find_by_id("outcomes", "a") == []
        assert await log.read_subject("events", event.subject) == []
    finally:
        go_on.set()

    # and once it can be read, all of it is found.
    await committing
    assert [r.envelope.id for r in await log.read("events", 0, 0, 10)] == ["e"]
    assert await log.find("outcomes", ("acme", "a")) is not None
    assert list(await log.find_all("outcomes", [("acme", "a")])) == [("acme", "a")]
    assert len(await log.read_subject("events", event.subject)) == 1


# Values of Kafka's own tests (org.apache.kafka.common.utils.UtilsTest.testMurmur2).
@pytest.mark.parametrize(
    ("text", "hash"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_partitions_are_kafkas(text: bytes, hash: int):
    assert murmur2(text) == hash & 0xFFFFFFFF
    assert partition_of(text.decode(), 12) == (hash & 0x7FFFFFFF) % 12


class TestLock:
    async def test_a_second_log_in_the_directory_is_refused_with_the_process_that_holds_it(
        self, log: SqliteLog, tmp_path: Path
    ):
        with pytest.raises(DirectoryInUse) as refusal:
            await SqliteLog.open(tmp_path / "data")
        assert refusal.value.pid == os.getpid()
        assert str(tmp_path / "data") in str(refusal.value)
        assert str(os.getpid()) in str(refusal.value)

    async def test_a_closed_log_frees_the_directory(self, log: SqliteLog, tmp_path: Path):
        await log.close()
        await (await SqliteLog.open(tmp_path / "data")).close()

    async def test_a_log_that_cannot_be_opened_frees_the_directory(self, log: SqliteLog, tmp_path: Path):
        await log.close()
        with pytest.raises(PartitionCountChanged):
            await SqliteLog.open(tmp_path / "data", partitions=2)
        DirectoryLock(tmp_path / "data").release()

    async def test_the_caller_may_hold_the_lock_himself(self, tmp_path: Path):
        lock = DirectoryLock(tmp_path)
        await (await SqliteLog.open(tmp_path, lock=lock)).close()
        with pytest.raises(DirectoryInUse):
            await SqliteLog.open(tmp_path)
        lock.release()

    def test_another_process_holds_it_until_it_is_killed(self, tmp_path: Path):
        program = (
            "import sys; from pathlib import Path; from streams.sqlite import DirectoryLock\n"
            "lock = DirectoryLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(DirectoryInUse) as refusal:
                DirectoryLock(tmp_path)
            assert refusal.value.pid == holder.pid
            holder.kill()
        DirectoryLock(tmp_path).release()


text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=10,
)


@st.composite
def any_envelope(draw: st.DrawFn) -> Envelope:
    attributes: dict[str, Any] = {name: draw(text) for name in ATTRIBUTES}
    return Envelope(**attributes, data=draw(st.dictionaries(text, json, max_size=4)))


@examples(25, SHARED_FIXTURE)
@given(batches=st.lists(st.lists(any_envelope(), max_size=5), max_size=5))
async def test_any_sequence_of_appends_reads_back_equal(
    batches: list[list[Envelope]], tmp_path_factory: pytest.TempPathFactory
):
    directory = tmp_path_factory.mktemp("any")
    log = await SqliteLog.open(directory)
    for batch in batches:
        await log.commit(Transaction([Append("commands", 0, batch)]))
    await log.close()
    log = await SqliteLog.open(directory)
    written = [each for batch in batches for each in batch]
    assert [record.envelope for record in await log.read("commands", 0, 0, 100)] == written
    assert [each.hash() for each in written] == [
        r.envelope.hash() for r in await log.read("commands", 0, 0, 100)
    ]
    await log.close()
