"""Rollouts and liveness, derived from what nodes report, on a real Kafka and a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count, groupby
from pathlib import Path
from typing import Any

import pytest

from projections.deliveries.model import Deliveries
from projections.derived.liveness import LivenessOfGateways
from projections.derived.liveness import last_reported as liveness_told
from projections.derived.rollouts import Rollouts
from projections.derived.rollouts import last_reported as rollouts_told
from projections.derived.windows import lags_between
from projections.resources.model import Resources
from schemas.codecs.avro import dataschema
from schemas.envelope import Envelope
from schemas.identity import timestamp
from schemas.message import Message
from schemas.status import LivenessReported, RolloutReported
from streams.derived.liveness import LivenessPublisher
from streams.derived.rollouts import RolloutPublisher
from streams.kafka.settings import KafkaSettings
from streams.log import Record
from tests.projections.events import START, delivery, node, started, stopped
from tests.streams.faust.hosts import Harness, envelope, until

MODELS = (Resources(), Deliveries(), Rollouts(), LivenessOfGateways())


class Publishing(Harness):
    """A harness whose host publishes; `now` is the clock of liveness, read once per check."""

    now = START
    looks = 0
    gather_seconds = 0.0

    def clock(self) -> float:
        self.looks += 1
        return self.now

    async def looked(self) -> None:
        """Returns when liveness has looked at what is so now."""
        begun = self.looks + 1
        await until(lambda: self.looks > begun)

    async def begin(self) -> None:
        rollouts = RolloutPublisher(self.log, self.read_models, "/test", gather_seconds=self.gather_seconds)
        liveness = LivenessPublisher(self.log, self.read_models, "/test", clock=self.clock, every=0.05)
        await self.host(rollouts, liveness)
        for telling in (rollouts, liveness):
            task = asyncio.create_task(telling.run())
            self.parts.push_async_callback(_end, task)

    async def filled(self) -> None:
        """The read models have all events, and nothing was published."""
        silent = await self.host()
        ends = {topic: await self.log.end(topic, 0) for topic in ("events", "status")}

        async def durable() -> bool:
            at = {model.name: ends[model.topic] for model in MODELS}
            return all([await self.read_models.position(name) == end for name, end in at.items()])

        await until(durable)
        await silent.stop()

    async def happen(self, *messages: Message, topic: Any = "status") -> None:
        await self.append(topic, *(envelope(m, f"{topic}/{m.name}") for m in messages))

    async def rollout(self, name: str) -> dict[str, Any]:
        found = await self.read_models.ask(
            lambda s: rollouts_told(s.connection, s.prefix("rollouts"), "acme", [name])
        )
        return found.get(name, {})

    async def liveness(self) -> dict[str, Any]:
        return (
            await self.read_models.ask(
                lambda s: liveness_told(s.connection, s.prefix("liveness"), "acme", "local")
            )
            or {}
        )

    async def becomes(self, name: str, state: str, reached: int = 0, nodes: int = 0) -> None:
        async def is_so() -> bool:
            found = await self.rollout(name)
            return (found.get("state"), found.get("reached"), found.get("nodes")) == (state, reached, nodes)

        await until(is_so)

    async def lives(self, state: str, heard: int) -> None:
        async def is_so() -> bool:
            found = await self.liveness()
            return (found.get("state"), found.get("heard")) == (state, heard)

        await until(is_so)

    async def published(self, message: type[Message]) -> list[Envelope]:
        records: list[Record] = []
        while more := await self.log.read("status", 0, records[-1].position if records else 0, 1000):
            records += more
        return [r.envelope for r in records if r.envelope.type == message.type()]

    async def output(self, message: type[Message]) -> list[dict[str, Any]]:
        return [envelope.data for envelope in await self.published(message)]

    async def states(self, message: type[Message]) -> list[str]:
        """The published states without repetitions: each is published per number of nodes."""
        return [state for state, _ in groupby(data["state"] for data in await self.output(message))]


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def harness(
    kafka_settings: KafkaSettings, postgres_url: str, tmp_path: Path
) -> AsyncIterator[Publishing]:
    async with AsyncExitStack() as parts:
        harness = Publishing(kafka_settings, postgres_url, tmp_path, MODELS, parts)
        await harness.open()
        await harness.log.claim(0)
        yield harness


async def test_acknowledgements_of_many_nodes_are_published_as_one_state(harness: Publishing):
    await harness.begin()
    await harness.happen(node("n1", True, 0), node("n2", True, 0))
    await harness.happen(started("d1"), topic="events")
    await harness.happen(delivery("d1", "published", 2), delivery("d1", "acknowledged", 3, node="n1"))
    await harness.becomes("d1", "rolling-out", 1, 2)
    await harness.happen(delivery("d1", "acknowledged", 4, node="n2"))
    await harness.becomes("d1", "acknowledged", 2, 2)
    await harness.happen(delivery("d1", "serving", 5, node="n1"), delivery("d1", "serving", 5, node="n2"))
    await harness.becomes("d1", "serving", 2, 2)
    await harness.happen(stopped("d1"), topic="events")
    await harness.becomes("d1", "stopping")
    await harness.happen(*(delivery("d1", "withdrawn", 6, node=name) for name in ("n1", "n2")))
    await harness.becomes("d1", "stopped")

    assert await harness.states(RolloutReported) == [
        "rolling-out",
        "acknowledged",
        "serving",
        "stopping",
        "stopped",
    ]
    assert {e.dataschema for e in await harness.published(RolloutReported)} == {dataschema(RolloutReported)}
    lags = await harness.read_models.ask(
        lambda s: lags_between(s.connection, s.prefix("rollouts"), "acme", "0", "9")
    )
    assert {stage: lag.count for (_, stage), lag in lags.items()} == {
        "published": 1,
        "acknowledged": 1,
        "serving": 1,
        "total": 1,
    }


async def test_a_node_that_left_is_not_waited_for(harness: Publishing):
    await harness.begin()
    await harness.happen(node("n1", True, 0), node("n2", True, 0))
    await harness.happen(started("d1"), topic="events")
    await harness.happen(delivery("d1", "acknowledged", 3, node="n1"))
    await harness.becomes("d1", "rolling-out", 1, 2)
    await harness.happen(node("n2", False, 4))
    await harness.becomes("d1", "acknowledged", 1, 1)


async def test_a_caught_up_node_and_an_offline_gateway_are_published(harness: Publishing):
    await harness.begin()
    await harness.happen(started("d1"), topic="events")
    await harness.happen(delivery("d1", "published", 2, position=1))
    await harness.happen(node("n1", True, 3, connection="c1", acknowledged=0))
    await harness.happen(node("n1", True, 4, connection="c1", acknowledged=1))
    await harness.becomes("d1", "acknowledged", 1, 1)

    harness.now = START + 60
    await harness.becomes("d1", "offline")
    await harness.happen(node("n1", True, 60, connection="c2", acknowledged=1))
    await harness.becomes("d1", "acknowledged", 1, 1)


async def test_a_state_that_a_crash_left_unpublished_is_published_by_the_successor(harness: Publishing):
    await harness.happen(node("n1", True, 0))
    await harness.happen(started("d1"), started("d2"), topic="events")
    await harness.happen(delivery("d1", "acknowledged", 3, node="n1"))
    await harness.filled()

    await harness.begin()
    await harness.becomes("d1", "acknowledged", 1, 1)
    assert await harness.rollout("d2") == {}


@pytest.mark.parametrize("changing", [False, True])
async def test_states_are_published_at_once_when_no_change_comes_and_else_later(
    harness: Publishing, monkeypatch: pytest.MonkeyPatch, *, changing: bool
):
    events = count()
    monkeypatch.setattr("streams.derived.rollouts.QUIET_SECONDS", 0.001)
    if changing:
        monkeypatch.setattr(RolloutPublisher, "_ends", lambda *_: [next(events)])
    harness.gather_seconds = 0.001
    await harness.begin()
    await harness.happen(node("n1", True, 0))
    await harness.happen(started("d1"), topic="events")
    await harness.happen(delivery("d1", "acknowledged", 3, node="n1"))
    await harness.becomes("d1", "acknowledged", 1, 1)
    assert (next(events) > 0) == changing


async def test_a_wrong_state_is_published_again(harness: Publishing):
    await harness.begin()
    await harness.happen(node("n1", True, 0))
    await harness.happen(started("d1"), topic="events")
    await harness.happen(delivery("d1", "acknowledged", 3, node="n1"))
    await harness.becomes("d1", "acknowledged", 1, 1)
    # As another process does that had not seen all yet.
    wrong = RolloutReported(organization="acme", name="d1", at=timestamp(), state="refused", nodes=1)
    await harness.happen(wrong)

    async def answered() -> bool:
        return len(await harness.output(RolloutReported)) == 3

    await until(answered)
    assert [t["state"] for t in await harness.output(RolloutReported)] == [
        "acknowledged",
        "refused",
        "acknowledged",
    ]
    await harness.becomes("d1", "acknowledged", 1, 1)


async def test_a_gateway_is_healthy_degraded_offline_and_back(harness: Publishing):
    await harness.begin()
    await harness.happen(node("n1", True, 0), node("n2", True, 0))
    await harness.lives("healthy", 2)
    harness.now = START + 20
    await harness.happen(node("n1", True, 20))
    harness.now = START + 40
    await harness.lives("degraded", 1)
    harness.now = START + 60
    await harness.lives("offline", 0)
    await harness.happen(node("n1", True, 60), node("n2", True, 60))
    await harness.lives("healthy", 2)
    assert await harness.states(LivenessReported) == ["healthy", "degraded", "offline", "healthy"]
    assert {e.dataschema for e in await harness.published(LivenessReported)} == {dataschema(LivenessReported)}
    assert (await harness.liveness())["since"] == timestamp(START + 60)


async def test_silence_counts_only_after_having_listened(harness: Publishing):
    harness.now = START + 1_000
    await harness.happen(node("n1", True, 990), node("n2", True, 900))
    await harness.filled()
    await harness.begin()
    for _ in range(20):
        harness.now += 1
        await harness.looked()
    assert await harness.output(LivenessReported) == []
    harness.now += 30
    await harness.lives("offline", 0)


async def test_records_consumed_while_the_end_is_asked_for_are_not_still_to_be_read(
    harness: Publishing, monkeypatch: pytest.MonkeyPatch
):
    # Given a node that has been silent for long, in read models that hold all of the topic
    harness.now = START + 1_000
    await harness.happen(node("n1", True, 990), node("n2", True, 900))
    await harness.filled()
    at, records = await harness.log.end("status", 0), await harness.log.read("status", 0, 0, 1000)
    # When a look begins before the consumer has noted that, and goes on afterwards
    liveness = LivenessPublisher(harness.log, harness.read_models, "/test", clock=harness.clock, every=0.05)
    liveness.assigned({("status", 0): 0})

    async def end(topic: str, partition: int) -> int:
        liveness.taken("status", 0, records)
        return at

    monkeypatch.setattr(harness.log, "end", end)
    harness.parts.push_async_callback(_end, asyncio.create_task(liveness.run()))
    await harness.looked()
    # Then it is not published with the time of the last report
    assert await harness.output(LivenessReported) == []
