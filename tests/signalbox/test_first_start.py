"""What exists from the first start on, and what a later start makes of what went wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from signalbox.first_start import FirstStartFailed, make_house
from signalbox.settings import Address, Settings
from streams.commanding import Commanding
from streams.deciding import Decider
from streams.sqlite.log import SqliteLog


@asynccontextmanager
async def commanding(directory: Path) -> AsyncIterator[tuple[SqliteLog, Commanding]]:
    log = await SqliteLog.open(directory)
    commands = Commanding(log)
    decider = Decider(log, 0, "/test", lambda done, _: commands.decided(outcome for _, outcome in done))
    await decider.start()
    deciding = asyncio.create_task(decider.run())
    try:
        yield log, commands
    finally:
        deciding.cancel()
        await asyncio.gather(deciding, return_exceptions=True)
        await log.close()


async def subjects(log: SqliteLog) -> list[str]:
    return [r.envelope.subject for r in await log.read("events", 0, 0, 100)]


HOUSE = [
    "organizations/default",
    "organizations/default/projects/default",
    "organizations/default/environments/development",
    "organizations/default/gateways/local",
]


async def test_the_house_is_made_once(tmp_path: Path):
    async with commanding(tmp_path) as (log, commands):
        await make_house(commands, Settings(), "token")
        assert await subjects(log) == HOUSE
        await make_house(commands, Settings(), "another")
        assert await subjects(log) == HOUSE


async def test_what_was_rejected_is_asked_for_anew(tmp_path: Path):
    async with commanding(tmp_path) as (log, commands):
        with pytest.raises(FirstStartFailed, match="IP address"):
            await make_house(commands, Settings(gateway=Address("some.host", 8000)), "token")
        await make_house(commands, Settings(), "token")
        assert await subjects(log) == HOUSE
