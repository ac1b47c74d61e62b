"""The durable consumer of a topic, on a log in memory and on SQLite; its group membership on Kafka."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streams import retry
from streams.dead_letters import DeadLetterTopic
from streams.kafka.log import KafkaLog
from streams.kafka.membership import Membership
from streams.kafka.settings import KafkaSettings
from streams.log import Fault, Log, LogUnavailable, Record, Topic
from streams.sqlite.log import SqliteLog
from streams.subscription import Offsets, Start, Subscription, Unprocessable, end_of
from tests.streams.envelopes import envelope, envelopes
from tests.streams.memory_log import MemoryLog
from tests.support.hang_guard import HANG_SECONDS


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACK_OFF", (0.001,))


@pytest.fixture(params=["memory", "sqlite"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    opened = MemoryLog(2) if request.param == "memory" else await SqliteLog.open(tmp_path, partitions=2)
    yield opened
    await opened.close()


def other_key(log: Log) -> str:
    """Of another partition than the key of `envelope`."""
    keys = (f"other-{number}" for number in range(100))
    return next(key for key in keys if log.partition_of(key) != log.partition_of("acme"))


async def from_the_beginning(partition: int) -> int:
    return 0


class Consumer:
    """A handler that records the ids, and fails a given number of times."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.failures: list[Exception] = []
        self.failed = 0
        self.failed_again = asyncio.Event()
        self._changed = asyncio.Condition()

    async def handle(self, records: Sequence[Record]) -> None:
        if self.failures:
            self.failed += 1
            if self.failed == 2:
                self.failed_again.set()
            raise self.failures.pop(0)
        self.ids += [record.envelope.id for record in records]
        async with self._changed:
            self._changed.notify_all()

    async def until(self, *ids: str) -> None:
        async with asyncio.timeout(HANG_SECONDS), self._changed:
            await self._changed.wait_for(lambda: sorted(self.ids) == sorted(ids))


@asynccontextmanager
async def running(subscription: Subscription, *partitions: int) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(subscription.run(partitions or None))
    try:
        yield task
        async with asyncio.timeout(HANG_SECONDS):
            await subscription.stop()
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_records_are_handed_over_once_and_a_restart_goes_on_after_the_committed_ones(log: Log):
    offsets = Offsets(log, "reader", "status")
    await log.append("status", [envelope("a"), envelope("b", key=other_key(log)), envelope("c")])
    first = Consumer()
    async with running(Subscription(log, "status", first.handle, start=offsets.start, commit=offsets.commit)):
        await first.until("a", "b", "c")
    await log.append("status", [envelope("d")])
    second = Consumer()
    async with running(
        Subscription(log, "status", second.handle, start=offsets.start, commit=offsets.commit)
    ):
        await second.until("d")


async def test_a_consumer_that_was_away_does_not_begin_at_the_end(log: Log):
    offsets = Offsets(log, "reader", "status")
    await log.append("status", envelopes(3))
    consumer = Consumer()
    subscription = Subscription(log, "status", consumer.handle, start=offsets.start)
    await subscription.open()
    assert subscription.positions == {0: 0, 1: 0}
    assert await subscription.lag() == 3


async def test_with_the_end_as_its_start_it_gets_records_after_open(log: Log):
    await log.append("status", [envelope("before")])
    consumer = Consumer()
    subscription = Subscription(log, "status", consumer.handle, start=end_of(log, "status"))
    await subscription.open()
    await log.append("status", [envelope("after")])
    async with running(subscription):
        await consumer.until("after")


@pytest.mark.parametrize("fails", ["handler", "commit"])
async def test_after_an_outage_the_same_records_are_handed_over_again(log: Log, fails: str):
    offsets = Offsets(log, "reader", "status")
    consumer = Consumer()
    consumer.failures = [LogUnavailable("disk full")] if fails == "handler" else []
    outages = [LogUnavailable("disk full")] if fails == "commit" else []

    async def commit(partition: int, position: int) -> None:
        if outages:
            raise outages.pop()
        await offsets.commit(partition, position)

    await log.append("status", [envelope("a")])
    subscription = Subscription(log, "status", consumer.handle, start=offsets.start, commit=commit)
    async with running(subscription, log.partition_of("acme")):
        await consumer.until(*["a"] * (1 if fails == "handler" else 2))
    assert subscription.trouble == ""
    assert await log.consumed("reader", "status", log.partition_of("acme")) == 1


