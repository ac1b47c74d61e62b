"""Roles on a real Kafka: they wait for what is not there, hold what their group gives them, stop in order."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateways.config_resource import ConfigResource, content_version
from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from signalbox.devservers.kafka.server import DevKafka
from signalbox.roles.runner import RoleRunner
from signalbox.settings import Address, Settings
from streams.kafka.config import KafkaConfigTopic
from streams.kafka.inspection import describe
from streams.kafka.log import KafkaLog
from streams.kafka.producer import started_producer, stopped
from streams.kafka.security.authority import open_authority
from streams.kafka.settings import KafkaSettings
from streams.kafka.topics import TopicMismatch
from streams.sqlite.lock import DirectoryInUse
from streams.submission.command_port import CommandPort
from streams.submission.outcome_subscription import open_command_port
from tests.commands.shop import ORG
from tests.signalbox.roles.role_processes import EAST
from tests.streams.decider_cases import envelope
from tests.support.free_ports import free_port
from tests.support.hang_guard import HANG_SECONDS
from tests.support.real_kafka import settings_for
from xds.types import CLUSTER


def settings_of(kafka: KafkaSettings, directory: Path) -> Settings:
    return Settings(
        data=directory,
        kafka=kafka,
        engine="kafka",
        secrets=directory.parent / "secrets",
        health=Address("127.0.0.1", free_port()),
    )


@asynccontextmanager
async def caller(kafka: KafkaSettings, directory: Path) -> AsyncIterator[CommandPort]:
    """What role api does to have a command decided."""
    secrets = directory / "secrets"
    authority = open_authority(secrets / "signing.jwk", secrets / "trusted.jwks")
    log = await KafkaLog.open(kafka, directory / "caller", authority=authority)
    commanding, subscription = await open_command_port(log)
    following = asyncio.create_task(subscription.run())
    try:
        yield commanding
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await log.close()


async def decided(commanding: CommandPort, id: str, name: str = "") -> bool:
    command = DefineProject(organization=ORG, name=name) if name else None
    asked = envelope(command or DefineOrganization(organization=ORG, name=ORG), id)
    return (await commanding.execute([asked], HANG_SECONDS))[asked.key].accepted


def logged(settings: Settings) -> tuple[int, str]:
    """What the process answers when it is asked whether it is ready."""
    try:
        with urllib.request.urlopen(
            f"http://{settings.health}/healthz/ready", timeout=HANG_SECONDS
        ) as response:
            return response.status, ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())["detail"]


async def members(kafka: KafkaSettings) -> int:
    (group,) = (await describe(kafka, [kafka.group("decider")]))[1]
    return len(group.members)


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        while True:
            if reached():
                return
            await asyncio.sleep(0.02)


async def test_a_decider_decides_and_leaves_its_group_when_it_stops(
    kafka_settings_of: Callable[[int], KafkaSettings], tmp_path: Path
) -> None:
    kafka = kafka_settings_of(2)
    settings = settings_of(kafka, tmp_path / "decider")
    async with caller(kafka, tmp_path) as commanding:
        async with RoleRunner(settings, ["decider"]) as roles:
            await roles.started()
            assert await decided(commanding, "one")
            await until(lambda: roles.runtime.not_ready_reason() is None)  # the other partition is folded too
            assert await asyncio.to_thread(logged, settings) == (200, "")
            assert await members(kafka) == 1
        assert await members(kafka) == 0
        # What it had decided is kept as a snapshot, and the next one goes on from there.
        async with RoleRunner(settings_of(kafka, tmp_path / "next"), ["decider"]) as roles:
            assert await decided(commanding, "two", "shop")
            log = await roles.runtime.log()
            partition = log.partition_of(ORG)
            assert (await log.snapshots("decider", partition))[0] > 0
            events = await log.read("events", partition, 0, 10)
            assert [record.envelope.causationid for record in events] == ["one", "two"]


async def test_a_second_decider_takes_over_from_one_that_stops_under_load(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    kafka = replace(kafka_settings, session_timeout_ms=6000)
    asked = [envelope(DefineOrganization(organization=ORG, name=ORG), "first")]
    asked += [envelope(DefineProject(organization=ORG, name=f"p{n}"), f"id-{n}") for n in range(200)]
    async with (
        caller(kafka, tmp_path) as commanding,
        RoleRunner(settings_of(kafka, tmp_path / "standby"), ["decider"]) as standby,
    ):
        await standby.started()
        async with RoleRunner(settings_of(kafka, tmp_path / "leaving"), ["decider"]) as leaving:
            await leaving.started()
            waiting = asyncio.create_task(commanding.outcomes([e.key for e in asked], HANG_SECONDS))
            for start in range(0, len(asked), 20):
                await commanding.submit(asked[start : start + 20])
        found = await waiting
        assert {key for key, outcome in found.items() if outcome.accepted} == {e.key for e in asked}
        log = await standby.runtime.log()
        events = await log.read("events", 0, 0, 1000)
        assert [r.envelope.causationid for r in events] == [e.id for e in asked]


async def test_a_fenced_decider_discards_its_state_and_goes_on_from_the_log(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    async with (
        caller(kafka_settings, tmp_path) as commanding,
        RoleRunner(settings_of(kafka_settings, tmp_path / "decider"), ["decider"]) as roles,
    ):
        await roles.started()
        assert await decided(commanding, "one")
        other = await KafkaLog.open(kafka_settings, tmp_path / "other")
        await other.claim(0)
        await other.close()
        assert await decided(commanding, "two", "shop")
        log = await roles.runtime.log()
        events = await log.read("events", 0, 0, 10)
        assert [record.envelope.causationid for record in events] == ["one", "two"]


async def test_a_broker_that_is_not_there_yet_is_waited_for(own_kafka: DevKafka, tmp_path: Path) -> None:
    kafka = settings_for(own_kafka)
    own_kafka.kill()
    settings = settings_of(kafka, tmp_path / "decider")
    async with RoleRunner(settings, ["decider"]) as roles:
        await until(lambda: "waits for Kafka" in (roles.runtime.not_ready_reason() or ""))
        status, reason = await asyncio.to_thread(logged, settings)
        assert (status, reason.startswith(f"waits for Kafka at {kafka.bootstrap}: ")) == (503, True)
        await asyncio.to_thread(own_kafka.start)
        await asyncio.wait_for(roles.started(), HANG_SECONDS)
        await until(lambda: roles.runtime.not_ready_reason() is None)


async def test_a_topic_that_is_not_as_it_must_be_stops_the_start(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    log = await KafkaLog.open(kafka_settings, tmp_path / "other")
    await log.close()
    settings = settings_of(replace(kafka_settings, partitions=2), tmp_path / "decider")
    async with RoleRunner(settings, ["decider"]) as roles:
        with pytest.raises(TopicMismatch, match="SIGNALBOX_KAFKA_PARTITIONS"):
            await roles.started()


async def test_a_stop_does_not_wait_for_an_event_that_never_comes(tmp_path: Path) -> None:
    settings = settings_of(KafkaSettings(bootstrap="127.0.0.1:1"), tmp_path / "decider")
    async with asyncio.timeout(HANG_SECONDS), RoleRunner(settings, ["decider"]) as roles:
        await until(lambda: "waits for Kafka" in (roles.runtime.not_ready_reason() or ""))


async def test_two_processes_do_not_share_a_data_directory(tmp_path: Path) -> None:
    settings = settings_of(KafkaSettings(bootstrap="127.0.0.1:1"), tmp_path / "decider")
    async with RoleRunner(replace(settings, health=None), ["decider"]):
        with pytest.raises(DirectoryInUse, match="--data"):
            async with RoleRunner(settings, ["decider"]):
                pass


async def test_messages_that_signalbox_did_not_write_are_counted_by_topic(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    # Given an entry of the configuration that Signalbox wrote, and one that it did not
    settings = replace(settings_of(kafka_settings, tmp_path / "xds"), xds=Address("127.0.0.1", free_port()))
    log = await KafkaLog.open(kafka_settings, tmp_path / "log", integrity_key=settings.integrity_key)
    config = await KafkaConfigTopic.open(kafka_settings, log.integrity)
    await config.claim(0)
    await config.put([ConfigResource(EAST, "envoy", CLUSTER, "a", content_version(b"a"), 1, b"a")])
    producer = await started_producer(kafka_settings)
    await producer.send_and_wait(kafka_settings.topic("config"), b"forged", b"some key", 0)
    await stopped(producer)
    # When a server loads it
    async with RoleRunner(settings, ["xds"]) as roles, asyncio.timeout(HANG_SECONDS):
        await roles.started()
        lines = await asyncio.to_thread(_metrics, settings)
    # Then its metrics count that one
    for topic, count in (("config", 1), ("outcomes", 0)):
        name = f'signalbox_forged_messages{{topic="{kafka_settings.topic(topic)}"}}'
        assert f"{name} {count}.0" in lines
    await config.close()
    await log.close()


def _metrics(settings: Settings) -> list[str]:
    with urllib.request.urlopen(f"http://{settings.health}/metrics", timeout=HANG_SECONDS) as response:
        return response.read().decode().splitlines()
