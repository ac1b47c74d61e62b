"""A Kafka on this machine keeps its port and what it has acknowledged, whatever ends it."""

import asyncio
import os
import shlex
import shutil
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from signalbox.devservers.errors import AlreadyRunning
from signalbox.devservers.kafka import credentials
from signalbox.devservers.kafka.probe import probe
from signalbox.devservers.kafka.server import HOST, Archive, DevKafka, archive_for, new_id
from signalbox.machine.ports import PortUnusable
from signalbox.settings import kafka_settings as kafka_settings_of
from streams.kafka.settings import KafkaSettings
from tests.support.hang_guard import HANG_SECONDS
from tests.support.real_kafka import settings_for


async def test_acknowledged_records_are_there_after_a_kill_and_after_a_stop(own_kafka: DevKafka) -> None:
    address = own_kafka.start()
    settings = settings_for(own_kafka)
    await create(settings)
    await publish(settings, b"before the kill")
    first = own_kafka.pid

    own_kafka.kill()
    assert not own_kafka.running
    assert await asyncio.to_thread(own_kafka.start) == address
    assert own_kafka.pid != first
    await publish(settings, b"after the kill")
    await asyncio.to_thread(own_kafka.stop)
    assert own_kafka.pid == 0
    # Another process would make its own object of the directory.
    again = DevKafka(own_kafka.directory)
    try:
        assert await asyncio.to_thread(again.start) == address
        assert await everything(settings, 2) == [b"before the kill", b"after the kill"]
    finally:
        again.kill()


def test_java_reads_an_archive_where_one_could_be_made(tmp_path: Path) -> None:
    (tmp_path / "kafka-1-java-25.archive").write_bytes(b"classes")
    (tmp_path / "kafka-1-java-26.archive").touch()
    assert archive_for(tmp_path / "kafka-1", "25").reading[0].endswith("kafka-1-java-25.archive")
    assert archive_for(tmp_path / "kafka-1", "26") == Archive()


def test_an_id_is_never_taken_for_an_option() -> None:
    made = {new_id() for _ in range(1000)}
    assert len(made) == 1000
    assert not [one for one in made if one.startswith("-")]


async def test_it_takes_transactions_and_groups_as_soon_as_it_has_started(
    kafka_settings: KafkaSettings,
) -> None:
    await create(kafka_settings)
    async with asyncio.timeout(HANG_SECONDS), producer(kafka_settings, kafka_settings.group("t")) as decider:
        await decider.begin_transaction()
        await decider.send_and_wait(kafka_settings.topic("events"), b"decided", partition=0)
        await decider.commit_transaction()
    group = {"group_id": kafka_settings.group("g"), "auto_offset_reset": "earliest"}
    async with asyncio.timeout(HANG_SECONDS), consumer(kafka_settings, **group) as member:
        member.subscribe([kafka_settings.topic("events")])
        assert (await member.getone()).value == b"decided"


def test_a_second_start_in_the_directory_is_refused_and_says_where_the_first_is(
    shared_kafka: DevKafka, kafka_broker: str
) -> None:
    with pytest.raises(AlreadyRunning, match=f"SIGNALBOX_KAFKA={kafka_broker}") as refused:
        DevKafka(shared_kafka.directory).start()
    assert refused.value.address == kafka_broker


def test_starting_a_running_server_answers_its_address(own_kafka: DevKafka) -> None:
    pid = own_kafka.pid
    assert own_kafka.start() == own_kafka.access.bootstrap
    assert own_kafka.pid == pid


def test_a_port_that_is_taken_is_refused(kafka_broker: str, shared_kafka: DevKafka) -> None:
    port = int(kafka_broker.rpartition(":")[2])
    beside = shared_kafka.directory / "beside"
    with pytest.raises(PortUnusable, match=f"port {port} on 127.0.0.1 is taken.*--port"):
        DevKafka(beside, port).start()


