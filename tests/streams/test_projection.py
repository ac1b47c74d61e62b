"""The projection runner: follows the log, wakes those who wait, parks, retries, rebuilds, swaps."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, select
from sqlalchemy.exc import OperationalError

from projections.catalog import READ_MODELS
from projections.queries import ReadModels
from projections.readmodel import Recorded
from projections.resources.model import Resources
from projections.store import CHECKPOINTS, GENERATIONS, Store
from schemas.aggregates.api import API
from schemas.aggregates.project import PROJECT
from schemas.envelope import Envelope
from streams.projection import ProjectionRunner, RunnerStopped, UnknownReadModel, WriterConflict
from streams.projection.generation_builder import GenerationBuilder
from streams.projection.progress import Batches
from streams.projection.writer import Writer
from streams.sqlite.log import SqliteLog
from streams.subscription import FEW
from tests.projections.events import envelope, outcome, project, published
from tests.projections.stores import postgres_store, sqlite_copy
from tests.streams.memory_log import MemoryLog
from tests.support.hang_guard import HANG_SECONDS

ORDERS = API.subject("acme", "orders")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        opened = sqlite_copy(tmp_path)
    else:
        opened = postgres_store(request.getfixturevalue("empty_read_models"))
    with opened as store:
        yield store


@pytest.fixture
async def ask(store: Store) -> AsyncIterator[ReadModels]:
    models = ReadModels(store)
    yield models
    models.close()


@contextlib.asynccontextmanager
async def running(runner: ProjectionRunner) -> AsyncIterator[ProjectionRunner]:
    task = asyncio.create_task(runner.run())
    ready = asyncio.create_task(runner.ready.wait())
    try:
        async with asyncio.timeout(HANG_SECONDS):
            await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
            yield runner
    finally:
        ready.cancel()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_it_follows_the_log_and_wakes_the_waiters(store: Store, ask: ReadModels):
    log = MemoryLog()
    await log.append("events", [envelope(published(revision=1))])
    async with running(ProjectionRunner(log, store)) as runner:
        assert runner.positions()["resources"] == {0: 1}
        waiting = asyncio.create_task(runner.wait_for("resources", 0, 3))
        await log.append("events", [envelope(published(revision=2))])
        await runner.wait_for("resources", 0, 2)
        assert not waiting.done()
        await log.append("events", [envelope(published(revision=3))])
        await waiting
        row = await ask.get(API, "acme", "orders")
        assert row is not None
        assert row.version == 3
        await log.append("outcomes", [envelope(outcome("c1"))])
        await runner.wait_for("operations", 0, 1)
        assert await ask.operation("c1") is not None
        assert await runner.lag() == dict.fromkeys((m.name for m in READ_MODELS), 0)
        with pytest.raises(UnknownReadModel):
            await runner.wait_for("colours", 0, 1)


@pytest.mark.parametrize("together", [1, FEW])
async def test_what_comes_together_is_written_together_and_those_who_wait_do_not_wait_longer(
    store: Store, monkeypatch: pytest.MonkeyPatch, together: int
):
    log, written = MemoryLog(), list[int]()
    apply = Writer.apply

    def counted(writer: Writer, batches: Mapping[str, Batches]) -> None:
        written.extend(len(batch.records) for of in batches.values() for batch in of.values())
        apply(writer, batches)

    monkeypatch.setattr(Writer, "apply", counted)
    async with running(ProjectionRunner(log, store, gather_seconds=10 * HANG_SECONDS)) as runner:
        for _ in range(3):
            await log.append("events", [envelope(published(revision=1 + i)) for i in range(together)])
            await asyncio.sleep(0)
        assert not written
        await runner.wait_for("resources", 0, 2)
        assert written == [3 * together]


async def test_it_keeps_up_with_positions_that_it_writes_next(store: Store):
    log = MemoryLog()
    runner = ProjectionRunner(log, store, batch=10)
    assert not runner.keeps_up("resources", 0, 1)
    async with running(runner):
        assert runner.keeps_up("resources", 0, 10)
        assert not runner.keeps_up("resources", 0, 11)
        assert not runner.keeps_up("unknown", 0, 1)
    assert not runner.keeps_up("resources", 0, 1)


async def test_on_the_real_log_appended_events_are_shown_after_every_restart(tmp_path: Path, store: Store):
    ask = ReadModels(store)
    for revision in (1, 2, 3):
        log = await SqliteLog.open(tmp_path / "data")
        async with running(ProjectionRunner(log, store)) as runner:
            (position,) = await log.append("events", [envelope(published(revision=revision))])
            await runner.wait_for("resources", 0, position)
            row = await ask.get(API, "acme", "orders")
            assert row is not None
            assert (row.version, row.document["revision"], row.position) == (revision, revision, position)
            await runner.rebuild("resources")
            assert await ask.get(API, "acme", "orders") == row
        await log.close()
    ask.close()


async def test_partitions_are_followed_each_for_itself(store: Store):
    log = MemoryLog(partitions=3)
    names = [f"org{i}" for i in range(7)]
    await log.append("events", [envelope(project("shop", organization=n)) for n in names])
    ask = ReadModels(store, partition_of=log.partition_of)
    async with running(ProjectionRunner(log, store)) as runner:
        assert runner.positions()["resources"] == {p: await log.end("events", p) for p in range(3)}
        for name in names:
            page = await ask.list(PROJECT, name)
            assert [r.name for r in page.rows] == ["shop"]
            assert page.position == await log.end("events", log.partition_of(name))
    ask.close()


async def test_it_goes_on_where_it_stopped(store: Store, ask: ReadModels):
    log = MemoryLog()
    for revision in (1, 2, 3):
        await log.append("events", [envelope(published(revision=revision))])
        async with running(ProjectionRunner(log, store)):
            row = await ask.get(API, "acme", "orders")
            assert row is not None
            assert (row.version, row.position) == (revision, revision)


async def test_waiting_queries_fail_when_it_stops(store: Store):
    runner = ProjectionRunner(MemoryLog(), store)
    async with running(runner):
        waiting = asyncio.create_task(runner.wait_for("resources", 0, 1))
        await asyncio.sleep(0)
    with pytest.raises(RunnerStopped):
        await waiting


async def test_it_stops_when_another_process_advances_the_same_tables(store: Store):
    log = MemoryLog()
    with pytest.raises(WriterConflict):
        async with running(ProjectionRunner(log, store)) as runner:
            with store.writer.begin() as connection:
                connection.execute(CHECKPOINTS.update().values(position=5))
            await log.append("events", [envelope(published())])
            with contextlib.suppress(RunnerStopped):
                await runner.wait_for("resources", 0, 1)


# Parking


def unknown(of: Envelope) -> Envelope:
    return replace(of, type="io.signalbox.api.vanished.v1")


def broken(of: Envelope) -> Envelope:
    return replace(of, data={k: v for k, v in of.data.items() if k != "spec"})


class FailsOn(Resources):
    """Cannot project APIs of a revision, while `revision` is set."""

    revision: int | None = 2

    def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
        super().project(connection, prefix, records)
        for record in records:
            if record.envelope.data.get("revision") == self.revision:
                raise ArithmeticError("cannot count that far")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (unknown, "UnknownSchema: io.signalbox.api.vanished.v1"),
        (broken, "Unprojectable: io.signalbox.api.published.v1 lacks spec"),
    ],
)
@pytest.mark.parametrize("batch", [1, 1000])
async def test_a_failing_event_is_parked_and_its_subject_waits(
    store: Store, ask: ReadModels, spoil: Callable[[Envelope], Envelope], reason: str, batch: int
):
    log = MemoryLog()
    await log.append(
        "events",
        [
            envelope(published(revision=1)),
            spoil(envelope(published(revision=2))),
            envelope(published("other", 1)),
            envelope(published(revision=3)),
        ],
    )
    async with running(ProjectionRunner(log, store, batch=batch)) as runner:
        orders, other = await ask.get(API, "acme", "orders"), await ask.get(API, "acme", "other")
        assert orders is not None
        assert other is not None
        assert (orders.version, other.version) == (1, 1)
        first, second = await ask.parked()
        assert (first["read_model"], first["topic"], first["position"]) == ("resources", "events", 2)
        assert first["subject"] == second["subject"] == ORDERS
        assert first["reason"].startswith(reason)
        assert second["reason"] == "waits behind position 2"
        await log.append("events", [envelope(published(revision=4)), envelope(published("other", 2))])
        await runner.wait_for("resources", 0, 6)
        assert [p["position"] for p in await ask.parked()] == [2, 4, 5]
        assert runner.positions()["resources"] == {0: 6}


async def test_parked_events_can_be_retried_in_order(store: Store, ask: ReadModels):
    log, model = MemoryLog(), FailsOn()
    await log.append("events", [envelope(published(revision=r)) for r in (1, 2, 3)])
    async with running(ProjectionRunner(log, store, [model])) as runner:
        assert [p["reason"] for p in await ask.parked()] == [
            "ArithmeticError: cannot count that far",
            "waits behind position 2",
        ]
        assert await runner.retry("resources", ORDERS) == 0
        assert len(await ask.parked()) == 2

        model.revision = None
        assert await runner.retry("resources", ORDERS) == 2
        assert await ask.parked() == []
        await log.append("events", [envelope(published(revision=4))])
        await runner.wait_for("resources", 0, 4)
        row = await ask.get(API, "acme", "orders")
        assert row is not None
        assert (row.version, row.document["revision"]) == (4, 4)
        then = await ask.get(API, "acme", "orders", as_of=2)
        assert then is not None
        assert then.document["revision"] == 2


async def test_a_parked_event_can_be_skipped(store: Store, ask: ReadModels):
    log = MemoryLog()
    events = [envelope(published(revision=r)) for r in (1, 2, 3)]
    await log.append("events", [events[0], unknown(events[1]), events[2]])
    async with running(ProjectionRunner(log, store)) as runner:
        assert await runner.skip("resources", ORDERS) == 1
        assert await runner.skip("resources", ORDERS) == 0
        assert await ask.parked() == []
        row = await ask.get(API, "acme", "orders")
        assert row is not None
        assert (row.version, row.document["revision"]) == (2, 3)


async def test_parking_survives_a_restart(store: Store, ask: ReadModels):
    log = MemoryLog()
    await log.append("events", [unknown(envelope(published(revision=1)))])
    async with running(ProjectionRunner(log, store)):
        assert len(await ask.parked()) == 1
    await log.append("events", [envelope(published(revision=2))])
    async with running(ProjectionRunner(log, store)):
        assert [p["reason"] for p in await ask.parked()][1:] == ["waits behind position 1"]


# The store's own failures


async def test_an_unavailable_store_is_tried_again_and_parks_nothing(store: Store, ask: ReadModels):
    class Unavailable(Resources):
        failures = 2

        def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
            if self.failures:
                self.failures -= 1
                assert self.failures or runner.trouble
                raise OperationalError("insert", {}, OSError("disk is full"))
            super().project(connection, prefix, records)

    log = MemoryLog()
    await log.append("events", [envelope(published())])
    runner = ProjectionRunner(log, store, [Unavailable()])
    async with running(runner):
        assert await ask.parked() == []
        assert runner.trouble == ""
        assert await ask.get(API, "acme", "orders") is not None


# Rebuilding


async def test_a_rebuild_under_reads_and_writes_never_shows_a_gap(store: Store, ask: ReadModels):
    log = MemoryLog()
    await log.append("events", [envelope(project(f"p{i:03}")) for i in range(300)])
    async with running(ProjectionRunner(log, store, batch=50)) as runner:
        stop = asyncio.Event()
        seen: list[tuple[int, int]] = []

        async def read() -> None:
            while not stop.is_set():
                page = await ask.list(PROJECT, "acme", limit=1000)
                seen.append((len(page.rows), page.position))

        async def write() -> None:
            for i in range(300, 400):
                (position,) = await log.append("events", [envelope(project(f"p{i:03}"))])
                await runner.wait_for("resources", 0, position)

        readers = [asyncio.create_task(read()) for _ in range(2)]
        writing = asyncio.create_task(write())
        await asyncio.gather(*(runner.rebuild("resources") for _ in range(2)))
        await runner.rebuild("resources")
        await writing
        stop.set()
        await asyncio.gather(*readers)

        assert all(rows == position >= 300 for rows, position in seen)
        assert (await ask.list(PROJECT, "acme", limit=1000)).position == 400
        with store.reader.begin() as connection:
            live = connection.execute(
                select(GENERATIONS).where(GENERATIONS.c.read_model == "resources")
            ).all()
        assert [(r.generation, r.state) for r in live] == [(3, "live")]
        with pytest.raises(UnknownReadModel):
            await runner.rebuild("colours")


async def test_another_version_is_filled_and_then_swapped_in(store: Store, ask: ReadModels):
    log = MemoryLog()
    await log.append("events", [envelope(project(n)) for n in ("a", "b")])
    async with running(ProjectionRunner(log, store)):
        pass

    class Next(Resources):
        version = 2

    await log.append("events", [envelope(project("c"))])
    assert (await ask.list(PROJECT, "acme")).position == 2
    async with running(ProjectionRunner(log, store, [Next()])) as runner:
        assert [r.name for r in (await ask.list(PROJECT, "acme")).rows] == ["a", "b", "c"]
        assert runner.positions()["resources"] == {0: 3}
        await log.append("events", [envelope(project("d"))])
        await runner.wait_for("resources", 0, 4)
        assert len((await ask.list(PROJECT, "acme")).rows) == 4
    names = [name for name in inspect(store.reader).get_table_names() if name.startswith("resources_")]
    assert {"_".join(name.split("_")[:3]) for name in names} == {"resources_v2_g2"}


async def test_a_half_filled_rebuild_is_dropped_at_the_next_start(store: Store):
    writer = Writer(store, READ_MODELS, 1)
    writer.open()
    building = GenerationBuilder(store, Resources(), 1)
    assert building.begin()
    building.end()
    Writer(store, READ_MODELS, 1).open()
    with store.reader.begin() as connection:
        states = connection.execute(select(GENERATIONS.c.state)).scalars().all()
    assert set(states) == {"live"}
    assert not [
        n
        for n in inspect(store.reader).get_table_names()
        if n.startswith(building.progress.generation.prefix)
    ]