async def test_a_start_that_is_not_known_yet_is_asked_for_again(log: Log):
    asked: list[int] = []

    async def start(partition: int) -> int:
        asked.append(partition)
        if len(asked) == 1:
            raise LogUnavailable("the broker is away")
        return 0

    await log.append("status", [envelope("a")])
    consumer = Consumer()
    async with running(Subscription(log, "status", consumer.handle, start=start)):
        await consumer.until("a")


async def test_while_something_is_unavailable_trouble_says_why_and_a_stop_does_not_wait_for_it(log: Log):
    consumer = Consumer()
    consumer.failures = [LogUnavailable("disk full")] * 1_000_000
    await log.append("status", [envelope("a")])
    subscription = Subscription(log, "status", consumer.handle, start=from_the_beginning)
    async with running(subscription):
        async with asyncio.timeout(HANG_SECONDS):
            await consumer.failed_again.wait()
        assert subscription.trouble == "disk full"
    assert consumer.ids == []


async def test_any_other_failure_ends_it(log: Log):
    consumer = Consumer()
    consumer.failures = [ValueError("a defect")]
    await log.append("status", [envelope("a")])
    with pytest.raises(ValueError, match="a defect"):
        async with asyncio.timeout(HANG_SECONDS):
            await Subscription(log, "status", consumer.handle, start=from_the_beginning).run()


async def test_a_stop_finishes_the_batch_in_hand_and_begins_no_other(log: Log):
    offsets = Offsets(log, "reader", "status")
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(records: Sequence[Record]) -> None:
        begun.set()
        await go_on.wait()

    partition = log.partition_of("acme")
    await log.append("status", envelopes(2))
    subscription = Subscription(log, "status", slow, start=offsets.start, commit=offsets.commit, batch=1)
    run = asyncio.create_task(subscription.run())
    async with asyncio.timeout(HANG_SECONDS):
        await begun.wait()
        stop = asyncio.create_task(subscription.stop())
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(stop, run)
    assert await log.consumed("reader", "status", partition) == 1


async def test_paused_it_begins_no_batch_and_its_lag_grows(log: Log):
    consumer = Consumer()
    subscription = Subscription(log, "status", consumer.handle, start=from_the_beginning)
    subscription.pause()
    await subscription.open()
    async with running(subscription):
        await log.append("status", [envelope("a"), envelope("b", key=other_key(log))])
        assert (consumer.ids, await subscription.lag()) == ([], 2)
        subscription.resume()
        await consumer.until("a", "b")
    assert await subscription.lag() == 0


async def test_a_record_that_the_handler_can_never_take_is_dead_lettered_and_the_rest_is_handled(log: Log):
    consumer = Consumer()

    async def handle(records: Sequence[Record]) -> None:
        for record in records:
            if record.envelope.id == "bad":
                raise Unprocessable(record, Fault("malformed", "it says nothing"))
        await consumer.handle(records)

    offsets = Offsets(log, "reader", "status")
    await log.append("status", [envelope("a"), envelope("b"), envelope("bad")])
    letters = DeadLetterTopic(log, "/test")
    subscription = Subscription(
        log, "status", handle, start=offsets.start, commit=offsets.commit, dead_letters=letters
    )
    async with running(subscription):
        await consumer.until("a", "b")
    partition = log.partition_of("acme")
    (letter,) = await log.read("parked", partition, 0, 10)
    assert (letter.envelope.data["position"], letter.envelope.data["reason"]) == (3, "it says nothing")
    assert await offsets.start(partition) == 3


