"""`signalbox migrate`: an embedded Signalbox goes on as it was on a real Kafka and PostgreSQL."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
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
from tests.support.calls import specification, until
from tests.support.hang_guard import HANG_SECONDS
from tests.support.running_signalbox import ROOT, RunningSignalbox

COPIED = (
    "admin.token",
    "gateway.token",
    "probe.key",
    "tokens.key",
    "signing.jwk",
    "trusted.jwks",
    "demo.port",
)


@dataclass
class MovedSignalbox(RunningSignalbox):
    """Everything in one process on Kafka and PostgreSQL."""

    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    def extra_environment(self) -> dict[str, str]:
        return {**self.environment, **super().extra_environment()}


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


def issued(directory: Path) -> None:
    """Has Signalbox create its keys for tokens."""
    subprocess.run(
        [
            *(sys.executable, "-m", "signalbox", "token", "create", "--organization", "default"),
            *("--subject", "billing", "--data", str(directory)),
        ],
        cwd=ROOT,
        capture_output=True,
        timeout=HANG_SECONDS,
        check=True,
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
        issued(harness.data)
        (harness.data / "demo.port").write_text("12345\n")
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
    copied = {file.name: file.read_text() for file in secrets.iterdir() if file.name != "integrity.key"}
    assert copied == {name: (harness.data / name).read_text() for name in COPIED}
    assert asyncio.run(projected(kafka_settings, tmp_path / "index", postgres_url)) == embedded
    moved = MovedSignalbox(secrets, environment=environment)
    try:
        moved.up("--no-envoy", "--engine", "kafka")
        until(lambda: "settings or the translator changed" in moved.log_file.read_text(), "a comparison")
        assert [line for line in moved.log_file.read_text().splitlines() if '"level":"warning"' in line] == []
    finally:
        moved.raze()


def test_a_directory_without_a_register_is_refused(environment: Mapping[str, str], tmp_path: Path) -> None:
    refused = migrate(environment, "--from", str(tmp_path))
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "holds no embedded Signalbox" in refused.stderr
