"""Whatever a command holds, it is answered, and the next one is decided: on both engines."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given

from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from schemas.envelope import GENESIS, Envelope
from schemas.identity import uuid7
from schemas.outcome import Outcome
from streams.decider.decider import Decider
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Log, LogDamaged, Record
from streams.sqlite.log import SqliteLog
from tests.streams.decider_cases import envelope
from tests.streams.odd_commands import odd_commands
from tests.support.laws import SHARED_FIXTURE, SLOW, examples

LARGEST_OUTCOME = 500_000


class Partition:
    """A decider on a log, given one command after the other."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.decider = Decider(log, 0, "/tests", lambda decided, seconds: None)
        self._commands = 0
        self._outcomes = 0

    async def start(self) -> None:
        await self.decider.start()
        (outcome,) = await self.decide(envelope(DefineOrganization(organization="acme", name="acme")))
        assert outcome.accepted

    async def decide(self, *commands: Envelope) -> list[Outcome]:
        """The outcomes, in the order of the commands."""
        await self.log.append("commands", commands)
        records: list[Record] = []
        while len(records) < len(commands):
            records += await self.log.read("commands", 0, self._commands, 10)
            self._commands = records[-1].position
        await self.decider.decide(records, records[-1].position)
        found = await self.log.read("outcomes", 0, self._outcomes, 10)
        self._outcomes = found[-1].position
        by_id = {record.envelope.id: record.envelope for record in found}
        assert all(len(one.to_json()) < LARGEST_OUTCOME for one in by_id.values())
        return [Outcome.of(by_id[command.id].data) for command in commands]

    async def answers(self, odd: Envelope) -> None:
        following = envelope(DefineProject(organization="acme", name=f"p{uuid7()}"))
        first, second = await self.decide(odd, following)
        assert first.accepted or first.rule
        assert first.rule != "cannot-decide"
        assert second.accepted


@pytest.fixture
async def on_sqlite(tmp_path: Path) -> AsyncIterator[Partition]:
    async with _partition(await SqliteLog.open(tmp_path)) as partition:
        yield partition


@pytest.fixture
async def on_kafka(kafka_settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[Partition]:
    async with _partition(await KafkaLog.open(kafka_settings, tmp_path)) as partition:
        yield partition


@asynccontextmanager
async def _partition(log: Log) -> AsyncIterator[Partition]:
    try:
        partition = Partition(log)
        await partition.start()
        yield partition
    finally:
        await log.close()


@examples(50, (*SLOW, *SHARED_FIXTURE))
@given(odd=odd_commands())
async def test_every_odd_command_is_answered_on_sqlite(on_sqlite: Partition, odd: Envelope):
    await on_sqlite.answers(odd)


@examples(15, (*SLOW, *SHARED_FIXTURE))
@given(odd=odd_commands())
async def test_every_odd_command_is_answered_on_kafka(on_kafka: Partition, odd: Envelope):
    await on_kafka.answers(odd)


async def test_an_event_of_a_later_version_is_named_when_a_decider_cannot_start(tmp_path: Path):
    log = await SqliteLog.open(tmp_path)
    try:
        later = replace(envelope(DefineProject(organization="acme", name="p")), type="io.later.thing.made.v1")
        await log.append("events", [later.chained(1, GENESIS)])
        with pytest.raises(LogDamaged, match=r"position 1: io\.later\.thing\.made\.v1 cannot be read"):
            await Decider(log, 0, "/tests", lambda decided, seconds: None).start()
    finally:
        await log.close()