async def test_it_has_caught_up_once_everything_on_the_topic_is_consumed(log: Log):
    consumer = Consumer()
    subscription = Subscription(log, "status", consumer.handle, start=from_the_beginning, batch=1)
    await subscription.open()
    assert await subscription.caught_up() == {0: 0, 1: 0}
    await log.append("status", [*envelopes(2), envelope("other", key=other_key(log))])
    async with asyncio.timeout(HANG_SECONDS), running(subscription):
        ends = await subscription.caught_up()
        assert sorted(ends.values()) == [1, 2]
        assert len(consumer.ids) == 3


async def test_waiting_to_catch_up_raises_the_trouble_and_the_failure_that_ends_the_consumer(log: Log):
    consumer = Consumer()
    consumer.failures = [LogUnavailable("disk full"), ValueError("a defect")]
    subscription = Subscription(log, "status", consumer.handle, start=from_the_beginning)
    await subscription.open()
    await log.append("status", [envelope("a")])
    async with asyncio.timeout(HANG_SECONDS):
        run = asyncio.create_task(subscription.run())
        with pytest.raises(LogUnavailable, match="disk full"):
            await subscription.caught_up()
        with pytest.raises(ValueError, match="a defect"):
            await run
        with pytest.raises(ValueError, match="a defect"):
            await subscription.caught_up()


async def test_a_consumer_that_reads_ahead_reads_the_batch_after_a_full_one_while_that_is_handled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    log = MemoryLog()
    await log.append("status", [envelope("a"), envelope("b"), envelope("c")])
    read, reads, ahead = log.read, list[int](), asyncio.Event()

    async def noticed(topic: Topic, partition: int, after: int, limit: int) -> list[Record]:
        reads.append(after)
        if after == 2:
            ahead.set()
        return await read(topic, partition, after, limit)

    monkeypatch.setattr(log, "read", noticed)
    consumer = Consumer()

    async def handle(records: Sequence[Record]) -> None:
        if records[0].position == 1:
            await ahead.wait()
        await consumer.handle(records)

    subscription = Subscription(log, "status", handle, start=from_the_beginning, batch=2, read_ahead=True)
    async with running(subscription):
        await consumer.until("a", "b", "c")
    assert reads == [0, 2]


@pytest.mark.parametrize(("few", "batches"), [(0, [["a", "b", "c"]]), (1, [["a"], ["b"], ["c"]])])
async def test_reads_that_are_cut_off_are_joined_to_a_batch_unless_they_are_small(
    log: Log, monkeypatch: pytest.MonkeyPatch, few: int, batches: list[list[str]]
):
    monkeypatch.setattr("streams.subscription.FEW", few)
    read, consumer, taken = log.read, Consumer(), list[list[str]]()

    async def one(topic: Topic, partition: int, after: int, limit: int) -> list[Record]:
        return await read(topic, partition, after, min(limit, 1))

    async def handle(records: Sequence[Record]) -> None:
        taken.append([record.envelope.id for record in records])
        await consumer.handle(records)

    partition = log.partition_of("acme")
    await log.append("status", [envelope("a"), envelope("b"), envelope("c")])
    monkeypatch.setattr(log, "read", one)
    subscription = Subscription(log, "status", handle, start=from_the_beginning, batch=4, read_ahead=True)
    async with running(subscription, partition):
        await consumer.until("a", "b", "c")
    assert taken == batches


