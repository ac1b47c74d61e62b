"""A rebuild whose rows another process computes: the same tables, whatever happens on the way."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Table, select

from projections.resources import computing
from projections.resources.computing import VersionsComputation
from projections.resources.model import Resources
from projections.resources.tables import tables
from projections.store import PARKED, Store, live, open_store
from schemas.envelope import Envelope
from streams.log import Append, Transaction
from streams.projection import ProjectionRunner, rebuilder
from streams.projection.computing_process import ComputingProcess
from streams.sqlite.log import SqliteLog
from tests.projections.events import deleted, envelope, placed, project, published

Tables = dict[str, list[tuple[Any, ...]]]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    of: Path | str = tmp_path / "readmodels.db"
    if request.param == "postgres":
        of = request.getfixturevalue("postgres_url")
    store = open_store(of)
    yield store
    store.close()


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    log = await SqliteLog.open(tmp_path / "log")
    yield log
    await log.close()


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[ComputingProcess]:
    """The processes that computed rows; any number of records is worth one."""
    started: list[ComputingProcess] = []

    class Counted(ComputingProcess):
        def __init__(self, *work: Any) -> None:
            super().__init__(*work)
            started.append(self)

    monkeypatch.setattr(rebuilder, "MANY", 1)
    monkeypatch.setattr("streams.projection.rebuilder.cores", lambda: 2)
    monkeypatch.setattr(rebuilder, "ComputingProcess", Counted)
    return started


def history(count: int) -> list[Envelope]:
    """APIs that are published again, and some deleted and created again; projects once each."""
    events: list[Envelope] = []
    for i in range(count):
        name = f"api-{i % 97}"
        events.append(envelope(published(name, revision=i // 97 + 1), i))
        events.append(envelope(project(f"p-{i}"), i))
        if i % 11 == 10:
            events.append(envelope(deleted(name), i))
    return events


async def append(log: SqliteLog, events: list[Envelope]) -> None:
    await log.commit(Transaction([Append("events", 0, events)]))


def in_order(connection: Connection, table: Table) -> list[tuple[Any, ...]]:
    rows = connection.execute(select(table).order_by(*table.primary_key.columns)).all()
    return [tuple[Any, ...](row) for row in rows]


def contents(store: Store) -> Tables:
    """The rows of the live generation, by table without its prefix."""
    found: Tables = {}
    with store.reader.begin() as connection:
        prefix = live(connection)["resources"].prefix
        for table in tables(prefix).metadata.sorted_tables:
            found[table.name.removeprefix(prefix)] = in_order(connection, table)
        parked = select(PARKED.c.position, PARKED.c.reason).order_by(PARKED.c.position)
        found["parked"] = [tuple[Any, ...](row) for row in connection.execute(parked)]
    return found


async def rebuilt(log: SqliteLog, store: Store) -> tuple[Tables, Tables]:
    """The tables before and after a rebuild."""
    runner = ProjectionRunner(log, store, [Resources()])
    running = asyncio.create_task(runner.run())
    try:
        await runner.wait_for("resources", 0, await log.end("events", 0))
        before = contents(store)
        await runner.rebuild("resources")
        return before, contents(store)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_another_process_computes_the_same_rows(
    log: SqliteLog, store: Store, computed: list[ComputingProcess]
):
    await append(log, history(7_000))
    before, after = await rebuilt(log, store)
    assert after == before
    assert sum(map(len, after.values())) > 20_000
    assert len(computed) == 1


async def test_from_a_record_that_cannot_be_projected_this_process_goes_on(
    log: SqliteLog, store: Store, computed: list[ComputingProcess]
):
    events = history(6_000)
    events[9_000].data["colour"] = "green"
    await append(log, events)
    before, after = await rebuilt(log, store)
    assert after == before
    assert after["parked"][0][0] == 9_001
    assert len(computed) == 1


async def test_a_process_that_ends_early_is_replaced(
    log: SqliteLog, store: Store, computed: list[ComputingProcess], monkeypatch: pytest.MonkeyPatch
):
    await append(log, history(6_000))
    written = ComputingProcess.written

    def killed(process: ComputingProcess, position: int) -> None:
        process.kill()
        written(process, position)

    monkeypatch.setattr(ComputingProcess, "written", killed)
    before, after = await rebuilt(log, store)
    assert after == before


class Unused(Engine):
    """Fails when it is used."""

    def __init__(self) -> None:
        """Has nothing that an engine needs."""


def test_versions_that_are_forgotten_are_read_from_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Only those that the tables contain are forgotten."""
    monkeypatch.setattr(computing, "KEPT_BYTES", 0)
    store, model = open_store(tmp_path / "readmodels.db"), Resources()
    with store.writer.begin() as connection:
        model.metadata("a").create_all(connection)
        model.metadata("b").create_all(connection)
    forgetting = model.computation("a", store.reader, empty=True)
    records = placed(*(published(f"api-{i % 5}", revision=i + 1) for i in range(40)))
    for start in range(0, 40, 4):
        batch = records[start : start + 4]
        rows = forgetting.rows(batch, start)
        with store.writer.begin() as connection:
            model.write(connection, "a", rows)
            model.project(connection, "b", batch)
    with store.reader.begin() as connection:
        for ours, theirs in zip(
            tables("a").metadata.sorted_tables, tables("b").metadata.sorted_tables, strict=True
        ):
            assert in_order(connection, ours) == in_order(connection, theirs)
    store.close()


def test_while_all_versions_fit_the_tables_are_not_read():
    computation = VersionsComputation("a", Unused(), empty=True)
    first = computation.rows(placed(published("orders")), 0)
    second = computation.rows(placed(published("orders", revision=2), first=2), 0)
    closed = second[0][1][0]
    assert [name for name, _ in first] == ["api"]
    assert [row[:4] for row in closed] == [("acme", "orders", 1, 2)]
