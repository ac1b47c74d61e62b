"""What a decider on the real Kafka does when the broker shows less than there was."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.protocol.fetch import FetchRequest

from streams.decider.chain import verify
from streams.decider.snapshots import OWNER
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Topic
from tests.streams.kafka_deciders import command, decided, decider, everything
from tests.streams.scripted_kafka import fetched
from tests.support.hang_guard import HANG_SECONDS


@pytest.fixture
async def log(kafka_settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[KafkaLog]:
    opened = await KafkaLog.open(kafka_settings, tmp_path / "one")
    yield opened
    await opened.close()


@pytest.fixture
async def other(kafka_settings: KafkaSettings, log: KafkaLog, tmp_path: Path) -> AsyncIterator[KafkaLog]:
    opened = await KafkaLog.open(kafka_settings, tmp_path / "other")
    yield opened
    await opened.close()


async def remove(settings: KafkaSettings, topic: Topic, before: int) -> None:
    """Does what retention does: removes the records before an offset."""
    admin = AIOKafkaAdminClient(**settings.client())
    await admin.start()
    place = TopicPartition(settings.topic(topic), 0)
    await admin.delete_records({place: RecordsToDelete(before)})
    await admin.close()


class Late:
    """A leader that does not know yet how far all replicas are: so it answers fetches of a topic `times`
    times."""

    def __init__(self, log: KafkaLog, topic: str) -> None:
        self._send = log._fetching._client.send
        self._place = TopicPartition(log.settings.topic(topic), 0)
        self.times = 0

    async def send(self, node: int, request: object, *, group: object) -> Any:
        asked: Any = request
        if isinstance(request, FetchRequest) and asked.topics[0][0] == self._place.topic and self.times:
            self.times -= 1
            return fetched(self._place, 0)
        return await self._send(node, request, group=group)


@pytest.mark.parametrize("topic", ["events", "outcomes"])
async def test_nothing_is_decided_twice_when_a_new_leader_shows_decisions_late(
    log: KafkaLog, other: KafkaLog, topic: str, monkeypatch: pytest.MonkeyPatch
):
    # given what another decider decided
    deciding = decider(log)
    await deciding.start()
    await decided(log, deciding, [command("a"), command("b", "one")])
    # when the broker shows it late, to a start and to a command that comes again
    late = Late(other, topic)
    monkeypatch.setattr(other._fetching._client, "send", late.send)
    late.times = 2
    second = decider(other)
    await second.start()
    late.times = 2
    await decided(other, second, [command("b", "one"), command("c", "two")])
    # then its outcome counts
    assert [r.envelope.causationid for r in await everything(other, "events")] == ["a", "b", "c"]
    assert [r.envelope.id for r in await everything(other, "outcomes")] == ["a", "b", "c"]
    assert (await verify(other, 0)).broken is None


@pytest.mark.parametrize("noticed", ["at the start", "while it runs"])
async def test_commands_that_retention_removed_unread_are_reported_once_and_the_rest_is_decided(
    log: KafkaLog, kafka_settings: KafkaSettings, noticed: str, monkeypatch: pytest.MonkeyPatch
):
    # given commands at the positions 2 and 3 that were removed before a decider read them
    deciding = decider(log)
    await deciding.start()
    await decided(log, deciding, [command("a")])
    await log.append("commands", [command("b", "one"), command("c", "two"), command("d", "three")])
    await remove(kafka_settings, "commands", before=3)
    if noticed == "while it runs":
        first = KafkaLog.first

        async def not_yet(self: KafkaLog, topic: Topic, partition: int) -> int:
            monkeypatch.setattr(KafkaLog, "first", first)
            return 1

        monkeypatch.setattr(KafkaLog, "first", not_yet)
    # when deciding goes on, and once more
    lost: list[int] = []
    for id, name in (("e", "four"), ("f", "five")):
        deciding = decider(log)
        deciding.removed = lost.append
        await deciding.start()
        outcomes = await log.end("outcomes", 0)
        running = asyncio.create_task(deciding.run())
        await log.append("commands", [command(id, name)])
        async with asyncio.timeout(HANG_SECONDS):
            await log.wait("outcomes", 0, outcomes)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    # then the report names them
    (report,) = [record.envelope.data for record in await everything(log, "parked")]
    assert (report["rule"], report["topic"], report["partition"], report["position"]) == (
        "removed",
        "commands",
        0,
        2,
    )
    assert "The messages at positions 2 to 3 of commands/0 were removed" in report["reason"]
    assert lost == [2]
    assert {r.envelope.id for r in await everything(log, "outcomes")} >= {"a", "d"}


async def test_removed_commands_are_reported_also_when_none_is_left(
    log: KafkaLog, kafka_settings: KafkaSettings
):
    deciding = decider(log)
    await deciding.start()
    await decided(log, deciding, [command("a")])
    await log.append("commands", [command("b", "one")])
    await remove(kafka_settings, "commands", before=2)
    running = asyncio.create_task(deciding.run())
    async with asyncio.timeout(HANG_SECONDS):
        await log.wait("parked", 0, 0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    (report,) = [record.envelope.data for record in await everything(log, "parked")]
    assert "The messages at positions 2 to 2 of commands/0 were removed" in report["reason"]
    assert await log.consumed(OWNER, "commands", 0) == 2