@pytest.mark.parametrize(
    "stranger",
    [
        {"mechanism": "", "username": "", "password": ""},
        {"password": "guessed"},
        {"mechanism": "PLAIN"},
    ],
    ids=["anonymous", "wrong-password", "plain"],
)
async def test_a_client_without_the_password_can_neither_read_nor_write(
    kafka_settings: KafkaSettings, stranger: dict[str, str]
) -> None:
    admin = AIOKafkaAdminClient(**replace(kafka_settings, **stranger).client(), request_timeout_ms=5_000)
    with pytest.raises(KafkaError):
        await admin.start()
    await admin.close()


async def test_the_controllers_listener_lets_no_client_in(
    shared_kafka: DevKafka, kafka_settings: KafkaSettings
) -> None:
    controller = int((shared_kafka.directory / "controller-port").read_text())
    assert probe(HOST, controller) == "away"
    assert probe(HOST, controller, kafka_settings.username, kafka_settings.password) == "refused"


def test_files_with_the_password_can_be_read_by_their_owner_alone(shared_kafka: DevKafka) -> None:
    password = shared_kafka.access.password
    holding = [f for f in shared_kafka.directory.iterdir() if f.is_file() and password in f.read_text()]
    assert {f.name for f in holding} >= {"password", "environment", "client.properties", "server.properties"}
    assert [f.name for f in holding if f.stat().st_mode & 0o077] == []
    arguments = Path(f"/proc/{shared_kafka.pid}/cmdline").read_text() + "".join(os.environ.values())
    assert password not in arguments


def test_a_shell_and_a_java_client_get_files_with_the_connection(shared_kafka: DevKafka) -> None:
    shell = f". {shlex.quote(str(shared_kafka.environment_file))} && env"
    output = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout
    variables = dict(line.split("=", 1) for line in output.splitlines() if line.startswith("SIGNALBOX_KAFKA"))
    assert kafka_settings_of(variables) == shared_kafka.access
    properties = shared_kafka.client_properties.read_text().splitlines()
    assert f"bootstrap.servers={shared_kafka.access.bootstrap}" in properties
    assert "sasl.mechanism=SCRAM-SHA-256" in properties


async def test_data_made_before_there_was_a_password_are_kept(
    own_kafka: DevKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given data without the user, as earlier versions made them
    own_kafka.kill()
    shutil.rmtree(own_kafka.directory / "data")
    monkeypatch.setattr(credentials, "credential", lambda password: "SCRAM-SHA-256=[name=other,password=x]")
    # When the broker starts, then it makes the user, and lets it in
    settings = settings_for(own_kafka)
    await create(settings)


@asynccontextmanager
async def producer(
    settings: KafkaSettings, transactional_id: str | None = None
) -> AsyncGenerator[AIOKafkaProducer]:
    made = AIOKafkaProducer(**settings.client(), acks="all", transactional_id=transactional_id)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@asynccontextmanager
async def consumer(settings: KafkaSettings, **options: Any) -> AsyncGenerator[AIOKafkaConsumer]:
    made = AIOKafkaConsumer(**settings.client(), **options)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def create(settings: KafkaSettings) -> None:
    admin = AIOKafkaAdminClient(**settings.client())
    await admin.start()
    try:
        await admin.create_topics([NewTopic(settings.topic("events"), 1, 1)])
    finally:
        await admin.close()


async def publish(settings: KafkaSettings, value: bytes) -> None:
    async with asyncio.timeout(HANG_SECONDS), producer(settings) as made:
        await made.send_and_wait(settings.topic("events"), value, partition=0)


async def everything(settings: KafkaSettings, count: int) -> list[bytes | None]:
    """The first `count` values on the topic."""
    async with asyncio.timeout(HANG_SECONDS), consumer(settings) as made:
        partition = TopicPartition(settings.topic("events"), 0)
        made.assign([partition])
        await made.seek_to_beginning(partition)
        return [(await made.getone()).value for _ in range(count)]
