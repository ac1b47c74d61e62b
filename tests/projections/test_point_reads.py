"""Resources as they are now are read from SQLite without a thread."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from threading import Event

import pytest

import projections.queries
from projections.failures import ReadModelsUnavailable
from projections.pages import NOW
from projections.queries import ReadModels
from projections.read_transactions import NotReady
from projections.resources import queries
from projections.store import Store
from schemas.aggregate import Aggregate
from schemas.aggregates.api import API
from schemas.aggregates.organization import ORGANIZATION, OrganizationDefined
from schemas.aggregates.project import PROJECT
from streams.log import Record
from tests.projections.conftest import Happen
from tests.projections.events import placed, project, project_deleted, published
from tests.projections.stores import sqlite_store
from tests.support.hang_guard import HANG_SECONDS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with sqlite_store(tmp_path) as store:
        yield store


@pytest.fixture
async def ask(store: Store) -> AsyncIterator[ReadModels]:
    models = ReadModels(store, threads=1)
    yield models
    models.close()


async def test_a_resource_is_read_while_all_threads_are_busy(happen: Happen, ask: ReadModels) -> None:
    happen(published())
    began, end = Event(), Event()

    def wait(_: object) -> None:
        began.set()
        end.wait()

    busy = asyncio.create_task(ask.ask(wait))
    await asyncio.to_thread(began.wait)
    try:
        assert await ask.get(API, "acme", "orders") is not None
    finally:
        end.set()
        await busy


async def test_it_is_the_row_that_a_read_transaction_has(happen: Happen, ask: ReadModels) -> None:
    happen(OrganizationDefined(organization="acme", name="acme"), project("kept"), project("gone"))
    happen(published(revision=1), published(revision=2), project_deleted("gone"))
    wanted: list[tuple[Aggregate, str]] = [
        (ORGANIZATION, "acme"),
        (PROJECT, "kept"),
        (PROJECT, "gone"),
        (PROJECT, "never"),
        (API, "orders"),
    ]

    for aggregate, name in wanted:
        read = await ask.ask(lambda s, a=aggregate, n=name: queries.get(s, a, "acme", n, NOW))
        assert await ask.get(aggregate, "acme", name) == read


async def test_queries_wait_for_what_was_answered(
    happen: Happen, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever way they read; one that waits too long is refused, rather than answered with less."""
    happen(project("kept"))
    arrived = asyncio.Event()
    asked: list[int] = []

    class Behind:
        advances = False

        def keeps_up(self, *_: object) -> bool:
            return self.advances

        async def wait_for(self, read_model: str, partition: int, position: int, /) -> None:
            asked.append(position)
            await arrived.wait()

    behind = Behind()
    models = ReadModels(store, progress=behind)
    new = [Record("events", 0, p.position, p.envelope) for p in placed(project("new"), first=2)]
    try:
        assert models.get_decided(PROJECT, "acme", "new", 1, new) is None
        behind.advances = True
        row = models.get_decided(PROJECT, "acme", "new", 1, new)
        assert row is not None
        assert (row.name, row.version, row.position) == ("new", 1, 2)
        late = await models.get(PROJECT, "acme", "kept", late=True)
        assert late is not None
        assert not asked
        monkeypatch.setattr(projections.queries, "ANSWERED_SECONDS", 0.01)
        with pytest.raises(ReadModelsUnavailable):
            await models.get(PROJECT, "acme", "new")
        monkeypatch.setattr(projections.queries, "ANSWERED_SECONDS", HANG_SECONDS)
        waiting = [
            asyncio.create_task(models.get(PROJECT, "acme", "new")),
            asyncio.create_task(models.list(PROJECT, "acme")),
        ]
        done, _ = await asyncio.wait(waiting, timeout=0)
        assert not done
        happen(project("new"))
        arrived.set()
        assert await waiting[0] == await ReadModels(store).get(PROJECT, "acme", "new")
        assert [r.name for r in (await waiting[1]).rows] == ["kept", "new"]
        assert set(asked) == {2}
        asked.clear()
        assert await models.get(PROJECT, "acme", "new") is not None
        assert not asked
    finally:
        models.close()


async def test_before_the_first_projection_nothing_is_ready(ask: ReadModels) -> None:
    with pytest.raises(NotReady):
        await ask.get(API, "acme", "orders")


async def test_a_generation_that_is_not_live_any_more_is_not_read(
    happen: Happen, ask: ReadModels, store: Store
) -> None:
    happen(published())
    assert await ask.get(API, "acme", "orders") is not None
    file = store.writer.url.database
    assert file is not None
    db = sqlite3.connect(file)
    db.execute("UPDATE generations SET state = 'retired' WHERE read_model = 'resources'")
    db.commit()
    db.close()

    with pytest.raises(NotReady):
        await ask.get(API, "acme", "orders")
