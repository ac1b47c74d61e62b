"""Read models of another log are refused by every process that opens them: with a sentence, and unchanged."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select

from projections.store import CHECKPOINTS, open_store
from schemas.aggregates.organization import DefineOrganization
from signalbox.roles.runner import everything
from signalbox.settings import Address, Settings, kafka_environment
from streams.decider.decider import Decider
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import LogError
from streams.projection import ProjectionRunner
from streams.projection.opening import open_store_of
from streams.sqlite.checks.directory import check
from streams.sqlite.log import SqliteLog
from tests.commands.shop import ORG
from tests.streams.decider_cases import desk, envelope
from tests.support.free_ports import free_port
from tests.support.hang_guard import HANG_SECONDS
from tests.support.running_signalbox import ROOT

SettingsOf = Callable[[int], KafkaSettings]


async def filled(kafka: KafkaSettings, url: str, directory: Path) -> None:
    """Read models of a log with one event."""
    log = await KafkaLog.open(kafka, directory)
    decider = Decider(log, log.partition_of(ORG), "/test", lambda decisions, seconds: None)
    await decider.start()
    deciding = asyncio.create_task(decider.run())
    await log.append("commands", [envelope(DefineOrganization(organization=ORG, name=ORG))])
    await log.wait("events", log.partition_of(ORG), 0)
    store = await open_store_of(log, url)
    runner = ProjectionRunner(log, store)
    projecting = asyncio.create_task(runner.run())
    async with asyncio.timeout(HANG_SECONDS):
        await runner.ready.wait()
    for task in (projecting, deciding):
        task.cancel()
    await asyncio.gather(projecting, deciding, return_exceptions=True)
    await decider.stop()
    store.close()
    await log.close()


def checkpoints(url: str) -> list[tuple[object, ...]]:
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(select(CHECKPOINTS))]
    engine.dispose()
    return sorted(rows, key=repr)


def signalbox(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "signalbox", *arguments],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )


def test_a_database_of_another_prefix_is_refused(
    kafka_settings_of: SettingsOf, postgres_url: str, tmp_path: Path
) -> None:
    theirs, ours = kafka_settings_of(1), kafka_settings_of(2)
    asyncio.run(filled(theirs, postgres_url, tmp_path / "index"))
    before = checkpoints(postgres_url)
    environment = {
        **kafka_environment(ours),
        "SIGNALBOX_POSTGRES": postgres_url,
        "SIGNALBOX_HTTP": f"127.0.0.1:{free_port()}",
    }
    asyncio.run(topics(ours, tmp_path / "ours"))

    for role in ("api", "projector"):
        refused = signalbox(environment, "run", role, "--data", str(tmp_path / role))

        assert refused.returncode == 1
        assert f"computed from another log: {theirs.topic('events')} in Kafka" in refused.stderr
        assert f"This log is {ours.topic('events')} in Kafka" in refused.stderr
        assert "set SIGNALBOX_POSTGRES to another database" in refused.stderr
        assert "Traceback" not in refused.stderr

    looked_at = signalbox(environment, "doctor", "--engine", "kafka", "--data", str(tmp_path / "api"))
    assert f"computed from another log: {theirs.topic('events')} in Kafka" in looked_at.stdout
    assert checkpoints(postgres_url) == before


async def topics(kafka: KafkaSettings, directory: Path) -> None:
    await (await KafkaLog.open(kafka, directory)).close()


async def test_a_database_of_the_last_release_belongs_to_its_log_from_then_on(
    kafka_settings_of: SettingsOf, postgres_url: str, tmp_path: Path
) -> None:
    kafka = kafka_settings_of(1)
    await filled(kafka, postgres_url, tmp_path / "index")
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE source_log")
    engine.dispose()
    log = await KafkaLog.open(kafka, tmp_path / "again")
    other = await KafkaLog.open(replace(kafka, prefix=f"{kafka.prefix}-b"), tmp_path / "other")
    try:
        with pytest.raises(LogError, match=r"its checkpoint of events/0 is \d+, where this log ends at 0"):
            await open_store_of(other, postgres_url)
        (await open_store_of(log, postgres_url)).close()
        with pytest.raises(LogError, match=f"another log: {kafka.topic('events')} in Kafka"):
            await open_store_of(other, postgres_url)
    finally:
        await log.close()
        await other.close()


async def embedded(directory: Path) -> None:
    """A data directory with a log and its read models."""
    async with desk(directory) as at:
        await at.decide(envelope(DefineOrganization(organization=ORG, name=ORG)))
        store = await open_store_of(at.log, directory / "readmodels.db")
        runner = ProjectionRunner(at.log, store)
        projecting = asyncio.create_task(runner.run())
        async with asyncio.timeout(HANG_SECONDS):
            await runner.ready.wait()
        projecting.cancel()
        await asyncio.gather(projecting, return_exceptions=True)
        store.close()


async def test_read_models_copied_from_another_data_directory_are_refused(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    await embedded(theirs)
    await (await SqliteLog.open(ours)).close()
    shutil.copy(theirs / "readmodels.db", ours)
    http, xds = (Address("127.0.0.1", free_port()) for _ in range(2))

    with pytest.raises(LogError) as refused:
        async with everything(Settings(data=ours, envoy=False, http=http, xds=xds)) as roles:
            await roles.started()
            raise AssertionError("started")

    assert f"another log: {theirs / 'log.db'} (" in str(refused.value)
    assert f"This log is {ours / 'log.db'} (" in str(refused.value)
    assert "move the file out of the directory" in str(refused.value)
    assert any("computed from another log" in finding.message for finding in check(ours))


async def test_read_models_of_the_same_data_directory_are_opened_again(tmp_path: Path) -> None:
    await embedded(tmp_path)

    await embedded(tmp_path)

    assert check(tmp_path) == []
    open_store(tmp_path / "readmodels.db").close()
