"""Signalbox on Kafka goes on with the topics of an earlier release."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from signalbox.devservers.kafka.server import DevKafka
from signalbox.settings import kafka_environment
from streams.decider.chain import ChainReport, verify
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from tests.releases.conftest import recorded, unpack
from tests.releases.content import answers, parked
from tests.releases.topics import load, write_topics
from tests.support.calls import specification
from tests.support.multi_process import MultiProcessSignalbox
from tests.support.real_kafka import settings_for


@dataclass
class OnKeptTopics(MultiProcessSignalbox):
    settings: KafkaSettings = field(default_factory=KafkaSettings)
    url: str = ""

    def serve(self) -> None:
        self.environment = {
            **os.environ,
            **kafka_environment(self.settings),
            "SIGNALBOX_POSTGRES": self.url,
            "SIGNALBOX_LOGS": "json",
        }


@pytest.fixture
def harness(
    release: Path, envoy: Path, shared_kafka: DevKafka, postgres_url: str, tmp_path: Path
) -> Iterator[OnKeptTopics]:
    """A Signalbox of all roles on the kept topics and an empty database, not yet up."""
    kept = load(release / "topics.json.xz")
    settings = replace(settings_for(shared_kafka), prefix=kept.prefix)
    asyncio.run(write_topics(settings, kept))
    harness = OnKeptTopics(tmp_path / "data", settings=settings, url=postgres_url)
    unpack(release / "secrets.tar.xz", harness.data / "secrets")
    yield harness
    harness.raze()


def test_kept_topics_answer_as_recorded_and_serve_a_new_change(
    harness: OnKeptTopics, release: Path, upstream: str
) -> None:
    before = recorded(release / "kafka.json")

    harness.up()

    assert answers(harness, before["at"]) == before["answers"]
    assert parked(harness) == before["parked"]

    calls = harness.calls()
    revision = calls.publish("orders", specification("/orders", upstream, display_name="Changed"))
    calls.deploy("orders")
    calls.close()

    harness.answered("/orders/items", f"orders@{revision}")
    assert revision == 3
    assert harness.down() == 0
    assert asyncio.run(chain(harness.settings, harness.data / "verify")).broken is None


async def chain(settings: KafkaSettings, directory: Path) -> ChainReport:
    log = await KafkaLog.open(settings, directory)
    try:
        return await verify(log, 0)
    finally:
        await log.close()
