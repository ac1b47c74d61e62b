"""Several projectors on one PostgreSQL: every record is applied once, from any source, after any failure."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from hashlib import sha256

import pytest
from sqlalchemy import select, update

from projections.queries import ReadModels
from projections.resources.model import Resources
from projections.store import CHECKPOINTS, GENERATIONS, PARKED, Store, open_store
from schemas.aggregates.project import PROJECT
from schemas.envelope import Envelope
from streams.log import Fault
from streams.projection import ProjectionRunner
from streams.projection.checkpoints import CheckpointWaiter
from streams.projection.dead_letters import DeadLetters
from streams.projection.generation_builder import GenerationBuilder
from streams.projection.progress import Superseded, UnknownReadModel
from streams.projection.waiters import RunnerStopped
from tests.projections.events import envelope, project
from tests.streams.gapped_log import STEP, GappedLog
from tests.streams.projectors import Tally, follow, projector, tallied
from tests.support.hang_guard import HANG_SECONDS


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    store = open_store(postgres_url)
    yield store
    store.close()


@pytest.fixture
async def ask(store: Store) -> AsyncIterator[ReadModels]:
    models = ReadModels(store)
    yield models
    models.close()


def names(first: int, last: int, organization: str = "acme") -> list[Envelope]:
    return [envelope(project(f"p{i}", organization=organization)) for i in range(first, last + 1)]


def places(count: int, partition: int = 0) -> list[tuple[int, int]]:
    return [(partition, n * STEP) for n in range(1, count + 1)]


@contextlib.asynccontextmanager
async def going_on(*work: "asyncio.Task[None]") -> AsyncIterator[None]:
    try:
        yield
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


# Feeding


async def test_consumed_records_are_skipped(postgres_url: str, store: Store):
    log = GappedLog()
    await log.append("events", names(1, 9))
    records = await log.read("events", 0, 0, 9)
    async with projector(log, postgres_url) as runner:
        assert await runner.assigned("events", 0) == 0
        for batch in (records[:4], records[:4], records[2:6], records[5:], records):
            await runner.take("events", 0, batch)
        assert runner.positions() == {"tally": {0: 9 * STEP}}
    assert tallied(store) == places(9)


async def test_the_first_batch_after_an_assignment_may_begin_later(postgres_url: str, store: Store):
    log = GappedLog()
    await log.append("events", names(1, 30))
    records = await log.read("events", 0, 0, 30)
    async with projector(log, postgres_url) as runner:
        await runner.take("events", 0, records[20:25])
        assert tallied(store) == places(25)
        await runner.assigned("events", 0)
        log.reads.clear()
        await runner.take("events", 0, records[25:])
        assert log.reads == []  # a gap between positions is no reason to look
    assert tallied(store) == places(30)


async def test_one_that_slept_through_a_takeover_doubles_and_skips_nothing(
    postgres_url: str, store: Store, ask: ReadModels
):
    log = GappedLog()
    await log.append("events", names(1, 40))
    records = await log.read("events", 0, 0, 40)
    async with projector(log, postgres_url) as zombie, projector(log, postgres_url) as successor:
        await zombie.assigned("events", 0)
        await zombie.take("events", 0, records[:10])
        assert await successor.assigned("events", 0) == 10 * STEP
        await successor.take("events", 0, records[10:15])
        await zombie.take("events", 0, records[10:20])
        await successor.take("events", 0, records[15:30])
        await zombie.take("events", 0, records[20:25])
        await zombie.take("events", 0, records[25:40])
        await successor.take("events", 0, records[30:40])
    assert tallied(store) == places(40)
    assert await ask.parked() == []


@pytest.mark.parametrize("seed", range(5))
async def test_two_at_once_take_in_each_record_once(
    postgres_url: str, store: Store, ask: ReadModels, seed: int
):
    chance = random.Random(seed)
    log = GappedLog(partitions=2)
    for organization in ("a", "b"):
        await log.append("events", names(1, 60, organization))

    async def feed(partition: int, runner_log: GappedLog) -> None:
        async with projector(runner_log, postgres_url) as runner:
            at = 0
            while records := await log.read("events", partition, at, chance.randint(1, 9)):
                if chance.random() < 0.2:
                    at = await runner.assigned("events", partition)
                    continue
                await runner.take("events", partition, records)
                at = records[-1].position

    await asyncio.gather(*(feed(partition, log) for partition in (0, 1, 0, 1)))
    assert tallied(store) == [*places(60, 0), *places(60, 1)]
    assert await ask.parked() == []


async def test_a_checkpoint_that_went_back_is_filled_up_from_the_log(postgres_url: str, store: Store):
    log = GappedLog()
    await log.append("events", names(1, 20))
    records = await log.read("events", 0, 0, 20)
    async with projector(log, postgres_url) as runner:
        await runner.assigned("events", 0)
        await runner.take("events", 0, records[:10])
        with store.writer.begin() as connection:  # a backup was restored
            connection.execute(update(CHECKPOINTS).values(position=5 * STEP))
            table = Tally().table("tally_v1_g1")
            connection.execute(table.delete().where(table.c.position > 5 * STEP))
        await runner.take("events", 0, records[10:])
    assert tallied(store) == places(20)


async def test_feeding_a_runner_that_ended_raises(postgres_url: str):
    log = GappedLog()
    await log.append("events", names(1, 1))
    async with projector(log, postgres_url) as runner:
        await runner.assigned("events", 0)
    with pytest.raises(RunnerStopped):
        await runner.take("events", 0, await log.read("events", 0, 0, 1))


LONG = "".join(sha256(bytes([n])).hexdigest() for n in range(200))


# Parking, seen from several processes


async def test_a_subject_that_another_process_releases_goes_on_here(
    postgres_url: str, store: Store, ask: ReadModels
):
    log, here, there = GappedLog(), Tally(), Tally()
    here.broken.add("p2")
    there.broken.add("p2")
    await log.append("events", [_about("one", e) for e in names(1, 6)])
    records = await log.read("events", 0, 0, 6)
    parked = DeadLetters(log, store, [there])
    async with projector(log, postgres_url, [here]) as runner:
        await runner.assigned("events", 0)
        await runner.take("events", 0, records[:4])
        assert [p["position"] for p in await ask.parked()] == [2 * STEP, 3 * STEP, 4 * STEP]
        assert await parked.retry("tally", "one") == 0

        there.broken.clear()
        assert await parked.retry("tally", "one") == 3
        await runner.take("events", 0, records[4:])
        assert await ask.parked() == []
        with pytest.raises(UnknownReadModel):
            await parked.retry("colours", "one")
    await parked.close()
    assert tallied(store) == places(6)


async def test_an_event_that_another_process_skips_is_left_out_here(
    postgres_url: str, store: Store, ask: ReadModels
):
    log, model = GappedLog(), Tally()
    model.broken.add("p2")
    await log.append("events", [_about("one", e) for e in names(1, 4)])
    records = await log.read("events", 0, 0, 4)
    parked = DeadLetters(log, store, [Tally()])
    async with projector(log, postgres_url, [model]) as runner:
        await runner.assigned("events", 0)
        await runner.take("events", 0, records[:3])
        assert await parked.skip("tally", "one") == 1
        await runner.take("events", 0, records[3:])
        assert await ask.parked() == []
    await parked.close()
    assert tallied(store) == [p for p in places(4) if p != (0, 2 * STEP)]


async def test_a_record_that_cannot_be_read_is_parked_with_its_reason(
    postgres_url: str, store: Store, ask: ReadModels
):
    log = GappedLog()
    events = [
        _about(subject, e) for subject, e in zip(("one", "", "one", "", "two"), names(1, 5), strict=True)
    ]
    for event in events[:2]:
        log.faults[event.id] = Fault("malformed", "The body is no JSON.")
    await log.append("events", events)
    async with projector(log, postgres_url) as runner:
        await runner.assigned("events", 0)
        await runner.take("events", 0, await log.read("events", 0, 0, 5))
        assert [(p["position"], p["subject"], p["reason"]) for p in await ask.parked()] == [
            (1 * STEP, "one", "malformed: The body is no JSON."),
            (2 * STEP, "", "malformed: The body is no JSON."),
            (3 * STEP, "one", f"waits behind position {1 * STEP}"),
        ]
        log.faults.clear()
        assert await runner.retry("tally", "one") == 2
        assert await runner.skip("tally", "") == 0
        assert await ask.parked() == []
    assert tallied(store) == [p for p in places(5) if p != (0, 2 * STEP)]


@pytest.mark.parametrize("text", ["a\0b", LONG], ids=["NUL", "too long for an index"])
async def test_an_event_that_postgresql_refuses_is_parked_and_does_not_stop_the_partition(
    postgres_url: str, store: Store, ask: ReadModels, text: str
):
    log = GappedLog()
    good, bad, following = names(1, 3)
    bad = replace(bad, subject=text, data={**bad.data, "name": text})
    await log.append("events", [good, bad, following])
    async with projector(log, postgres_url, [Resources()]) as runner:
        await runner.assigned("events", 0)
        await runner.take("events", 0, await log.read("events", 0, 0, 3))
        (parked,) = await ask.parked()
        assert parked["position"] == 2 * STEP
        assert [r.name for r in (await ask.list(PROJECT, "acme")).rows] == ["p1", "p3"]


def _about(subject: str, event: Envelope) -> Envelope:
    return replace(event, subject=subject)


# Versions and rebuilds


async def test_one_process_fills_a_new_version_and_the_others_notice(postgres_url: str, store: Store):
    log = GappedLog(partitions=2)
    for organization in ("a", "b"):
        await log.append("events", names(1, 50, organization))
    async with projector(log, postgres_url) as before:
        for partition in (0, 1):
            await before.take("events", partition, await log.read("events", partition, 0, 50))

    async with (
        projector(log, postgres_url, [Tally(2)]) as one,
        projector(log, postgres_url, [Tally(2)]) as two,
    ):
        feeding = [asyncio.create_task(follow(r, log, p)) for r, p in ((one, 0), (two, 1))]
        async with going_on(*feeding), asyncio.timeout(HANG_SECONDS):
            for organization in ("a", "b"):
                await log.append("events", names(51, 53, organization))
            await asyncio.gather(one.ready.wait(), two.ready.wait())
            await one.wait_for("tally", 0, 53 * STEP)
            await two.wait_for("tally", 1, 53 * STEP)
    assert tallied(store) == [*places(53, 0), *places(53, 1)]
    with store.reader.begin() as connection:
        rows = connection.execute(select(GENERATIONS)).all()
    assert [(r.version, r.generation, r.state) for r in rows] == [(2, 2, "live")]


async def test_an_earlier_version_ends_when_a_later_one_is_swapped_in(postgres_url: str, store: Store):
    log = GappedLog()
    await log.append("events", names(1, 5))
    old = open_store(postgres_url)
    runner = ProjectionRunner(log, old, [Tally(1)])
    hosting = asyncio.create_task(runner.host())
    await runner.assigned("events", 0)
    async with projector(log, postgres_url, [Tally(2)]) as later, asyncio.timeout(HANG_SECONDS):
        await later.ready.wait()
        with pytest.raises(Superseded, match="has version 2 and this program has 1"):
            await hosting
    old.close()
    assert tallied(store) == places(5)


async def test_a_rebuild_goes_on_beside_projectors_in_other_processes(
    postgres_url: str, store: Store, ask: ReadModels
):
    log = GappedLog(partitions=2)
    for organization in ("a", "b"):
        await log.append("events", names(1, 200, organization))
    seen: list[int] = []
    done = asyncio.Event()
    waiter = CheckpointWaiter(log, store, [Tally()])

    async def read() -> None:
        while not done.is_set():
            seen.append(await asyncio.to_thread(lambda: len(tallied(store))))

    async def append() -> None:
        for n in range(201, 301):
            await log.append("events", [*names(n, n, "a"), *names(n, n, "b")])
            await asyncio.sleep(0)

    async with projector(log, postgres_url) as one, projector(log, postgres_url) as two:
        tasks = [asyncio.create_task(follow(r, log, p)) for r, p in ((one, 0), (two, 1))]
        tasks.append(asyncio.create_task(waiter.run()))
        async with going_on(*tasks), asyncio.timeout(HANG_SECONDS):
            await waiter.wait_for("tally", 0, 200 * STEP)
            await waiter.wait_for("tally", 1, 200 * STEP)
            reading = asyncio.create_task(read())
            await asyncio.gather(append(), waiter.rebuild("tally"), one.rebuild("tally"))
            await waiter.wait_for("tally", 0, 300 * STEP)
            await waiter.wait_for("tally", 1, 300 * STEP)
            done.set()
            await reading
    assert tallied(store) == [*places(300, 0), *places(300, 1)]
    assert seen == sorted(seen)
    assert seen[0] >= 400
    with store.reader.begin() as connection:
        assert connection.execute(select(GENERATIONS.c.state)).scalars().all() == ["live"]
        assert connection.execute(select(PARKED)).all() == []


async def test_the_tables_of_a_rebuilder_that_died_are_dropped_by_the_next(postgres_url: str, store: Store):
    log = GappedLog()
    await log.append("events", names(1, 5))
    async with projector(log, postgres_url) as runner:
        await runner.take("events", 0, await log.read("events", 0, 0, 5))
        died, other = GenerationBuilder(store, Tally(), 1), GenerationBuilder(store, Tally(), 1)
        assert died.begin()
        assert not other.begin()
        died.end()
        await runner.rebuild("tally")
    with store.reader.begin() as connection:
        rows = connection.execute(select(GENERATIONS)).all()
    assert [(r.generation, r.state) for r in rows] == [(2, "live")]


# Who waits in other processes


async def test_a_process_that_only_queries_is_notified_of_each_checkpoint(postgres_url: str, store: Store):
    log = GappedLog()
    await log.append("events", names(1, 3))
    records = await log.read("events", 0, 0, 3)
    waiter = CheckpointWaiter(log, store, [Tally()])
    async with projector(log, postgres_url) as runner, going_on(asyncio.create_task(waiter.run())):
        await runner.take("events", 0, records[:1])
        async with asyncio.timeout(HANG_SECONDS):
            await waiter.wait_for("tally", 0, STEP)
            assert waiter.trouble == ""
            assert await waiter.lag() == {"tally": 2 * STEP}
            waiting = asyncio.create_task(waiter.wait_for("tally", 0, 3 * STEP))
            await runner.take("events", 0, records[1:2])
            await waiter.wait_for("tally", 0, 2 * STEP)
            assert not waiting.done()
            await runner.take("events", 0, records[2:])
            await waiting
        assert waiter.positions() == {"tally": {0: 3 * STEP}}
        with pytest.raises(UnknownReadModel):
            await waiter.wait_for("colours", 0, 1)
        never = asyncio.create_task(waiter.wait_for("tally", 0, 99))
        await asyncio.sleep(0)
    with pytest.raises(RunnerStopped):
        await never


async def test_a_checkpoint_without_a_notification_is_found_by_polling(postgres_url: str, store: Store):
    log = GappedLog()
    waiter = CheckpointWaiter(log, store, [Tally()])
    async with projector(log, postgres_url) as runner, going_on(asyncio.create_task(waiter.run())):
        await runner.assigned("events", 0)
        with store.writer.begin() as connection:
            connection.execute(update(CHECKPOINTS).values(position=12))
        async with asyncio.timeout(HANG_SECONDS):
            await waiter.wait_for("tally", 0, 12)


# The database's own ways


async def test_text_is_in_order_of_code_points_with_any_locale_of_the_database(
    postgres_url: str, store: Store
):
    async with projector(GappedLog(), postgres_url, [Resources()]) as runner:
        await runner.assigned("events", 0)
    with store.reader.begin() as connection:
        found = connection.exec_driver_sql(
            "select distinct o.collname from pg_attribute a join pg_collation o on o.oid = a.attcollation"
            " join pg_class c on c.oid = a.attrelid"
            " where starts_with(c.relname, 'resources') and c.relkind = 'r'"
        )
        assert found.scalars().all() == ["C"]