async def test_the_reads_of_a_batch_are_limited(log: Log, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("streams.subscription.FEW", 0)
    monkeypatch.setattr("streams.subscription.JOINED", 2)
    read, consumer, taken = log.read, Consumer(), list[int]()

    async def one(topic: Topic, partition: int, after: int, limit: int) -> list[Record]:
        return await read(topic, partition, after, min(limit, 1))

    async def handle(records: Sequence[Record]) -> None:
        taken.append(len(records))
        await consumer.handle(records)

    await log.append("status", [envelope("a"), envelope("b"), envelope("c")])
    monkeypatch.setattr(log, "read", one)
    subscription = Subscription(log, "status", handle, start=from_the_beginning, batch=4, read_ahead=True)
    async with running(subscription, log.partition_of("acme")):
        await consumer.until("a", "b", "c")
    assert taken == [2, 1]


async def test_records_that_were_read_ahead_are_read_again_after_a_failure(log: Log):
    consumer = Consumer()
    consumer.failures = [LogUnavailable("disk full")]
    partition = log.partition_of("acme")
    await log.append("status", [envelope("a"), envelope("b"), envelope("c")])
    subscription = Subscription(
        log, "status", consumer.handle, start=from_the_beginning, batch=1, read_ahead=True
    )
    async with running(subscription, partition):
        await consumer.until("a", "b", "c")
    assert consumer.ids == ["a", "b", "c"]


async def test_it_runs_until_an_event_is_set_and_finishes_the_batch_in_hand(log: Log):
    consumer, stop = Consumer(), asyncio.Event()

    async def handle(records: Sequence[Record]) -> None:
        stop.set()
        await asyncio.sleep(0)
        await consumer.handle(records)

    await log.append("status", envelopes(2))
    subscription = Subscription(log, "status", handle, start=from_the_beginning, batch=1)
    async with asyncio.timeout(HANG_SECONDS):
        await subscription.run_until(stop, (log.partition_of("acme"),))
    assert len(consumer.ids) == 1


async def test_partitions_come_and_go(log: Log):
    consumer = Consumer()
    offsets = Offsets(log, "reader", "status")
    subscription = Subscription(log, "status", consumer.handle, start=offsets.start, commit=offsets.commit)
    ours = log.partition_of("acme")
    await log.append("status", [envelope("a"), envelope("other", key=other_key(log))])
    run = asyncio.create_task(subscription.run(()))
    await subscription.assigned(ours)
    await consumer.until("a")
    await subscription.revoked(ours)
    assert subscription.positions == {}
    await log.append("status", [envelope("b")])
    await subscription.assigned(ours)
    await consumer.until("a", "b")
    await subscription.stop()
    async with asyncio.timeout(HANG_SECONDS):
        await run


async def test_on_kafka_a_group_assigns_its_partitions_and_the_position_survives_a_move(
    kafka_settings: KafkaSettings, tmp_path: Path
):
    @asynccontextmanager
    async def member(consumer: Consumer) -> AsyncIterator[Log]:
        log = await KafkaLog.open(kafka_settings, tmp_path)
        offsets = Offsets(log, "reader", "commands")

        async def claimed(partition: int) -> int:
            await log.claim(partition)
            return await offsets.start(partition)

        start: Start = claimed
        subscription = Subscription(log, "commands", consumer.handle, start=start, commit=offsets.commit)
        group = Membership(kafka_settings, "reader", "commands", subscription.assigned, subscription.revoked)
        tasks = [asyncio.create_task(subscription.run(())), asyncio.create_task(group.run())]
        yield log
        tasks[1].cancel()
        await asyncio.gather(tasks[1], return_exceptions=True)
        await subscription.stop()
        await tasks[0]
        await log.close()

    first, second = Consumer(), Consumer()
    async with member(first) as log:
        await log.append("commands", [envelope("a"), envelope("b")])
        await first.until("a", "b")
        await log.append("commands", [envelope("c")])
        await first.until("a", "b", "c")
    async with member(second) as log:
        await log.append("commands", [envelope("d")])
        await second.until("d")


async def test_it_gets_records_after_its_start_and_survives_an_outage_of_reading(tmp_path: Path):
    outages = ["once"]

    class Failing(SqliteLog):
        async def read(self, topic: Topic, partition: int, after: int, limit: int) -> list[Record]:
            if outages:
                outages.pop()
                raise LogUnavailable("the broker is away")
            return await super().read(topic, partition, after, limit)

    log = await Failing.open(tmp_path)
    await log.append("commands", [envelope("before")])
    consumer = Consumer()
    subscription = Subscription(log, "commands", consumer.handle, start=end_of(log, "commands"))
    await subscription.open()
    async with running(subscription):
        await log.append("commands", [envelope("after")])
        await consumer.until("after")
    assert (subscription.trouble, outages) == ("", [])
    await log.close()
