"""Producers whose broker refuses a write for a moment, as Kafka does while it verifies transactions."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.producer import sender

from signalbox.devservers.kafka.server import DevKafka
from streams.kafka.log import KafkaLog
from streams.kafka.producer import REPEATED_SECONDS, TRANSACTION_BACKOFF_MS, Unrepeated
from streams.kafka.settings import KafkaSettings
from streams.log import Append, Consumed, Transaction
from tests.streams.envelopes import chained, envelope
from tests.support.real_kafka import settings_for

NOT_ENOUGH_REPLICAS = 19


async def test_a_write_of_a_transaction_that_is_refused_is_tried_again_at_once(
    kafka_settings: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = await KafkaLog.open(kafka_settings, tmp_path)
    try:
        await log.claim(0)
        # given a broker that has not finished verifying
        handle = sender.SendProduceReqHandler.handle_response
        pauses: list[float] = []

        async def slept(seconds: float) -> None:
            pauses.append(seconds)
            await asyncio.sleep(seconds)

        def refused(self: Any, response: Any) -> None:
            monkeypatch.setattr(sender.SendProduceReqHandler, "handle_response", handle)
            topics = [
                (topic, [(partition, NOT_ENOUGH_REPLICAS, *rest) for partition, _, *rest in partitions])
                for topic, partitions in response.topics
            ]
            # Only in the client's sender: others may sleep as they like.
            monkeypatch.setattr(sender, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": slept}))
            handle(self, SimpleNamespace(API_VERSION=response.API_VERSION, topics=topics))

        monkeypatch.setattr(sender.SendProduceReqHandler, "handle_response", refused)
        # when a transaction is written
        ((position,),) = await log.commit(Transaction([Append("events", 0, chained(1))]))
        # then the client waited no longer than it has to, and it is there once
        assert pauses
        assert max(pauses) <= TRANSACTION_BACKOFF_MS / 1000
        assert [r.position for r in await log.read("events", 0, 0, 10)] == [position]
    finally:
        monkeypatch.undo()
        await log.close()


@pytest.fixture
def verifying_kafka(kafka_files: Path, tmp_path: Path) -> Iterator[DevKafka]:
    """A broker that verifies transactions as Kafka does by default."""
    settings = {"transaction.partition.verification.enable": "true"}
    broker = DevKafka(tmp_path / "kafka", settings=settings)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


async def test_transactions_follow_each_other_on_a_broker_that_verifies_them(
    verifying_kafka: DevKafka, tmp_path: Path
):
    log = await KafkaLog.open(settings_for(verifying_kafka), tmp_path / "log")
    try:
        await log.claim(0)
        events = chained(40)
        written: list[int] = []
        for number, event in enumerate(events, 1):
            at = await log.next_position(0)
            appends = [Append("events", 0, [event], first=at), Append("outcomes", 0, [envelope()])]
            positions = await log.commit(Transaction(appends, [Consumed("decider", "commands", 0, number)]))
            assert positions[0] == [at]
            written.append(at)
        records = await log.read("events", 0, 0, 100)
        assert [(r.position, r.envelope) for r in records] == list(zip(written, events, strict=True))
    finally:
        await log.close()


def test_a_warning_that_repeats_is_left_out_for_a_while():
    now = [100.0]
    unrepeated = Unrepeated(lambda: now[0])

    def passes(place: str) -> bool:
        message = logging.LogRecord("aiokafka", logging.WARNING, "", 0, "refused on %s", (place,), None)
        return unrepeated.filter(message)

    assert [passes("a"), passes("a"), passes("b"), passes("a")] == [True, False, True, False]
    now[0] += REPEATED_SECONDS
    assert [passes("a"), passes("a")] == [True, False]
