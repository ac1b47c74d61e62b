"""The contract of the log on the real Kafka, and what only Kafka can get wrong."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import MessageTooLarge
from tests.streams.envelopes import envelope
from tests.streams.log_contract import LogContract, OpenLog

SettingsOf = Callable[[int], KafkaSettings]


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
