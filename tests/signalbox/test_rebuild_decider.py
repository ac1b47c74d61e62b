"""`signalbox rebuild decider`: the next start computes the deciders' state from the log."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaConsumer

from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from signalbox.settings import kafka_environment
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Log, StateSnapshot, Transaction
from streams.sqlite.log import SqliteLog
from tests.commands.shop import ORG
from tests.signalbox.conftest import Ran, Run
from tests.streams.decider_cases import desk, envelope
from tests.streams.kafka_deciders import command, decided, decider
from tests.support.hang_guard import HANG_SECONDS

SHOP = f"organizations/{ORG}/projects/shop"


async def with_false_snapshots(log: Log) -> None:
    """Gives each subject a version that its events do not have."""
    position, kept = await log.snapshots("decider", 0)
    await log.commit(Transaction(snapshots=[false(snapshot, position) for snapshot in kept]))


def false(snapshot: StateSnapshot, position: int) -> StateSnapshot:
    content = orjson.loads(snapshot.state)
    if "version" in content:
        content["version"] = 99
    return replace(snapshot, position=position, state=orjson.dumps(content))


async def embedded(directory: Path) -> None:
    async with desk(directory, snapshot_every=1) as at:
        await at.decide(envelope(DefineOrganization(organization=ORG, name=ORG)))
        await at.decide(envelope(DefineProject(organization=ORG, name="shop")))
        await with_false_snapshots(at.log)


async def version(directory: Path) -> int:
    async with desk(directory) as at:
        return at.decider.partition_state.version(SHOP)


def test_the_state_is_computed_from_the_events_once_the_snapshots_are_dropped(
    bare: Run, tmp_path: Path
) -> None:
    asyncio.run(embedded(tmp_path / "data"))
    assert asyncio.run(version(tmp_path / "data")) == 99

    ran = bare("rebuild", "decider", "--data", str(tmp_path / "data"))

    assert (ran.code, ran.out) == (
        0,
        "decider: 3 snapshots dropped; the next start replays the events\n",
    )
    assert asyncio.run(version(tmp_path / "data")) == 1


def test_a_running_signalbox_is_left_alone(bare: Run, tmp_path: Path) -> None:
    async def while_it_runs() -> tuple[int, str]:
        log = await SqliteLog.open(tmp_path / "data")
        try:
            ran = await asyncio.to_thread(bare, "rebuild", "decider", "--data", str(tmp_path / "data"))
        finally:
            await log.close()
        return ran.code, ran.err

    code, message = asyncio.run(while_it_runs())

    assert code == 1
    assert "is in use" in message
    assert "stop Signalbox first" in message


def test_a_directory_without_a_log_is_named(bare: Run, tmp_path: Path) -> None:
    ran = bare("rebuild", "decider", "--data", str(tmp_path))

    assert (ran.code, f"{tmp_path} holds no event log" in ran.err) == (3, True)
    assert not (tmp_path / "log.db").exists()


async def on_kafka(settings: KafkaSettings, directory: Path) -> None:
    log = await KafkaLog.open(settings, directory)
    deciding = decider(log)
    deciding.snapshot_every = 1
    await deciding.start()
    await decided(log, deciding, [command("c-1"), command("c-2", "shop")])
    await with_false_snapshots(log)
    await deciding.stop()
    await log.close()


async def version_on_kafka(settings: KafkaSettings, directory: Path) -> int:
    log = await KafkaLog.open(settings, directory)
    deciding = decider(log)
    await deciding.start()
    found = deciding.partition_state.version("organizations/acme/projects/shop")
    await deciding.stop()
    await log.close()
    return found


async def with_a_decider(settings: KafkaSettings, do: Callable[[], Ran]) -> Ran:
    """`do` in a thread, while a process is in the consumer group of the deciders."""
    consumer = AIOKafkaConsumer(
        settings.topic("commands"), **settings.client(), group_id=settings.group("decider")
    )
    await consumer.start()
    try:
        async with asyncio.timeout(HANG_SECONDS):
            while not consumer.assignment():
                await consumer.getmany(timeout_ms=100)
        return await asyncio.to_thread(do)
    finally:
        await consumer.stop()


def test_snapshots_on_kafka_are_dropped_while_no_decider_runs(
    bare: Run, kafka_settings: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in kafka_environment(kafka_settings).items():
        monkeypatch.setenv(name, value)
    asyncio.run(on_kafka(kafka_settings, tmp_path / "a"))
    assert asyncio.run(version_on_kafka(kafka_settings, tmp_path / "b")) == 99
    arguments = ("rebuild", "decider", "--engine", "kafka", "--data", str(tmp_path / "c"))

    refused = asyncio.run(with_a_decider(kafka_settings, lambda: bare(*arguments)))

    assert refused.code == 1
    assert f"1 process(es) are in the group {kafka_settings.group('decider')}" in refused.err
    assert asyncio.run(version_on_kafka(kafka_settings, tmp_path / "e")) == 99

    ran = bare(*arguments)

    assert (ran.code, ran.err) == (0, "")
    assert asyncio.run(version_on_kafka(kafka_settings, tmp_path / "d")) == 1
