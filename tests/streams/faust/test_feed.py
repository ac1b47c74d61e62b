"""Whatever the way through Faust loses, brings twice or too late: each record is written once, in order."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from sqlalchemy.exc import OperationalError

from schemas.envelope import Envelope
from streams.faust import feed as feeding
from streams.faust.chunks import CHUNK, Chunk, TopicPartition, together
from streams.faust.feed import Feed
from streams.kafka.messages.wire import encode
from streams.kafka.security.integrity import Integrity
from streams.kafka.settings import KafkaSettings
from streams.log import Record, Topic
from streams.projection.progress import WriterConflict
from tests.streams.memory_log import MemoryLog
from tests.support.hang_guard import HANG_SECONDS

SETTINGS = KafkaSettings()
EVENTS = TopicPartition("signalbox.events", 0)


def envelope(position: int) -> Envelope:
    return Envelope(
        id=f"e{position}",
        type="io.signalbox.project.defined.v1",
        source="/test",
        subject=f"organizations/acme/projects/p{position}",
        time="2026-01-31T09:00:00.000000Z",
        partitionkey="acme",
        data={"organization": "acme", "name": f"p{position}", "display_name": ""},
    )


@dataclass(frozen=True, slots=True)
class Raw:
    offset: int
    value: bytes
    headers: Sequence[tuple[str, bytes]]
    partition: int = 0


def chunk(after: int, *positions: int) -> Chunk:
    return Chunk(after, [Raw(p - 1, *encode(envelope(p))) for p in positions])


@dataclass(slots=True)
class Database:
    """Keeps what is written; refuses what is not new, as another process's advance does."""

    at: int = 0
    written: list[int] = field(default_factory=list[int])
    batches: list[list[int]] = field(default_factory=list[list[int]])
    failures: list[Exception] = field(default_factory=list[Exception])
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    faults: list[str] = field(default_factory=list[str])
    silent: bool = False

    async def assigned(self, topic: Topic, partition: int) -> int:
        if self.silent:
            raise OperationalError("", {}, Exception("gone"))
        return self.at

    async def revoked(self, topic: Topic, partition: int) -> None: ...

    async def take(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        if self.failures:
            self.failed.set()
            raise self.failures.pop(0)
        if records[0].position <= self.at:
            raise WriterConflict("not here any more")
        self.batches.append([record.position for record in records])
        self.faults += [record.fault.rule if record.fault else "" for record in records]
        self.written += self.batches[-1]
        self.at = self.written[-1]


class Notifications:
    def __init__(self) -> None:
        self.positions: list[int] = []
        self.places: Mapping[tuple[Topic, int], int] = {}

    def assigned(self, positions: Mapping[tuple[Topic, int], int]) -> None:
        self.places = positions

    def taken(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        self.positions += [record.position for record in records]


class Harness:
    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.database = Database()
        self.received = Notifications()
        self.integrity = Integrity(bytes(32))
        self.feed = Feed(SETTINGS, log, self.database, [self.received], self.integrity)

    async def take(self, *chunks: Chunk) -> None:
        for one in chunks:
            self.feed.take(EVENTS, one)
        await self.feed.settle([], 5)


@pytest.fixture
async def harness() -> Harness:
    log = MemoryLog(1)
    await log.append("events", [envelope(p) for p in range(1, 11)])
    return Harness(log)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.retry.BACK_OFF", (0.001,))
    monkeypatch.setattr(feeding, "PAUSE_SECONDS", 0.0)


async def test_batches_in_order_are_written_and_notified(harness: Harness):
    assert await harness.feed.begin([EVENTS]) == {EVENTS: 0}
    await harness.take(chunk(0, 1, 2), chunk(2, 3))
    assert harness.database.written == [1, 2, 3]
    assert harness.received.positions == [1, 2, 3]
    assert harness.received.places == {("events", 0): 0}
    assert harness.feed.durable == {EVENTS: 3}


async def test_records_lost_on_the_way_are_read_from_the_log(harness: Harness):
    await harness.feed.begin([EVENTS])
    await harness.take(chunk(0, 1), chunk(4, 5, 6))
    assert harness.database.written == [1, 2, 3, 4, 5, 6]


async def test_a_gap_in_the_positions_is_nothing_lost(harness: Harness):
    await harness.feed.begin([EVENTS])
    await harness.take(chunk(0, 1), chunk(1, 7))
    assert harness.database.written == [1, 7]


async def test_earlier_records_are_left_out(harness: Harness):
    harness.database.at = 2
    await harness.feed.begin([EVENTS])
    await harness.take(chunk(0, 1, 2, 3), chunk(0, 1, 2, 3, 4))
    assert harness.database.written == [3, 4]


async def test_the_end_is_read_from_the_log_when_nothing_follows_the_lost_records(harness: Harness):
    await harness.feed.begin([EVENTS])
    await harness.take(chunk(0, 1))
    harness.feed.catch_up(EVENTS, 10)
    await harness.feed.settle([], 5)
    assert harness.database.written == list(range(1, 11))


async def test_records_that_another_process_wrote_are_not_written_again(harness: Harness):
    await harness.feed.begin([EVENTS])
    await harness.take(chunk(0, 1))
    harness.database.at = 3
    await harness.take(chunk(1, 2, 3, 4))
    assert harness.database.written == [1, 4]


async def test_a_partition_of_another_process_is_not_touched(harness: Harness):
    await harness.feed.begin([EVENTS])
    await harness.feed.settle([EVENTS])
    await harness.feed.leave([EVENTS])
    await harness.take(chunk(0, 1))
    assert harness.database.written == []


async def test_without_the_database_it_waits_and_then_goes_on(harness: Harness):
    harness.database.failures = [OperationalError("", {}, Exception("gone")) for _ in range(3)]
    await harness.feed.begin([EVENTS])
    await harness.take(chunk(0, 1, 2))
    assert harness.database.written == [1, 2]
    assert harness.feed.trouble == ""


async def test_an_unexpected_failure_stops_the_partition_and_skips_nothing(harness: Harness):
    harness.database.failures = [ValueError("a bug") for _ in range(3)]
    await harness.feed.begin([EVENTS])
    harness.feed.take(EVENTS, chunk(0, 1))
    async with asyncio.timeout(HANG_SECONDS):
        await harness.database.failed.wait()
    await harness.take(chunk(1, 2))
    assert harness.database.written == [1, 2]


async def test_where_it_goes_on_is_asked_again_when_it_could_not_be_known_at_first(harness: Harness):
    harness.database.at = 4
    harness.database.silent = True
    with pytest.raises(OperationalError):
        await harness.feed.begin([EVENTS])
    harness.database.silent = False
    await harness.take(chunk(2, 3, 4, 5), chunk(5, 6))
    assert harness.database.written == [5, 6]


async def test_records_that_arrive_during_a_write_are_written_together(harness: Harness):
    await harness.feed.begin([EVENTS])
    await harness.take(chunk(0, 1), chunk(1, 2), chunk(2, 3), chunk(3, 4))
    assert harness.database.batches == [[1, 2, 3, 4]]


def test_only_consecutive_records_are_put_together():
    first, second, later = chunk(0, 1, 2), chunk(2, 3), chunk(7, 8)
    assert [len(c.records) for c in together([first, second, later])] == [3, 1]
    many = [chunk(i, i + 1) for i in range(CHUNK + 1)]
    assert [len(c.records) for c in together(many)] == [CHUNK, 1]


async def test_an_outcome_that_signalbox_did_not_write_says_nothing(harness: Harness):
    value, headers = encode(envelope(1))
    sealed = harness.integrity.sealed("signalbox.outcomes", 0, value, headers)
    outcomes = TopicPartition("signalbox.outcomes", 0)
    await harness.feed.begin([outcomes])
    harness.feed.take(outcomes, Chunk(0, [Raw(0, value, sealed), Raw(1, value, headers)]))
    await harness.feed.settle([], 5)
    assert (harness.database.written, harness.database.faults) == ([1, 2], ["", "forged"])
