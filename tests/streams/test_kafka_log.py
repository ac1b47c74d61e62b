"""The contract of the log on the real Kafka, and what only Kafka can get wrong."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
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
