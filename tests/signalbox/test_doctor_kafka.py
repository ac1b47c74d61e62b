"""`signalbox doctor` on a real Kafka and PostgreSQL: what is there, what is wrong, and what to do."""

import asyncio
from dataclasses import replace
from pathlib import Path

from sqlalchemy import create_engine, insert

from projections.store import CHECKPOINTS, GENERATIONS, METADATA, PARKED
from schemas.aggregates.organization import DefineOrganization
from signalbox.cli.doctor.finding import Check
from signalbox.cli.doctor.kafka import checks, clock
from signalbox.settings import Settings
from streams.kafka.log import KafkaLog
from streams.kafka.producer import started_producer, stopped
from streams.kafka.security.authority import open_authority
from streams.kafka.settings import KafkaSettings
from tests.commands.shop import ORG
from tests.streams.decider_cases import envelope


def found(settings: Settings) -> dict[str, Check]:
    return {check.what: check for check in checks(settings)}


async def waiting(settings: KafkaSettings, directory: Path) -> None:
    """An undecided command."""
    log = await KafkaLog.open(settings, directory)
    await log.append("commands", [envelope(DefineOrganization(organization=ORG, name=ORG))])
    await log.close()


def test_all_is_well_where_nothing_has_begun(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    message = found(Settings(data=tmp_path, kafka=kafka_settings))
    assert message["Kafka"].verdict == "ok"
    assert message["topics"].verdict == "note"
    assert "SIGNALBOX_KAFKA_PREFIX" in message["topics"].hint
    assert message["decider"].found == "not running"
    assert not [check for check in message.values() if check.verdict == "wrong"]


def test_undecided_commands_are_counted(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    asyncio.run(waiting(kafka_settings, tmp_path))
    message = found(Settings(data=tmp_path, kafka=kafka_settings))
    assert message["topics"] == Check("topics", "ok", f"7 topics {kafka_settings.prefix}.* of 1 partition(s)")
    assert message["decider"] == Check(
        "decider", "wrong", "not running, 1 commands wait", "signalbox run decider"
    )


def test_a_topic_that_is_not_as_it_must_be_is_named(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    asyncio.run(waiting(kafka_settings, tmp_path))
    message = found(Settings(data=tmp_path, kafka=replace(kafka_settings, partitions=3)))
    assert message["topics"].verdict == "wrong"
    assert "SIGNALBOX_KAFKA_PARTITIONS" in message["topics"].found


def test_a_missing_broker_is_reported_with_a_hint(tmp_path: Path) -> None:
    message = found(Settings(data=tmp_path, kafka=KafkaSettings(bootstrap="127.0.0.1:1")))
    assert message["Kafka"].verdict == "wrong"
    assert "127.0.0.1:1" in message["Kafka"].found
    assert "SIGNALBOX_KAFKA" in message["Kafka"].hint


def test_the_lag_of_read_models_is_not_known_without_the_log(
    kafka_settings: KafkaSettings, postgres_url: str, tmp_path: Path
) -> None:
    settings = Settings(data=tmp_path, kafka=kafka_settings, postgres=postgres_url)
    assert found(settings)["read models"].hint == "signalbox run projector"
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        METADATA.create_all(connection)
        place = {"read_model": "resources", "generation": 1}
        connection.execute(insert(GENERATIONS).values(**place, version=1, state="live"))
        connection.execute(insert(CHECKPOINTS).values(**place, topic="events", partition=0, position=0))
        blame = {"subject": "s", "type": "t", "id": "i", "reason": "r", "time": "now"}
        connection.execute(insert(PARKED).values(**place, topic="events", partition=0, position=1, **blame))
    engine.dispose()
    message = found(settings)
    assert message["PostgreSQL"].found.startswith("version 1")
    assert message["PostgreSQL's clock"].verdict == "ok"
    # The topics do not exist yet.
    unknown = Check("read models", "note", "their lag is not known: the log could not be read")
    assert message["read models"] == unknown
    assert "read model resources" not in message
    assert message["parked"].hint == "signalbox parked list"


def test_a_missing_database_is_reported_without_its_password(tmp_path: Path) -> None:
    url = "postgresql+psycopg://signalbox:hunter2@127.0.0.1:1/signalbox"
    message = found(Settings(data=tmp_path, postgres=url))["PostgreSQL"]
    assert message.verdict == "wrong"
    assert "hunter2" not in message.found + message.hint


def test_different_clocks_are_reported() -> None:
    assert clock("its clock", 0.003).verdict == "ok"
    assert clock("its clock", -90.0).found == "90.0 s behind this machine's"


def test_keys_are_looked_at(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    open_authority(settings.signing_key, settings.trusted_keys)
    message = found(settings)
    assert (message["signing key"].verdict, message["trusted keys"].verdict) == ("ok", "ok")
    settings.signing_key.chmod(0o644)
    assert found(settings)["signing key"].hint == f"chmod 600 {settings.signing_key}"
    settings.trusted_keys.write_text("{")
    assert found(settings)["trusted keys"].verdict == "wrong"


def test_the_servers_that_up_started_are_found(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "address").write_text(kafka_settings.bootstrap)
    (tmp_path / "kafka" / "password").write_text(kafka_settings.password)
    assert found(Settings(data=tmp_path))["Kafka"].verdict == "ok"


async def test_messages_that_signalbox_did_not_write_are_named(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    # Given a key, and a forged entry of the configuration and a forged outcome
    settings = Settings(data=tmp_path, kafka=kafka_settings)
    log = await KafkaLog.open(kafka_settings, tmp_path, integrity_key=settings.integrity_key)
    await log.close()
    producer = await started_producer(kafka_settings)
    for topic in ("config", "outcomes"):
        await producer.send_and_wait(kafka_settings.topic(topic), b"forged", b"some key", 0)
    await stopped(producer)
    # When it is looked at
    message = await asyncio.to_thread(found, settings)
    # Then both are named
    assert message["integrity key"].verdict == "ok"
    assert (message["configuration"].verdict, message["outcomes"].verdict) == ("wrong", "wrong")
    assert "1 of 1 messages were not written by Signalbox" in message["configuration"].found
    assert "'some key' at 0/0" in message["configuration"].found
