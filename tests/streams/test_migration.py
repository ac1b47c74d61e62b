"""A migration from the embedded engine to a real Kafka: everything arrives unchanged, or it fails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateways.config_resource import ConfigResource, DeploymentRef, content_version
from schemas.aggregates.api import DeleteApi
from schemas.aggregates.environment import DefineEnvironment
from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from schemas.envelope import Envelope
from schemas.identity import uuid7
from schemas.message import Command
from schemas.outcome import Outcome
from schemas.status import NodeReported
from streams.decider.decider import Decider
from streams.documents import DocumentStore
from streams.kafka.config import KafkaConfigTopic
from streams.kafka.log import KafkaLog
from streams.kafka.security.authority import open_authority
from streams.kafka.settings import KafkaSettings
from streams.log import LogDamaged, LogError
from streams.migration import Embedded, MigrationRefused, NotTheSame, Proof, Target, migrate
from streams.sqlite.config import SqliteConfigTopic
from streams.sqlite.documents import SqliteDocuments
from streams.sqlite.log import SqliteLog
from tests.commands.shop import ORG, publish
from tests.streams.decider_cases import desk, envelope

DEFAULT_RESOURCES: tuple[Command, ...] = (
    DefineOrganization(organization=ORG, name=ORG),
    DefineProject(organization=ORG, name="shop"),
    DefineEnvironment(organization=ORG, name="production"),
)
GATEWAY = f"organizations/{ORG}/gateways/east"


async def embedded(directory: Path) -> None:
    """An event log with decisions, a rejection, status, documents, configuration, and an undecided
    command."""
    async with desk(directory) as at:
        await at.decide(*(envelope(command) for command in DEFAULT_RESOURCES))
        await at.decide(envelope(publish(), "publish-1"), envelope(DeleteApi(organization=ORG, name="none")))
        seen = NodeReported(
            organization=ORG, name="east", at="2026-01-01T00:00:00.000000Z", node="n1", connected=True
        )
        await at.log.append("status", [status(seen)])
        await at.log.append("commands", [envelope(DefineProject(organization=ORG, name="late"), "late-1")])
    config = await SqliteConfigTopic.open(directory)
    body = b"a route"
    ref = DeploymentRef("d1", "orders", 1, "/orders")
    await config.put(
        [
            ConfigResource(GATEWAY, "envoy", "route", "orders", content_version(body), 4, body, (), (ref,)),
            ConfigResource("", "", "position", "events/0", "4", 4, b"-"),
        ]
    )
    await config.close()
    documents = await SqliteDocuments.open(directory)
    await documents.put(b"openapi: 3.1.0", "application/yaml")
    await documents.close()


def status(message: NodeReported) -> Envelope:
    return Envelope(
        id=uuid7(),
        type=message.type(),
        source="/test",
        subject=GATEWAY,
        time=message.at,
        partitionkey=ORG,
        data=message.data(),
    )


@asynccontextmanager
async def both(
    source: Path, settings: KafkaSettings, tmp_path: Path
) -> AsyncIterator[tuple[Embedded, Target]]:
    log = await SqliteLog.open(source)
    config, documents = await SqliteConfigTopic.open(source), await SqliteDocuments.open(source)
    target_log = await KafkaLog.open(settings, tmp_path / "index", integrity_key=tmp_path / "integrity.key")
    opened = await SqliteDocuments.open(tmp_path / "documents")

    async def target_documents() -> DocumentStore:
        return opened

    target = Target(
        target_log,
        await KafkaConfigTopic.open(settings, target_log.integrity),
        target_documents,
        open_authority(tmp_path / "signing.jwk", tmp_path / "trusted.jwks"),
    )
    try:
        yield Embedded(source, log, config, documents), target
    finally:
        for part in (log, config, documents, target.log, target.config, opened):
            await part.close()


async def moved(source: Path, settings: KafkaSettings, tmp_path: Path) -> Proof:
    async with both(source, settings, tmp_path) as (embedded, target):
        return await migrate(embedded, target)


async def test_order_positions_ids_and_chain_stay(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    await embedded(tmp_path / "data")
    async with both(tmp_path / "data", kafka_settings, tmp_path) as (source, target):
        proof = await migrate(source, target)
        for topic in ("events", "outcomes"):
            there = await target.log.read(topic, 0, 0, 100)
            assert there == await source.log.read(topic, 0, 0, 100)
        documents = await target.documents()
        sha256 = await source.documents.put(b"openapi: 3.1.0", "text/plain")
        assert await documents.get(sha256) == (b"openapi: 3.1.0", "application/yaml")
    counts = {s.topic: (s.records, s.last) for s in proof.digests}
    assert counts == {
        "commands": (6, 6),
        "events": (4, 4),
        "outcomes": (5, 5),
        "status": (1, 1),
        "parked": (0, 0),
    }
    (chain,) = proof.chains
    assert (chain.events, chain.last, chain.broken) == (4, 4, None)
    assert (proof.undecided, proof.entries, proof.documents) == (1, 2, 1)


async def test_a_decider_goes_on_where_the_embedded_one_stopped(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    await embedded(tmp_path / "data")
    await moved(tmp_path / "data", kafka_settings, tmp_path)
    authority = open_authority(tmp_path / "signing.jwk", tmp_path / "trusted.jwks")
    log = await KafkaLog.open(kafka_settings, tmp_path / "index", authority=authority)
    output: list[Outcome] = []
    first: list[Outcome] = []
    decider = Decider(
        log, 0, "/test", lambda done, _: output.extend(o for _, o in done), repeated=first.extend
    )
    try:
        await log.append("commands", [envelope(publish(), "publish-1")])
        await decider.start()
        position = await log.consumed("decider", "commands", 0)
        records = await log.read("commands", 0, position, 100)
        await decider.decide(records, records[-1].position)
        newest = (await log.read("events", 0, 4, 10))[0]
    finally:
        await log.close()
    # The undecided command is decided now, in its sender's name; the old id is not decided again.
    assert [r.envelope.id for r in records] == ["late-1", "publish-1"]
    assert [(o.name, o.accepted) for o in output] == [("late-1", True)]
    assert [(o.name, o.position) for o in first] == [("publish-1", 4)]
    assert (newest.envelope.sequence, newest.envelope.authid) == (f"{5:020d}", "tester")


async def test_an_interrupted_migration_goes_on(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    await embedded(tmp_path / "data")

    class Interrupted(Exception):
        pass

    def stop(what: str, count: int) -> None:
        if what == "events":
            raise Interrupted

    async with both(tmp_path / "data", kafka_settings, tmp_path) as (source, target):
        with pytest.raises(Interrupted):
            await migrate(source, target, stop)
    proof = await moved(tmp_path / "data", kafka_settings, tmp_path)
    assert sum(s.records for s in proof.digests) == 16
    # And a migration that is complete can be proved again.
    assert await moved(tmp_path / "data", kafka_settings, tmp_path) == proof


async def test_topics_that_hold_something_else_are_refused(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    await embedded(tmp_path / "data")
    log = await KafkaLog.open(kafka_settings, tmp_path / "index")
    await log.append("commands", [envelope(DEFAULT_RESOURCES[0])])
    await log.close()
    with pytest.raises(MigrationRefused, match=r"commands holds other records already \(1\)"):
        await moved(tmp_path / "data", kafka_settings, tmp_path)


async def test_another_number_of_partitions_is_refused(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    await embedded(tmp_path / "data")
    with pytest.raises(MigrationRefused, match="SIGNALBOX_KAFKA_PARTITIONS=1"):
        await moved(tmp_path / "data", replace(kafka_settings, partitions=2), tmp_path)


async def test_a_changed_event_log_is_detected(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    await embedded(tmp_path / "data")
    async with both(tmp_path / "data", kafka_settings, tmp_path) as (source, target):
        (second,) = await source.log.read("events", 0, 1, 1)
        forged = replace(second.envelope, id=uuid7())
        await source.log.append("events", [forged])
        with pytest.raises((NotTheSame, LogDamaged), match="chain"):
            await migrate(source, target)


async def test_a_message_that_the_topics_do_not_take_is_named_before_anything_is_written(
    kafka_settings: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await embedded(tmp_path / "data")
    log = await SqliteLog.open(tmp_path / "data")
    long = envelope(DefineProject(organization=ORG, name="long"))
    with monkeypatch.context() as earlier:
        # As a version wrote it that did not bound commands.
        earlier.setattr("streams.sqlite.log.LARGEST_COMMAND", 10_000_000)
        await log.append("commands", [replace(long, data={**long.data, "x": "y" * 1_100_000})])
    await log.close()
    async with both(tmp_path / "data", kafka_settings, tmp_path) as (source, target):
        with pytest.raises(LogError, match="1,000,000"):
            await migrate(source, target)
        assert [await target.log.end(topic, 0) for topic in ("events", "commands", "outcomes")] == [0, 0, 0]
