"""What readers make of record batches that no client should send, and of brokers under load and after a
failover."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from streams.kafka import fetcher
from streams.kafka.fetcher import parsed
from streams.kafka.local_index.lookup import ranges, records_at
from streams.kafka.partition_reader import PartitionReaders
from streams.log import LogDamaged, LogUnavailable, Record
from tests.streams.envelopes import envelope
from tests.streams.scripted_kafka import PLACE, ScriptedBroker, batch


def decoded(place: TopicPartition, message: ConsumerRecord, size: int) -> Record:
    return Record("events", place.partition, message.offset + 1, envelope((message.value or b"").decode()))


@pytest.fixture
def broker() -> ScriptedBroker:
    return ScriptedBroker(end=3)


@pytest.fixture
async def tails(broker: ScriptedBroker) -> AsyncIterator[PartitionReaders]:
    tails = PartitionReaders(broker.fetching(), decoded)
    yield tails
    await tails.close()


async def positions(tails: PartitionReaders, after: int = 0) -> list[int]:
    return [record.position for record in await tails.read(PLACE, after, 100)]


def test_messages_are_read_in_order_from_an_offset():
    messages, following = parsed(PLACE, bytes(batch("a", "b", "c")), (), 1)
    assert [(m.offset, m.value) for m in messages] == [(1, b"1"), (2, b"2")]
    assert following == 3


def test_a_header_name_that_is_no_text_stops_nothing():
    content = batch("first", "second", "third").replace(b"second", b"\xff\xfe\xff\xfe\xff\xfe")
    messages, following = parsed(PLACE, bytes(content), (), 0)
    assert [(m.offset, m.value) for m in messages] == [(0, b"0"), (1, None), (2, None)]
    assert following == 3


async def test_a_throttled_answer_is_not_the_end(broker: ScriptedBroker, tails: PartitionReaders):
    broker.throttled = 2
    assert await positions(tails) == [1, 2, 3]
    assert await positions(tails, 3) == []


async def test_a_request_to_a_connection_that_was_just_closed_is_sent_again(
    broker: ScriptedBroker, tails: PartitionReaders
):
    broker.closed = 2
    assert await positions(tails) == [1, 2, 3]
    broker.closed = 1
    assert await broker.fetching().last(PLACE) == 3


async def test_the_last_record_is_found_although_answers_are_throttled(broker: ScriptedBroker):
    broker.throttled = 2
    assert await broker.fetching().last(PLACE) == 3


async def test_a_leader_that_lags_behind_the_reader_is_waited_for(
    broker: ScriptedBroker, tails: PartitionReaders
):
    # given a reader at the end
    assert await positions(tails) == [1, 2, 3]
    waiting = asyncio.create_task(tails.wait(PLACE, 3))
    await broker.asked(2)
    # when a new leader does not show the end yet
    broker.lag = 2
    await broker.asked(2)
    assert not waiting.done()
    # then nothing is taken for lost, and the reader goes on with what comes
    broker.lag, broker.end = 0, 4
    await waiting
    assert await positions(tails, 3) == [4]


async def test_a_leader_whose_log_ends_before_the_reader_has_lost_records(
    broker: ScriptedBroker, tails: PartitionReaders
):
    assert await positions(tails) == [1, 2, 3]
    waiting = asyncio.create_task(tails.wait(PLACE, 3))
    await broker.asked(2)
    broker.end = 1
    with pytest.raises(LogDamaged, match="ends at 1 and had been read up to 3"):
        await waiting


async def test_a_replica_that_is_no_longer_the_leader_says_nothing_about_lost_records(
    broker: ScriptedBroker, tails: PartitionReaders
):
    assert await positions(tails) == [1, 2, 3]
    broker.stale = 1
    waiting = asyncio.create_task(tails.wait(PLACE, 3))
    await broker.asked(2)
    broker.end = 4
    await waiting
    assert await positions(tails, 3) == [4]


async def test_records_removed_by_retention_are_skipped(broker: ScriptedBroker, tails: PartitionReaders):
    broker.beginning = 2
    assert await positions(tails) == [3]


async def test_a_record_that_is_known_of_is_waited_for_until_it_is_shown(broker: ScriptedBroker):
    broker.lag = 2

    reading = asyncio.create_task(records_at(broker.fetching(), PLACE, [3, 1], decoded))
    await broker.asked(2)
    assert not reading.done()
    broker.lag = 0
    records = await reading
    assert {position: record.envelope.id for position, record in records.items()} == {1: "0", 3: "2"}


async def test_a_compacted_topic_is_read_to_its_end_although_the_last_records_are_removed(
    broker: ScriptedBroker,
):
    broker.removed = 2
    read = [fetched async for fetched in broker.fetching().through(PLACE, 0, 3, compacted=True)]
    assert [message.offset for fetched in read for message in fetched.messages] == [0]
    assert read[-1].following == 3


async def test_a_record_that_is_known_of_and_never_shown_is_not_taken_for_missing(
    broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetcher, "PATIENCE_SECONDS", 0.1)
    broker.lag = 2
    with pytest.raises(LogUnavailable, match="returns nothing at offset 2"):
        await records_at(broker.fetching(), PLACE, [3], decoded)


async def test_records_near_to_each_other_are_read_with_one_fetch(broker: ScriptedBroker):
    broker.end = 300
    wanted = list(range(1, 301, 3))
    assert list(await records_at(broker.fetching(), PLACE, wanted, decoded)) == wanted
    assert broker.requests == [0]


def test_records_far_from_each_other_are_read_apart():
    assert ranges([9_000, 1, 400, 9_001, 1]) == [[1, 400], [9_000, 9_001]]


async def test_a_partition_reader_keeps_the_last_records_up_to_a_number_of_bytes(
    broker: ScriptedBroker, tails: PartitionReaders, monkeypatch: pytest.MonkeyPatch
):
    # given a partition reader with a cache of some 20 records, read in portions of 10
    monkeypatch.setattr("streams.kafka.partition_reader.KEPT_BYTES", 20 * 210)
    broker.end, broker.most = 100, 10
    for after in range(0, 100, 10):
        assert await positions(tails, after) == list(range(after + 1, after + 11))
    fetches = len(broker.requests)
    # then the last ones are kept and the ones before are not
    assert await positions(tails, 85) == list(range(86, 101))
    assert len(broker.requests) == fetches
    assert await positions(tails, 70) == list(range(71, 81))
    assert len(broker.requests) == fetches + 1


async def test_a_tail_keeps_the_records_of_one_fetch_however_large(
    broker: ScriptedBroker, tails: PartitionReaders, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("streams.kafka.partition_reader.KEPT_BYTES", 1)
    broker.end, broker.most = 20, 10
    read = [record.position for after in (0, 10) for record in await tails.read(PLACE, after, 5)]
    assert read == [1, 2, 3, 4, 5, 11, 12, 13, 14, 15]
    assert await positions(tails, 15) == [16, 17, 18, 19, 20]
    assert len(broker.requests) == 2
