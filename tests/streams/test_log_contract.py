"""The contract suite on every engine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streams.log import Log
from streams.sqlite import SqliteLog
from tests.streams.log_contract import LogContract, OpenLog


class TestSqlite(LogContract):
    @pytest.fixture
    async def open_log(self, tmp_path: Path) -> AsyncIterator[OpenLog]:
        opened: list[SqliteLog] = []

        async def open_log(partitions: int) -> Log:
            opened.append(await SqliteLog.open(tmp_path, partitions=partitions))
            return opened[-1]

        yield open_log
        for log in opened:
            await log.close()
