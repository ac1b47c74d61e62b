"""`signalbox migrate`: an embedded Signalbox goes on as it was on a real Kafka and PostgreSQL."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from projections.catalog import READ_MODELS
from projections.store import Store, live, open_store
from signalbox.settings import kafka_environment
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.projection import ProjectionRunner
from tests.support.calls import specification
from tests.support.hang_guard import HANG_SECONDS
from tests.support.running_signalbox import ROOT, RunningSignalbox


@pytest.fixture
def environment(kafka_settings: KafkaSettings, postgres_url: str) -> Mapping[str, str]:
    return {
        **os.environ,
        **kafka_environment(kafka_settings),
        "SIGNALBOX_POSTGRES": postgres_url,
    }


def migrate(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "signalbox", "migrate", *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )


def rows(store: Store) -> dict[str, list[str]]:
    """Everything the read models hold, by the name of the table without the generation's."""
    found: dict[str, list[str]] = {}
    with store.reader.connect() as connection:
        generations = live(connection)
        for model in READ_MODELS:
            prefix = generations[model.name].prefix
            for table in model.metadata(prefix).sorted_tables:
                kept: list[tuple[Any, ...]] = [tuple(row) for row in connection.execute(select(table))]
                found[table.name.removeprefix(prefix)] = sorted(map(repr, kept))
    return found


async def projected(kafka: KafkaSettings, directory: Path, url: str) -> dict[str, list[str]]:
    """What read models in PostgreSQL hold once they have taken in all that is on Kafka."""
    log = await KafkaLog.open(kafka, directory)
    store = open_store(url)
    runner = ProjectionRunner(log, store)
    running = asyncio.create_task(runner.run())
    async with asyncio.timeout(HANG_SECONDS):
        await runner.ready.wait()
    found = rows(store)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    store.close()
    await log.close()
    return found


def test_migrated_data_is_the_same_on_kafka(
    kafka_settings: KafkaSettings,
    postgres_url: str,
    environment: Mapping[str, str],
    upstream: str,
    tmp_path: Path,
) -> None:
    harness = RunningSignalbox(tmp_path / "data")
    try:
        harness.up("--no-envoy")
        calls = harness.calls()
        for name, title in (("orders", "first"), ("billing", "only"), ("orders", "second")):
            calls.publish(name, specification(f"/{name}", upstream, display_name=title))
        calls.deploy("orders")
        calls.close()
        harness.until_quiet()
        refused = migrate(environment, "--from", str(harness.data))
        assert (refused.returncode, "is in use" in refused.stderr) == (1, True)
        assert harness.down() == 0
        before = open_store(harness.data / "readmodels.db")
        embedded = rows(before)
        before.close()
        secrets = tmp_path / "secrets"
        output = migrate(environment, "--from", str(harness.data), "--secrets", str(secrets), "-o", "json")
        assert output.returncode == 0, output.stderr
    finally:
        harness.raze()
    proof = json.loads(output.stdout)
    (chain,) = proof["chains"]
    assert chain["events"] == chain["last"] == 8
    assert proof["configuration"] > 0
    assert {topic["topic"] for topic in proof["topics"]} >= {"commands", "events", "outcomes"}
    assert (secrets / "admin.token").read_text() == (harness.data / "admin.token").read_text()
    assert asyncio.run(projected(kafka_settings, tmp_path / "index", postgres_url)) == embedded


def test_a_directory_without_a_register_is_refused(environment: Mapping[str, str], tmp_path: Path) -> None:
    refused = migrate(environment, "--from", str(tmp_path))
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "holds no embedded Signalbox" in refused.stderr
