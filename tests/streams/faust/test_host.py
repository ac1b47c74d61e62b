"""Read models fed through Faust, on a real Kafka and a real PostgreSQL: each event once, whatever happens."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import aiokafka
import pytest
from sqlalchemy.exc import OperationalError

from projections.operations import Operations
from projections.readmodel import ReadModel
from projections.resources.model import Resources
from schemas.catalog import BY_NAME
from signalbox.devservers.kafka.server import DevKafka
from signalbox.devservers.postgres.server import DevPostgres
from streams.kafka.inspection import describe
from streams.kafka.messages.wire import encode
from streams.kafka.settings import KafkaSettings
from streams.log import Fenced, LogUnavailable
from tests.streams.faust.hosts import Harness, Tally, projects, until
from tests.support.real_kafka import settings_for

PROJECT = BY_NAME["project"]
Open = Callable[..., Awaitable[Harness]]
SettingsOf = Callable[[int], KafkaSettings]


@pytest.fixture
async def open_harness(
    kafka_settings_of: SettingsOf, tmp_path: Path
) -> AsyncIterator[Callable[[str, int, Sequence[ReadModel]], Awaitable[Harness]]]:
    async with AsyncExitStack() as parts:

        async def open_harness(url: str, partitions: int, models: Sequence[ReadModel]) -> Harness:
            harness = Harness(kafka_settings_of(partitions), url, tmp_path, models, parts)
            await harness.open()
            for partition in range(partitions):
                await harness.log.claim(partition)
            return harness

        yield open_harness


async def _all_counted(harness: Harness, ids: set[str]) -> None:
    async def counted() -> bool:
        try:
            return len(await harness.tally()) >= len(ids)
        except OperationalError:  # a connection from before the database was away
            return False

    await until(counted)
    found = await harness.tally()
    assert (len(found), set(found)) == (len(ids), ids)
    assert await harness.read_models.parked() == []


async def test_events_flow_and_an_aborted_transaction_is_never_seen(open_harness: Open, postgres_url: str):
    harness = await open_harness(postgres_url, 1, [Tally()])
    await harness.host()
    first, ghosts, second = projects(3), projects(3), projects(3)

    await harness.append("events", *first)
    producer = aiokafka.AIOKafkaProducer(
        **harness.settings.client(), transactional_id=harness.settings.prefix
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        for ghost in ghosts:
            value, headers = encode(ghost)
            await producer.send(harness.settings.topic("events"), value, partition=0, headers=headers)
        await producer.flush()
        await producer.abort_transaction()
    finally:
        await producer.stop()
    for one in second:  # in a transaction each: every other offset is a control record
        await harness.append("events", one)

    await _all_counted(harness, {e.id for e in [*first, *second]})


async def test_poison_is_parked_with_its_reason_and_others_flow(open_harness: Open, postgres_url: str):
    harness = await open_harness(postgres_url, 1, [Resources(), Operations()])
    await harness.host()
    good, bad, behind, other = projects(4)
    poison = replace(bad, data={**bad.data, "strange": True})
    later = replace(behind, subject=bad.subject, data=bad.data)

    await harness.append("events", good, poison, later, other)

    async def arrived() -> bool:
        return await harness.read_models.get(PROJECT, "acme", "p3") is not None

    await until(arrived)
    parked = await harness.read_models.parked()
    assert [(p["position"], p["subject"]) for p in parked] == [(2, bad.subject), (3, bad.subject)]
    assert "strange" in parked[0]["reason"]
    assert "waits" in parked[1]["reason"]
    assert await harness.read_models.get(PROJECT, "acme", "p0") is not None


async def test_without_postgresql_it_waits_and_then_catches_up(open_harness: Open, own_postgres: DevPostgres):
    harness = await open_harness(own_postgres.start(), 1, [Tally()])
    running = await harness.host()
    before, during = projects(5), projects(50)
    await harness.append("events", *before)
    await _all_counted(harness, {e.id for e in before})

    own_postgres.kill()
    for start in range(0, len(during), 10):
        await harness.append("events", *during[start : start + 10])
    await until(lambda: bool(running.runner.trouble))
    own_postgres.start()

    await _all_counted(harness, {e.id for e in [*before, *during]})
    await until(lambda: not running.runner.trouble)


async def test_partitions_that_move_in_the_middle_of_batches_lose_nothing_and_double_nothing(
    open_harness: Open, postgres_url: str
):
    harness = await open_harness(postgres_url, 4, [Tally()])
    organizations = [f"org{i}" for i in range(12)]
    assert len({harness.log.partition_of(o) for o in organizations}) == 4
    ids: set[str] = set()
    moving = asyncio.Event()

    async def load() -> None:
        while not moving.is_set():
            for organization in organizations:
                events = projects(5, organization)
                await harness.append("events", *events)
                ids.update(e.id for e in events)

    first = await harness.host()
    loading = asyncio.create_task(load())
    second = await harness.host()
    await until(lambda: len(first.partitions("events")) == len(second.partitions("events")) == 2)
    assert first.partitions("status") == first.partitions("events")
    await first.stop()
    await until(lambda: len(second.partitions("events")) == 4)
    third = await harness.host()
    await until(lambda: len(third.partitions("events")) == 2)
    moving.set()
    await loading

    assert len(ids) > 200
    await _all_counted(harness, ids)


async def members(harness: Harness) -> int:
    """How many processes are in the group of projectors."""
    (group,) = (await describe(harness.settings, [harness.settings.group("projector")]))[1]
    return len(group.members)


async def test_a_stop_finishes_the_batch_commits_its_offset_and_leaves_the_group_at_once(
    open_harness: Open, postgres_url: str
):
    harness = await open_harness(postgres_url, 1, [Tally()])
    running = await harness.host()
    events = projects(2_000)
    for start in range(0, len(events), 500):
        await harness.append("events", *events[start : start + 500])

    async def begun() -> bool:
        return len(await harness.tally()) > 0

    await until(begun)
    await running.stop()
    assert await members(harness) == 0, "it does not leave its session to run out"

    at = await harness.read_models.position("tally", 0)
    assert await harness.log.consumed("projector", "events", 0) == at
    await harness.host()
    await _all_counted(harness, {e.id for e in events})


async def test_a_broker_that_is_killed_and_comes_back_costs_nothing_and_no_stop_waits_for_it(
    own_kafka: DevKafka, postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async with AsyncExitStack() as parts:
        settings = settings_for(own_kafka, 1)
        harness = Harness(settings, postgres_url, tmp_path, [Tally()], parts)
        await harness.open()
        await harness.log.claim(0)
        running = await harness.host()
        before = projects(20)
        await harness.append("events", *before)
        await _all_counted(harness, {e.id for e in before})

        own_kafka.kill()
        own_kafka.start()

        async def written() -> bool:
            try:
                await harness.log.claim(0)
                await harness.append("events", *projects(20))
            except (LogUnavailable, Fenced):
                return False
            return True

        await until(written)
        ids: set[str] = set()
        at = 0
        while records := await harness.log.read("events", 0, at, 1000):
            ids |= {record.envelope.id for record in records}
            at = records[-1].position
        assert len(ids) >= 40
        await _all_counted(harness, ids)

        threads = {thread for thread in threading.enumerate() if not thread.daemon}
        own_kafka.kill()
        await running.stop()
        assert {thread for thread in threading.enumerate() if not thread.daemon} <= threads
        assert "not waited for: the consumer" in caplog.text
        # Its thread ends with the broker back, and logs nothing during other tests.
        own_kafka.start()
        consumers = [thread for thread in threading.enumerate() if type(thread).__name__ == "_Worker"]
        await until(lambda: not any(thread.is_alive() for thread in consumers))
