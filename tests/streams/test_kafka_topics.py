"""What existing topics must be, so that nothing is lost and no expired token passes."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.kafka.log import KafkaLog
from streams.kafka.messages.wire import AUTHORIZATION, encode
from streams.kafka.producer import started_producer, stopped
from streams.kafka.security import keys
from streams.kafka.security.authority import Authority, issued
from streams.kafka.security.keys import SigningKey, own_trusted
from streams.kafka.settings import KafkaSettings
from streams.kafka.topics import TopicMismatch, ensure_topics, specs
from streams.log import Append, LogUnavailable, MessageTooLarge, Topic, Transaction
from tests.streams.envelopes import chained, envelope

HOUR = 3600


@pytest.fixture
async def admin(kafka_settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(**kafka_settings.client())
    await client.start()
    yield client
    await client.close()


async def set_commands(admin: AIOKafkaAdminClient, settings: KafkaSettings, **changed: str) -> None:
    await set_topic(admin, settings, "commands", **changed)


async def set_topic(admin: AIOKafkaAdminClient, settings: KafkaSettings, name: Topic, **changed: str) -> None:
    """Settings of a topic, but for what is changed as made by Signalbox."""
    (spec,) = (spec for spec in specs(settings) if spec.name == name)
    wanted = {**spec.required, **spec.wanted, **{name.replace("_", "."): v for name, v in changed.items()}}
    resource = ConfigResource(ConfigResourceType.TOPIC, settings.topic(name), wanted)
    (response,) = await admin.alter_configs([resource])
    assert [error for error, *_ in response.resources] == [0]


def signing_key() -> SigningKey:
    key = keys.new_key()
    return SigningKey(key.thumbprint(), "billing-team", key)


async def test_a_commands_topic_with_times_of_the_sender_stops_the_start(
    kafka_settings: KafkaSettings, admin: AIOKafkaAdminClient, tmp_path: Path
):
    await ensure_topics(kafka_settings)
    await set_commands(admin, kafka_settings, message_timestamp_type="CreateTime")
    with pytest.raises(TopicMismatch) as refused:
        await KafkaLog.open(kafka_settings, tmp_path)
    topic = kafka_settings.topic("commands")
    assert str(refused.value) == (
        f"The topic {topic} has message.timestamp.type=CreateTime, it must be LogAppendTime: "
        f"kafka-configs.sh --alter --topic {topic} --add-config message.timestamp.type=LogAppendTime"
    )


async def test_an_expired_token_is_refused_despite_an_earlier_time_of_the_command(
    kafka_settings: KafkaSettings, admin: AIOKafkaAdminClient, tmp_path: Path
):
    key = signing_key()
    authority = Authority(None, {key.kid: own_trusted(key)}, "what secrets of tokens follow from")
    await ensure_topics(kafka_settings)
    await set_commands(admin, kafka_settings, message_timestamp_type="CreateTime")
    # given a command whose sender dates it back to when its token was good
    long_ago = time.time() - 2 * HOUR
    token = issued(key, subject="billing", organizations=["acme"], now=long_ago, seconds=HOUR)
    value, headers = encode(envelope("back-dated"))
    headers.append((AUTHORIZATION, token.encode()))
    producer = await started_producer(kafka_settings)
    await producer.send_and_wait(
        kafka_settings.topic("commands"),
        value,
        b"acme",
        0,
        timestamp_ms=int(long_ago + 60) * 1000,
        headers=headers,
    )
    await stopped(producer)
    # when it is read after the topic was set right
    await set_commands(admin, kafka_settings)
    log = await KafkaLog.open(kafka_settings, tmp_path, authority=authority)
    try:
        (record,) = await log.read("commands", 0, 0, 10)
    finally:
        await log.close()
    # then it may not be acted on
    assert record.fault is not None
    assert (record.fault.rule, "has expired" in record.fault.reason) == ("unauthorized", True)


async def test_a_topic_that_takes_less_than_at_the_start_is_named_with_the_remedy(
    kafka_settings: KafkaSettings, admin: AIOKafkaAdminClient, tmp_path: Path
):
    log = await KafkaLog.open(kafka_settings, tmp_path)
    try:
        await log.claim(0)
        # given topics whose limit was lowered since
        for name in ("commands", "events"):
            await set_topic(admin, kafka_settings, name, max_message_bytes="500")
        large = "x" * 10_000
        # then a command is refused as too large
        with pytest.raises(MessageTooLarge, match=f"the topic {kafka_settings.topic('commands')} refuses it"):
            await log.append("commands", [envelope(data={"text": large})])
        # and a decision waits, and says for what
        (event,) = chained(1)
        transaction = Transaction([Append("events", 0, [replace(event, data={"text": large})])])
        with pytest.raises(LogUnavailable) as waits:
            await log.commit(transaction)
        topic = kafka_settings.topic("events")
        assert f"the topic {topic} refuses a message" in str(waits.value)
        assert f"kafka-configs.sh --alter --topic {topic} --add-config max.message.bytes=" in str(waits.value)
        # until the topic is as it must be
        await set_topic(admin, kafka_settings, "events")
        await log.claim(0)
        assert await log.commit(transaction) == [[2]]
    finally:
        await log.close()
