"""PostgreSQL that is unavailable or suspended: nothing is lost or doubled, and queries fail soon."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, event, select, text

from projections import read_transactions
from projections.catalog import READ_MODELS
from projections.databases import postgres
from projections.failures import ReadModelsUnavailable
from projections.queries import ReadModels
from projections.readmodel import Recorded
from projections.store import GENERATIONS, PARKED, Store, open_store
from schemas.message import Message
from signalbox.devservers.postgres.server import DevPostgres
from streams.log import Record, Topic
from streams.projection import ProjectionRunner, checkpoints
from streams.projection.checkpoints import CheckpointWaiter
from streams.projection.dead_letters import DeadLetters
from streams.projection.progress import Batches
from streams.projection.writer import Writer
from tests.projections.events import (
    deleted,
    delivery,
    envelope,
    node,
    outcome,
    placed,
    project,
    published,
    started,
)
from tests.projections.stores import postgres_copy, postgres_store
from tests.streams.batches import batch
from tests.streams.gapped_log import STEP, GappedLog
from tests.streams.projectors import Tally, follow, projector, tallied
from tests.support.hang_guard import HANG_SECONDS


@pytest.mark.parametrize("host", [True, False], ids=["fed by a host", "feeding itself"])
async def test_a_server_killed_under_load_is_caught_up_with(
    own_postgres: DevPostgres, host: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checkpoints, "BATCH", 3)  # so that the rebuild is under way when the server dies
    url = own_postgres.start()
    log = GappedLog()
    store = open_store(url)
    waiter = CheckpointWaiter(log, store, [Tally()])
    ask = ReadModels(store, behind=waiter.behind)
    parked = DeadLetters(log, store, [Tally()])
    runner = ProjectionRunner(log, store, [Tally()], batch=7)
    tasks = [
        asyncio.create_task(waiter.run()),
        asyncio.create_task(runner.host() if host else runner.run()),
        asyncio.create_task(_append(log, 600)),
    ]
    if host:
        tasks.append(asyncio.create_task(follow(runner, log, 0)))
    try:
        async with asyncio.timeout(HANG_SECONDS):
            for kill in range(2):
                await _unless_ended(tasks[:2], waiter.wait_for("tally", 0, (50 + 200 * kill) * STEP))
                tasks.append(asyncio.create_task(waiter.rebuild("tally")))
                await _unless_ended(tasks[-1:], _building(store))
                own_postgres.kill()
                while not waiter.trouble:
                    with pytest.raises(ReadModelsUnavailable):
                        await ask.parked()
                with pytest.raises(ReadModelsUnavailable):
                    await parked.retry("tally", "one")
                assert not tasks[1].done()
                await asyncio.to_thread(own_postgres.start)
            await _unless_ended(tasks[:2], tasks[-1])
            await _unless_ended(tasks[:2], waiter.wait_for("tally", 0, 600 * STEP))
            assert (await ask.parked(), waiter.trouble, runner.trouble) == ([], "", "")
            assert tallied(store) == [(0, n * STEP) for n in range(1, 601)]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await parked.close()
        ask.close()
        store.close()


async def _unless_ended(running: Sequence[asyncio.Task[None]], waiting: Awaitable[None]) -> None:
    """Awaits `waiting`; fails with the error of what must run meanwhile if that ends."""
    waited = asyncio.ensure_future(waiting)
    await asyncio.wait([waited, *running], return_when=asyncio.FIRST_COMPLETED)
    if not waited.done():
        waited.cancel()
        for task in running:
            if task.done():
                pytest.fail(f"ended: {task.exception()!r}")
    await waited


async def _building(store: Store) -> None:
    """Returns when a generation is being filled."""
    while True:
        with store.reader.begin() as connection:
            if "building" in connection.execute(select(GENERATIONS.c.state)).scalars().all():
                return
        await asyncio.sleep(0.001)


async def _append(log: GappedLog, count: int) -> None:
    for n in range(1, count + 1):
        await log.append("events", [envelope(project(f"p{n}"))])
        await asyncio.sleep(0.001)


async def test_the_lag_is_reported_while_the_server_is_gone(own_postgres: DevPostgres):
    url = own_postgres.start()
    log = GappedLog()
    await log.append("events", [envelope(project(f"p{n}")) for n in range(4)])
    store = open_store(url)
    waiter = CheckpointWaiter(log, store, [Tally()])
    ask = ReadModels(store, behind=waiter.behind)
    listening = asyncio.create_task(waiter.run())
    async with projector(log, url) as runner, asyncio.timeout(HANG_SECONDS):
        await runner.take("events", 0, await log.read("events", 0, 0, 1))
        await waiter.wait_for("tally", 0, STEP)
        own_postgres.kill()
        output: dict[str, int] = {}
        while not output:
            with pytest.raises(ReadModelsUnavailable) as caught:
                await ask.position("tally")
            output = caught.value.behind
            await asyncio.sleep(0.05)
        assert output == {"tally": 3 * STEP}
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    ask.close()
    store.close()


async def test_a_suspended_server_blocks_no_caller(empty_read_models: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(read_transactions, "QUERY_SECONDS", 0.3)
    with postgres_store(empty_read_models) as store:
        ask = ReadModels(store, threads=2)
        with store.writer.begin() as connection:
            connection.execute(text("LOCK TABLE generations IN ACCESS EXCLUSIVE MODE"))
            for _ in range(2):
                with pytest.raises(ReadModelsUnavailable):
                    await ask.position()
            # Both threads are held: the next one is not even begun, whatever time a query may take.
            monkeypatch.setattr(read_transactions, "QUERY_SECONDS", 3600)
            async with asyncio.timeout(HANG_SECONDS):
                with pytest.raises(ReadModelsUnavailable):
                    await ask.position()
        async with asyncio.timeout(HANG_SECONDS):
            assert await _position(ask) == 0
        ask.close()


async def _position(ask: ReadModels) -> int:
    """Returns when it is notified."""
    while True:
        try:
            return await ask.position()
        except ReadModelsUnavailable:
            await asyncio.sleep(0.02)


class Slow(Tally):
    """Stands still in the middle of its first transaction, until the server has ended its connection."""

    attempts = 0

    def __init__(self, store: Store) -> None:
        super().__init__()
        self._store = store

    def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
        self.attempts += 1
        if self.attempts == 1:
            process: int = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            while self._connected(process):
                time.sleep(0.01)
        super().project(connection, prefix, records)

    def _connected(self, process: int) -> bool:
        statement = text("SELECT 1 FROM pg_stat_activity WHERE pid = :pid")
        with self._store.reader.begin() as connection:
            return connection.execute(statement, {"pid": process}).first() is not None


async def test_a_suspended_projector_blocks_no_other_and_begins_again(
    empty_read_models: str, monkeypatch: pytest.MonkeyPatch
):
    settings = (*postgres.ALWAYS, "SET idle_in_transaction_session_timeout = '2s'")
    monkeypatch.setattr(postgres, "ALWAYS", settings)
    log = GappedLog()
    await log.append("events", [envelope(project(f"p{n}")) for n in range(2)])
    with postgres_copy(empty_read_models) as url:
        store = open_store(url)
        slow = Slow(store)
        async with projector(log, url, [slow]) as stopped, asyncio.timeout(HANG_SECONDS):
            await stopped.take("events", 0, await log.read("events", 0, 0, 2))
            assert tallied(store) == [(0, STEP), (0, 2 * STEP)]
            assert slow.attempts >= 2, "more when the machine stands still"
        with store.reader.begin() as connection:
            assert connection.execute(select(PARKED)).all() == []
        store.close()


# A crash at every statement


class Crash(BaseException):
    """The process is gone."""


def _records(topic: Topic, messages: Sequence[Message], first: int = 1) -> list[Record]:
    return [Record(topic, 0, p.position, p.envelope) for p in placed(*messages, first=first)]


BEFORE: dict[str, Batches] = {"events": batch(_records("events", [published(revision=1), started("d1")]))}
EVENTS = [published(revision=2), deleted(), published("b", 1), published(revision=1), started("d2")]
BATCH: dict[str, Batches] = {
    "events": batch(_records("events", EVENTS, 3)),
    "outcomes": batch(_records("outcomes", [outcome("c1"), outcome("c2")])),
    "status": batch(_records("status", [node("n1", True, 1), delivery("d1", "acknowledged", 2, node="n1")])),
}


@pytest.mark.parametrize("moment", ["before_cursor_execute", "commit"])
def test_a_crash_at_every_statement_applies_nothing_twice(empty_read_models: str, moment: str):
    with postgres_store(empty_read_models) as store, postgres_store(empty_read_models) as whole:
        _opened(whole).apply(BEFORE)
        _opened(whole).apply(BATCH)
        _opened(store).apply(BEFORE)
        before = _contents(store)
        crashes = 0
        while _crashes(store, moment, crashes):
            assert _contents(store) == before
            crashes += 1
        assert crashes >= (1 if moment == "commit" else 12)
        assert _contents(store) == _contents(whole) != before
        _opened(store).apply(BATCH)
        assert _contents(store) == _contents(whole)


def _opened(store: Store) -> Writer:
    writer = Writer(store, READ_MODELS, 1)
    writer.open()
    return writer


def _contents(store: Store) -> dict[str, list[str]]:
    metadata = MetaData()
    with store.reader.begin() as connection:
        metadata.reflect(connection)
        return {
            t.name: sorted(str(tuple(row)) for row in connection.execute(select(t)))
            for t in metadata.sorted_tables
        }


def _crashes(store: Store, moment: str, after: int) -> bool:
    """Applies the batch and crashes at its statement number `after`; False when it has no such statement."""
    writer, left = _opened(store), after

    def strike(*_: Any) -> None:
        nonlocal left
        if left == 0:
            raise Crash
        left -= 1

    event.listen(store.writer, moment, strike)
    try:
        writer.apply(BATCH)
    except Crash:
        return True
    finally:
        event.remove(store.writer, moment, strike)
    return False
