"""Outcomes are followed on a broker that lost records."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition

from schemas.outcome import Outcome
from signalbox_client import KafkaSettings
from signalbox_client.kafka import KafkaTransport
from signalbox_client.reading import Fetched, Reader
from streams.kafka.messages.wire import encode
from tests.client.test_answers import OURS, outcome
from tests.streams.envelopes import envelope
from tests.support.hang_guard import HANG_SECONDS


class Shrunken:
    """A partition that ends before the offset a reader had reached."""

    def __init__(self, messages: list[Any]) -> None:
        self.messages = messages

    async def fetch(self, offset: int, seconds: float) -> Fetched:
        end = len(self.messages)
        if offset == end:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        if offset > end:
            return Fetched((), end, truncated=True)
        return Fetched(self.messages[offset:], end)

    async def since(self, time: int) -> int:
        return 0

    async def end(self) -> int:
        return len(self.messages)

    async def close(self) -> None:
        """Nothing is open."""


def message(offset: int, outcome: Outcome) -> Any:
    written = replace(envelope(), type=Outcome.type(), causationid=outcome.name, data=outcome.data())
    value, headers = encode(written)
    return SimpleNamespace(partition=0, offset=offset, key=b"acme", value=value, headers=headers, timestamp=0)


async def test_outcomes_written_after_the_broker_lost_some_are_found() -> None:
    # given a client that had read up to offset 10, and a broker that lost all but the first records
    shrunken = Shrunken([message(0, outcome("", OURS))])

    async def reader(settings: KafkaSettings, place: TopicPartition) -> Reader:
        return shrunken

    transport = KafkaTransport(KafkaSettings(), "token", "acme", "", reader=reader)
    answer = asyncio.create_task(asyncio.wait_for(transport._expect("id", OURS), HANG_SECONDS))
    await asyncio.sleep(0)
    # when it goes on
    following = asyncio.create_task(transport._follow(shrunken, 10))
    # then the outcome that stands there now is found
    assert (await answer).accepted
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await asyncio.gather(*transport._searches.values())
