"""The contract of the log on the real Kafka, and what only Kafka can get wrong."""

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from streams.kafka import producer
from streams.kafka.log import KafkaLog
from streams.kafka.messages.wire import encode
from streams.kafka.producer import started_producer, stopped
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable, MessageTooLarge, Record, Topic
from streams.submission import command_port
from tests.streams.envelopes import envelope
from tests.streams.log_contract import LogContract, OpenLog

SettingsOf = Callable[[int], KafkaSettings]


async def everything(log: KafkaLog, topic: Topic) -> list[Record]:
    records: list[Record] = []
    while more := await log.read(topic, 0, records[-1].position if records else 0, 1000):
        records += more
    return records


class TestKafkaLog(LogContract):
    @pytest.fixture
    async def open_log(self, kafka_settings_of: SettingsOf, tmp_path: Path) -> AsyncIterator[OpenLog]:
        opened: list[KafkaLog] = []
        kept: dict[int, KafkaSettings] = {}

        async def open_log(partitions: int) -> KafkaLog:
            settings = kept.setdefault(partitions, kafka_settings_of(partitions))
            log = await KafkaLog.open(settings, tmp_path)
            opened.append(log)
            return log

        yield open_log
        for log in opened:
            await log.close()


async def test_a_record_larger_than_the_limit_of_the_topic_is_refused_before_it_is_sent(
    kafka_settings: KafkaSettings, tmp_path: Path
):
    log = await KafkaLog.open(kafka_settings, tmp_path)
    try:
        with pytest.raises(MessageTooLarge, match=r"1,100,\d+ bytes .* takes 1,000,000"):
            await log.append("commands", [envelope(data={"text": "x" * 1_100_000})])
        await log.append("commands", [envelope("small")])
        assert [r.envelope.id for r in await log.read("commands", 0, 0, 10)] == ["small"]
    finally:
        await log.close()


@pytest.mark.parametrize("topic", ["commands", "status"])
async def test_messages_that_together_exceed_the_size_of_a_batch_are_appended(
    kafka_settings: KafkaSettings, tmp_path: Path, topic: Topic
):
    log = await KafkaLog.open(kafka_settings, tmp_path)
    try:
        many = [envelope(data={"text": "x" * 90_000}) for _ in range(30)]
        one_by_one, together = many[:15], many[15:]
        positions = await asyncio.gather(
            *(log.append(topic, [each]) for each in one_by_one), log.append(topic, together)
        )
        ids = [record.envelope.id for record in await everything(log, topic)]
        assert sorted(ids) == sorted(each.id for each in many)
        assert sorted(position for some in positions for position in some) == list(range(1, 31))
        assert [id for id in ids if id in {each.id for each in together}] == [each.id for each in together]
    finally:
        await log.close()


async def test_a_parked_message_may_be_larger_than_the_batches_of_its_producer(
    kafka_settings: KafkaSettings, tmp_path: Path
):
    log = await KafkaLog.open(kafka_settings, tmp_path)
    try:
        large = envelope("large", data={"text": "x" * 5_000_000})
        await log.append("parked", [envelope("before"), large, envelope("after")])
        assert [r.envelope.id for r in await everything(log, "parked")] == ["before", "large", "after"]
    finally:
        await log.close()


async def test_a_stuck_producer_is_replaced_before_the_clients_give_up(
    kafka_settings: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert producer.PRODUCE_SECONDS < command_port.APPEND_SECONDS
    monkeypatch.setattr("streams.kafka.shared_producer.PRODUCE_SECONDS", 0.2)
    log = await KafkaLog.open(kafka_settings, tmp_path)
    try:
        submitting = command_port.CommandPort(log)
        await submitting.submit([envelope("before")])
        stuck = asyncio.Event()

        async def hang(*message: object, **options: object) -> None:
            stuck.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(log._producer._producer, "send", hang)
        with pytest.raises(LogUnavailable):
            await submitting.submit([envelope("meanwhile")])
        assert stuck.is_set()
        monkeypatch.setattr("streams.kafka.shared_producer.PRODUCE_SECONDS", producer.PRODUCE_SECONDS)
        await submitting.submit([envelope("after")])
        assert [r.envelope.id for r in await everything(log, "commands")] == ["before", "after"]
    finally:
        await log.close()


@pytest.mark.parametrize("by", ["key", "id"])
async def test_an_outcome_is_found_once_the_events_it_names_can_be_read(
    kafka_settings: KafkaSettings, tmp_path: Path, by: str
):
    awaited = asyncio.Event()

    class Watched(KafkaLog):
        async def wait(self, topic: Topic, partition: int, after: int) -> None:
            if topic == "events":
                awaited.set()
            await super().wait(topic, partition, after)

    log = await Watched.open(kafka_settings, tmp_path)
    producer = await started_producer(kafka_settings)
    outcomes, events = (kafka_settings.topic(name) for name in ("outcomes", "events"))
    try:
        # Given an outcome that readers are shown before the event it names,
        value, headers = encode(envelope("decided", data={"position": 1}))
        await producer.send_and_wait(outcomes, value, b"acme", 0, headers=headers)

        # when it is searched for,
        found = (
            log.find("outcomes", ("acme", "decided"))
            if by == "key"
            else log.find_by_id("outcomes", "decided")
        )
        finding, waiting = asyncio.ensure_future(found), asyncio.ensure_future(awaited.wait())
        await asyncio.wait([finding, waiting], return_when=asyncio.FIRST_COMPLETED)

        # then it is found once the event is shown.
        assert not finding.done()
        value, headers = encode(envelope("event"))
        await producer.send_and_wait(events, value, b"acme", 0, headers=headers)
        assert await finding
        assert [record.envelope.id for record in await log.read("events", 0, 0, 10)] == ["event"]
    finally:
        await stopped(producer)
        await log.close()


async def test_a_topic_that_is_made_again_has_another_identity(kafka_settings: KafkaSettings, tmp_path: Path):
    log = await KafkaLog.open(kafka_settings, tmp_path)
    before = await log.topic_identity("commands")
    assert await log.topic_identity("commands") == before
    assert await log.topic_identity("events") != before
    await log.append("commands", [envelope("a")])
    assert await log.find("commands", ("acme", "a")) is not None
    await log.close()

    admin = AIOKafkaAdminClient(**kafka_settings.client())
    await admin.start()
    await admin.delete_topics([kafka_settings.topic("commands")])
    await admin.close()

    log = await KafkaLog.open(kafka_settings, tmp_path)
    try:
        after = await log.topic_identity("commands")
        assert after != before
        assert after.split()[0] == before.split()[0]
        await log.append("commands", [envelope("b")])
        assert await log.find("commands", ("acme", "a")) is None
        assert await log.find("commands", ("acme", "b")) is not None
    finally:
        await log.close()


async def test_another_process_reads_the_same_events(kafka_settings: KafkaSettings, tmp_path: Path):
    log = await KafkaLog.open(kafka_settings, tmp_path)
    try:
        for _ in range(3):
            await log.append("events", [envelope() for _ in range(5)])
        expected = await everything(log, "events")
        async with pickle.loads(pickle.dumps(log.source()))() as source:
            found: list[Record] = []
            while more := await source.read("events", 0, found[-1].position if found else 0, 99, 4):
                found += more
        assert found == expected
        assert len(found) == 15
    finally:
        await log.close()
