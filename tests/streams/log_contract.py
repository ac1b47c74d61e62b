"""What every engine of the log promises. A test module subclasses `LogContract` and gives its engine."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from schemas.envelope import Envelope
from streams.log import (
    TOPICS,
    Append,
    Consumed,
    Log,
    MessageTooLarge,
    StateSnapshot,
    Topic,
    Transaction,
    WrongExpectedPosition,
)
from tests.streams.envelopes import chained, envelope, envelopes
from tests.support.hang_guard import HANG_SECONDS

OpenLog = Callable[[int], Awaitable[Log]]
"""Opens the log with a number of partitions; once more after `close`, the same log."""


async def all_of(log: Log, topic: Topic = "commands", partition: int = 0) -> list[Envelope]:
    records = await log.read(topic, partition, 0, 100_000)
    return [record.envelope for record in records]


def keys_by_partition(log: Log) -> dict[int, str]:
    """A key for each partition."""
    keys: dict[int, str] = {}
    for number in range(10_000):
        keys.setdefault(log.partition_of(f"tenant-{number}"), f"tenant-{number}")
        if len(keys) == log.partitions:
            break
    return keys


class LogContract:
    @pytest.fixture
    async def open_log(self) -> OpenLog:
        raise NotImplementedError

    @pytest.fixture
    async def log(self, open_log: OpenLog) -> Log:
        return await open_log(1)

    async def test_appended_records_are_read_back_equal_and_in_order(self, log: Log):
        written = envelopes(5)
        await log.append("commands", written)
        records = await log.read("commands", 0, 0, 10)
        assert [record.envelope for record in records] == written
        assert {(record.topic, record.partition) for record in records} == {("commands", 0)}

    async def test_every_attribute_survives(self, log: Log):
        full = Envelope(
            id='id "quoted" \\ ü \u2028',
            type="t",
            source="s",
            subject="organizations/ä/apis/\U0001f689",
            time="2026-11-20T10:00:00.000000Z",
            partitionkey="acme",
            data={"a": [1, 2.5, None, True, {"deep": "ü"}], "big": 2**53, "": ""},
            dataschema="schema",
            dataref="ref",
            sequence="00000000000000000007",
            correlationid="correlation",
            causationid="causation",
            traceparent="00-1-2-01",
            authtype="user",
            authid="admin",
            previoushash="f" * 64,
        )
        await log.append("commands", [full])
        assert await all_of(log) == [full]
        found = await log.find("commands", full.key)
        assert found is not None
        assert found.envelope == full

    async def test_positions_start_at_one_or_later_and_rise(self, log: Log):
        first = await log.append("commands", envelopes(3))
        second = await log.append("commands", envelopes(2))
        positions = first + second
        assert positions[0] >= 1
        assert positions == sorted(set(positions))
        assert [r.position for r in await log.read("commands", 0, 0, 10)] == positions
        assert await log.end("commands", 0) == positions[-1]

    async def test_an_empty_topic_ends_at_zero_and_reads_empty(self, log: Log):
        assert await log.end("events", 0) == 0
        assert await log.read("events", 0, 0, 10) == []

    async def test_appending_nothing_changes_nothing(self, log: Log):
        assert await log.append("commands", []) == []
        assert await log.end("commands", 0) == 0

    async def test_reading_goes_on_after_a_position_and_stops_at_the_limit(self, log: Log):
        positions = await log.append("commands", envelopes(1000))
        some = await log.read("commands", 0, positions[99], 700)
        assert [record.position for record in some] == positions[100:800]
        assert await log.read("commands", 0, positions[-1], 10) == []

    async def test_a_read_ends_after_some_bytes_and_the_next_one_goes_on(self, log: Log):
        written = [envelope(id=f"large-{i}", data={"text": "x" * 300_000}) for i in range(8)]
        positions = [await log.append("commands", [each]) for each in written]
        reads: list[int] = []
        ids: list[str] = []
        after = 0
        while records := await log.read("commands", 0, after, 100):
            reads.append(len(records))
            ids += [record.envelope.id for record in records]
            after = records[-1].position
        assert max(reads) <= 4
        assert ids == [each.id for each in written]
        assert after == positions[-1][0]

    async def test_a_subject_is_read_in_parts_of_some_bytes(self, log: Log):
        written = [envelope(id=f"large-{i}", subject="s", data={"text": "x" * 300_000}) for i in range(8)]
        for each in written:
            await log.append("commands", [each])
        ids: list[str] = []
        after = 0
        while records := await log.read_subject("commands", "s", after=after):
            assert len(records) <= 4
            ids += [record.envelope.id for record in records]
            after = records[-1].position
        assert ids == [each.id for each in written]

    async def test_a_command_of_more_than_a_megabyte_is_refused(self, log: Log):
        await log.append("commands", [envelope(data={"text": "x" * 990_000})])
        with pytest.raises(MessageTooLarge, match="1,000,000"):
            await log.append("commands", [envelope(data={"text": "x" * 1_000_000})])
        assert len(await log.read("commands", 0, 0, 10)) == 1

    async def test_topics_have_positions_of_their_own(self, log: Log):
        await log.append("commands", envelopes(3))
        await log.append("status", envelopes(1))
        assert len(await all_of(log, "commands")) == 3
        assert len(await all_of(log, "status")) == 1

    async def test_an_append_at_the_expected_position_succeeds(self, log: Log):
        (first,) = await log.commit(Transaction([Append("events", 0, chained(1), expected=0)]))
        await log.commit(Transaction([Append("events", 0, envelopes(1), expected=first[-1])]))
        assert len(await all_of(log, "events")) == 2

    async def test_an_append_at_another_position_is_refused_with_where_the_end_is(self, log: Log):
        (end,) = await log.append("events", envelopes(1))
        with pytest.raises(WrongExpectedPosition) as refusal:
            await log.commit(Transaction([Append("events", 0, envelopes(1), expected=end + 5)]))
        assert (refusal.value.expected, refusal.value.actual) == (end + 5, end)
        assert await log.end("events", 0) == end

    async def test_a_refused_transaction_leaves_nothing_behind(self, log: Log):
        with pytest.raises(WrongExpectedPosition):
            await log.commit(
                Transaction(
                    [Append("outcomes", 0, envelopes(1)), Append("events", 0, envelopes(1), expected=9)],
                    [Consumed("decider", "commands", 0, 1)],
                    [StateSnapshot("decider", 0, "s", 1, b"state")],
                )
            )
        assert await log.end("outcomes", 0) == 0
        assert await log.consumed("decider", "commands", 0) == 0
        assert await log.snapshots("decider", 0) == (0, [])

    async def test_a_refused_transaction_does_not_hurt_those_beside_it(self, log: Log):
        good = envelopes(20)

        async def bad() -> None:
            with pytest.raises(WrongExpectedPosition):
                await log.commit(Transaction([Append("events", 0, envelopes(1), expected=999)]))

        appends = [log.append("commands", [each]) for each in good]
        await asyncio.gather(*appends[:10], bad(), *appends[10:], bad())
        assert sorted(e.id for e in await all_of(log)) == sorted(e.id for e in good)

    async def test_of_many_with_the_same_expectation_one_wins(self, log: Log):
        async def attempt() -> bool:
            try:
                await log.commit(Transaction([Append("events", 0, envelopes(1), expected=0)]))
            except WrongExpectedPosition:
                return False
            return True

        assert sum(await asyncio.gather(*(attempt() for _ in range(16)))) == 1
        assert len(await all_of(log, "events")) == 1

    async def test_a_transaction_spans_topics_consumers_and_snapshots(self, log: Log):
        await log.append("commands", envelopes(3))
        positions = await log.commit(
            Transaction(
                [Append("events", 0, chained(2), expected=0), Append("outcomes", 0, envelopes(1))],
                [Consumed("decider", "commands", 0, 3)],
                [StateSnapshot("decider", 0, "a", 2, b"A"), StateSnapshot("decider", 0, "b", 2, b"B")],
            )
        )
        assert [len(each) for each in positions] == [2, 1]
        assert await log.end("events", 0) == positions[0][-1]
        assert await log.end("outcomes", 0) == positions[1][-1]
        assert await log.consumed("decider", "commands", 0) == 3
        assert await log.consumed("decider", "events", 0) == 0
        assert await log.consumed("other", "commands", 0) == 0
        position, snapshots = await log.snapshots("decider", 0)
        assert position == 2
        assert {s.subject: s.state for s in snapshots} == {"a": b"A", "b": b"B"}

    async def test_a_snapshot_replaces_the_one_before_and_an_empty_one_removes_it(self, log: Log):
        await log.commit(
            Transaction(snapshots=[StateSnapshot("d", 0, "a", 2, b"A"), StateSnapshot("d", 0, "b", 2, b"B")])
        )
        await log.commit(
            Transaction(snapshots=[StateSnapshot("d", 0, "a", 5, b"A2"), StateSnapshot("d", 0, "b", 5, b"")])
        )
        position, snapshots = await log.snapshots("d", 0)
        assert position == 5
        assert snapshots == [StateSnapshot("d", 0, "a", 5, b"A2")]
        assert await log.snapshots("other", 0) == (0, [])

    async def test_a_waiting_caller_is_woken_by_an_append(self, log: Log):
        async with asyncio.timeout(HANG_SECONDS):
            waiting = [asyncio.create_task(log.wait("events", 0, 0)) for _ in range(5)]
            elsewhere = asyncio.create_task(log.wait("outcomes", 0, 0))
            further = asyncio.create_task(log.wait("events", 0, 1_000_000))
            await asyncio.sleep(0)
            await log.append("events", envelopes(1))
            await asyncio.gather(*waiting)
            assert not elsewhere.done()
            assert not further.done()
            for task in (elsewhere, further):
                task.cancel()

    async def test_waiting_for_an_existing_record_returns_at_once(self, log: Log):
        await log.append("events", envelopes(2))
        async with asyncio.timeout(HANG_SECONDS):
            await log.wait("events", 0, 0)

    async def test_a_woken_caller_can_read_the_record(self, log: Log):
        seen: list[str] = []

        async def tail() -> None:
            after = 0
            while len(seen) < 200:
                await log.wait("commands", 0, after)
                for record in await log.read("commands", 0, after, 50):
                    seen.append(record.envelope.id)
                    after = record.position

        async with asyncio.timeout(HANG_SECONDS):
            tailing = asyncio.create_task(tail())
            written = envelopes(200)
            for each in written:
                await log.append("commands", [each])
            await tailing
        assert seen == [each.id for each in written]

    async def test_a_waiter_that_gives_up_leaves_nothing_behind(self, log: Log):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await log.wait("events", 0, 0)
        await log.append("events", envelopes(1))
        assert await log.end("events", 0) >= 1

    async def test_finds_the_first_of_an_organization_and_id(self, log: Log):
        positions = await log.append("commands", [envelope("a"), envelope("b"), envelope("a")])
        found = await log.find("commands", ("acme", "a"))
        assert found is not None
        assert found.position == positions[0]
        assert await log.find("commands", ("acme", "missing")) is None
        assert await log.find("events", ("acme", "a")) is None

    async def test_finds_many_at_once(self, log: Log):
        positions = await log.append("commands", [envelope(f"c{n}") for n in range(500)])
        await log.append("commands", [envelope("c0")])
        keys = [("acme", f"c{n}") for n in range(450)]
        found = await log.find_all("commands", [*keys, ("acme", "missing")])
        assert {key: record.position for key, record in found.items()} == dict(
            zip(keys, positions, strict=False)
        )
        assert await log.find_all("commands", []) == {}

    @pytest.mark.parametrize("partitions", [1, 4])
    async def test_organizations_may_use_the_same_id(self, open_log: OpenLog, partitions: int):
        log = await open_log(partitions)
        names = [f"tenant-{n}" for n in range(8)]
        await log.append("commands", [envelope("same", key=name, data={"of": name}) for name in names])

        found = await log.find_all("commands", [(name, "same") for name in names[:5]])
        one = await log.find("commands", ("tenant-7", "same"))
        every = await log.find_by_id("commands", "same")

        assert {key: r.envelope.data["of"] for key, r in found.items()} == {
            (name, "same"): name for name in names[:5]
        }
        assert one is not None and one.envelope.partitionkey == "tenant-7"
        assert await log.find("commands", ("tenant-9", "same")) is None
        assert [r.envelope.partitionkey for r in every] == names
        assert await log.find_by_id("commands", "missing") == []

    async def test_an_outcome_that_did_not_decide_its_command_does_not_stand_for_it(self, log: Log):
        refused = [envelope(id, data={"rule": "unauthorized"}) for id in ("a", "b", "b")]
        decided = [envelope("a", data={"rule": rule}) for rule in ("", "not-found")]
        positions = await log.append("outcomes", [*refused, *decided])

        found = await log.find_all("outcomes", [("acme", "a"), ("acme", "b")])

        assert {key: record.position for key, record in found.items()} == {("acme", "a"): positions[3]}
        assert [r.position for r in await log.find_by_id("outcomes", "a")] == [positions[3]]
        assert [r.position for r in await log.find_by_id("outcomes", "b")] == [positions[2]]

    async def test_reads_one_subject_in_order(self, log: Log):
        every = [envelope(subject=f"organizations/acme/apis/{n % 3}") for n in range(900)]
        positions = await log.append("events", every)
        records = await log.read_subject("events", "organizations/acme/apis/1")
        assert [record.position for record in records] == positions[1::3]
        some = await log.read_subject("events", "organizations/acme/apis/1", after=positions[1], limit=4)
        assert [record.position for record in some] == positions[4:16:3]
        assert await log.read_subject("events", "organizations/acme/apis/none") == []

    async def test_partitions_are_independent(self, open_log: OpenLog):
        log = await open_log(4)
        keys = keys_by_partition(log)
        assert sorted(keys) == [0, 1, 2, 3]
        mixed = [envelope(key=keys[n % 4]) for n in range(40)]
        positions = await log.append("commands", mixed)
        for partition, key in keys.items():
            records = await log.read("commands", partition, 0, 100)
            assert [r.envelope for r in records] == [e for e in mixed if e.partitionkey == key]
            assert [r.position for r in records] == positions[partition::4]
        await log.commit(
            Transaction(
                consumed=[Consumed("d", "commands", 2, 7)], snapshots=[StateSnapshot("d", 2, "s", 7, b"S")]
            )
        )
        assert await log.consumed("d", "commands", 1) == 0
        assert await log.consumed("d", "commands", 2) == 7
        assert await log.snapshots("d", 1) == (0, [])
        assert (await log.snapshots("d", 2))[0] == 7
        async with asyncio.timeout(HANG_SECONDS):
            waiting = asyncio.create_task(log.wait("events", 3, 0))
            await asyncio.sleep(0)
            await log.append("events", [envelope(key=keys[0])])
            assert not waiting.done()
            await log.append("events", [envelope(key=keys[3])])
            await waiting

    async def test_a_closed_log_that_is_opened_again_has_everything(self, open_log: OpenLog):
        log = await open_log(2)
        await log.append("commands", [envelope(key=key) for key in keys_by_partition(log).values()])
        await log.append("status", envelopes(3))
        transaction = Transaction(
            [Append("events", 1, chained(300), expected=0)],
            [Consumed("decider", "commands", 1, 1)],
            [StateSnapshot("decider", 1, "a", 300, b"A")],
        )
        await log.commit(transaction)

        async def everything(log: Log) -> object:
            return (
                [await all_of(log, topic, partition) for topic in TOPICS for partition in (0, 1)],
                [await log.end(topic, partition) for topic in TOPICS for partition in (0, 1)],
                await log.consumed("decider", "commands", 1),
                await log.snapshots("decider", 1),
            )

        before = await everything(log)
        await log.close()
        log = await open_log(2)
        assert await everything(log) == before
        with pytest.raises(WrongExpectedPosition):
            await log.commit(transaction)

    async def test_64_appenders_each_once_and_in_their_own_order(self, log: Log):
        written = {worker: [envelope(f"{worker}-{n}") for n in range(25)] for worker in range(64)}
        positions: list[int] = []

        async def work(worker: int) -> None:
            for each in written[worker]:
                positions.extend(await log.append("commands", [each]))

        await asyncio.gather(*(work(worker) for worker in written))
        records = await log.read("commands", 0, 0, 10_000)
        assert [record.position for record in records] == sorted(positions)
        assert len(records) == len({r.envelope.id for r in records}) == 64 * 25
        for worker, mine in written.items():
            read = [r.envelope for r in records if r.envelope.id.startswith(f"{worker}-")]
            assert read == mine

    async def test_a_cancelled_caller_does_not_lose_the_others(self, log: Log):
        every = envelopes(30)
        tasks = [asyncio.create_task(log.append("commands", [each])) for each in every]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        stored = {e.id for e in await all_of(log)}
        kept = [each.id for each, result in zip(every, done, strict=True) if isinstance(result, list)]
        assert len(kept) >= 20
        assert stored.issuperset(kept)
        assert await log.append("commands", envelopes(1))

    async def test_data_that_json_cannot_say_is_the_callers_error_alone(self, log: Log):
        good = envelopes(2)
        results = await asyncio.gather(
            log.append("commands", good[:1]),
            log.append("commands", [envelope(data={"x": object()})]),
            log.append("commands", good[1:]),
            return_exceptions=True,
        )
        assert isinstance(results[1], TypeError)
        assert [e.id for e in await all_of(log)] == [e.id for e in good]

    async def test_a_partition_that_is_not_there_is_an_error(self, log: Log):
        with pytest.raises(ValueError, match="no commands/7"):
            await log.read("commands", 7, 0, 1)
        with pytest.raises(ValueError, match="no events/1"):
            await log.commit(Transaction([Append("events", 1, envelopes(1))]))
