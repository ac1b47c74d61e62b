"""The contract of the log on the real Kafka, and what only Kafka can get wrong."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from streams import commanding
from streams.kafka import producing
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable, MessageTooLarge, Record, Topic
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


async def test_what_is_larger_than_the_topic_takes_is_refused_before_it_is_sent(
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


async def test_a_producer_that_is_stuck_is_replaced_before_those_who_command_give_up(
    kafka_settings: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert producing.PRODUCE_SECONDS < commanding.APPEND_SECONDS
    monkeypatch.setattr("streams.kafka.log.PRODUCE_SECONDS", 0.2)
    log = await KafkaLog.open(kafka_settings, tmp_path)
    try:
        submitting = commanding.Commanding(log)
        await submitting.submit([envelope("before")])
        stuck = asyncio.Event()

        async def hang(*message: object, **options: object) -> None:
            stuck.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(log._producer, "send", hang)
        with pytest.raises(LogUnavailable):
            await submitting.submit([envelope("meanwhile")])
        assert stuck.is_set()
        monkeypatch.setattr("streams.kafka.log.PRODUCE_SECONDS", producing.PRODUCE_SECONDS)
        await submitting.submit([envelope("after")])
        assert [r.envelope.id for r in await everything(log, "commands")] == ["before", "after"]
    finally:
        await log.close()
