"""The config topic between processes: one writer per partition, and readers that miss and double nothing."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from aiokafka import TopicPartition

from gateways.config_resource import ConfigResource, DeploymentRef
from signalbox.devservers.kafka.server import DevKafka
from streams.kafka import partition_writer
from streams.kafka.config import KafkaConfigTopic, Unclaimed
from streams.kafka.settings import KafkaSettings
from streams.kafka.topics import ensure_topics
from streams.log import Fenced, LogDamaged, LogUnavailable, MessageTooLarge
from tests.streams.scripted_kafka import ScriptedBroker
from tests.support.hang_guard import HANG_SECONDS
from tests.support.real_kafka import settings_for

EDGE = "organizations/acme/gateways/edge"
TYPE = "RouteConfiguration"


def entry(name: str, body: bytes = b"body", gateway: str = EDGE) -> ConfigResource:
    return ConfigResource(
        gateway, "envoy", TYPE, name, "v1", 1, body, (("Cluster", "a"),), (DeploymentRef("d", "a", 1, "/a"),)
    )


def mark(partition: int) -> ConfigResource:
    return ConfigResource("", "", "position", f"events/{partition}", "7", 7, b"-")


@dataclass
class Notifications:
    """The notifications of a subscriber: the names of each call."""

    puts: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    more: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, entries: Sequence[ConfigResource]) -> None:
        self.puts.append(tuple(entry.name for entry in entries))
        self.more.set()

    async def until(self, puts: int) -> list[tuple[str, ...]]:
        async with asyncio.timeout(HANG_SECONDS):
            while len(self.puts) < puts:
                self.more.clear()
                await self.more.wait()
        return self.puts


@asynccontextmanager
async def following(topic: KafkaConfigTopic) -> AsyncIterator[Notifications]:
    received = Notifications()
    topic.subscribe(received)
    task = asyncio.create_task(topic.follow())
    try:
        yield received
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


Open = Callable[[], Awaitable[KafkaConfigTopic]]


@pytest.fixture
def settings(kafka_settings_of: Callable[[int], KafkaSettings]) -> KafkaSettings:
    return kafka_settings_of(2)


@pytest.fixture
async def opening(settings: KafkaSettings) -> AsyncIterator[Open]:
    await ensure_topics(settings)
    opened: list[KafkaConfigTopic] = []

    async def opening() -> KafkaConfigTopic:
        opened.append(await KafkaConfigTopic.open(settings))
        return opened[-1]

    yield opening
    for topic in opened:
        await topic.close()


async def names(topic: KafkaConfigTopic) -> list[str]:
    return [each.name async for chunk in topic.load() for each in chunk]


async def test_claiming_a_partition_fences_its_writer(opening: Open, caplog: pytest.LogCaptureFixture):
    first, second = await opening(), await opening()
    partition = first.partition_of(EDGE)
    await first.claim(partition)
    await first.put([entry("first")])
    await second.claim(partition)
    await second.put([entry("second")])
    with pytest.raises(Fenced):
        await first.put([entry("first", b"late"), entry("second", b"late")])
    with pytest.raises(Fenced):
        await first.put([entry("once more")])
    gc.collect()
    assert "never retrieved" not in caplog.text
    assert {(e.name, e.body) async for chunk in second.load() for e in chunk} == {
        ("first", b"body"),
        ("second", b"body"),
    }


async def test_nothing_is_put_without_a_claim(opening: Open):
    topic = await opening()
    await topic.claim(1 - topic.partition_of(EDGE))
    with pytest.raises(Fenced):
        await topic.put([entry("a")])


async def test_an_entry_is_put_in_the_partition_of_its_organization(opening: Open):
    topic = await opening()
    partition = topic.partition_of(EDGE)
    for each in (0, 1):
        await topic.claim(each)
    await topic.put([entry("a"), mark(partition)])
    await topic.put([mark(1 - partition)])
    found = {p: [e.name async for c in topic.load(partitions=[p]) for e in c] for p in (0, 1)}
    assert found == {partition: ["a", f"events/{partition}"], 1 - partition: [f"events/{1 - partition}"]}
    with pytest.raises(ValueError, match="cannot be put together"):
        await topic.put([entry("a"), mark(1 - partition)])


async def test_a_reader_without_use_for_bodies_gets_none(opening: Open):
    topic = await opening()
    await topic.claim(topic.partition_of(EDGE))
    await topic.put([entry("a"), entry("b", b"")])
    loaded = [e async for chunk in topic.load(removals=True, bodies=False) for e in chunk]
    assert loaded == [entry("a", b"-"), entry("b", b"")]


async def test_a_follower_receives_each_put_as_one_from_where_it_has_loaded(opening: Open):
    writer, reader = await opening(), await opening()
    await writer.claim(writer.partition_of(EDGE))
    await writer.put([entry("before")])
    # A put shows to others a moment after it has been confirmed.
    assert await names(writer) == await names(reader) == ["before"]
    await writer.put([entry("between")])
    async with following(reader) as received:
        await writer.put([entry("a"), entry("b")])
        await asyncio.gather(writer.put([entry("c", b"")]), writer.put([entry("a")]))
        assert await received.until(4) == [("between",), ("a", "b"), ("c",), ("a",)]


async def test_a_writer_that_follows_is_notified_of_each_put_once(opening: Open):
    topic, other = await opening(), await opening()
    partition = topic.partition_of(EDGE)
    await topic.claim(partition)
    assert await names(topic) == []
    async with following(topic) as received:
        for name in "abc":
            await topic.put([entry(name)])
        await other.claim(partition)
        await other.put([entry("d")])
        await topic.claim(partition)
        await topic.put([entry("e")])
        await other.claim(partition)
        await other.put([entry("f")])
        assert [name for (name,) in await received.until(6)][-1] == "f"
        assert sorted(name for (name,) in received.puts) == list("abcdef")


async def test_a_put_that_was_cut_off_is_never_seen(opening: Open, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(partition_writer, "REQUEST_SECONDS", 1.0)
    writer, reader, next_writer = await opening(), await opening(), await opening()
    partition = writer.partition_of(EDGE)
    await writer.claim(partition)
    stuck = asyncio.Event()

    async def dies() -> None:
        stuck.set()
        await asyncio.Event().wait()

    producer = writer._writers[partition]._producer
    monkeypatch.setattr(producer, "commit_transaction", dies)
    putting = asyncio.create_task(writer.put([entry("cut off")]))
    await stuck.wait()
    async with following(reader) as received:
        await next_writer.claim(partition)
        await next_writer.put([entry("after")])
        assert await received.until(1) == [("after",)]
    assert await names(next_writer) == ["after"]
    with pytest.raises(LogUnavailable):
        await putting


async def test_an_entry_above_the_limit_is_refused_with_its_size_and_the_limit(opening: Open):
    topic = await opening()
    await topic.claim(topic.partition_of(EDGE))
    with pytest.raises(MessageTooLarge, match=r"9,000,\d\d\d bytes .* 8,000,000"):
        await topic.put([entry("small"), entry("large", bytes(9_000_000))])
    await topic.put(
        [entry("just so", bytes(7_900_000)), *(entry(f"n{n}", bytes(90_000)) for n in range(100))]
    )
    assert len(await names(topic)) == 101


async def test_an_entry_is_measured_before_it_is_put_with_all_that_it_carries(opening: Open):
    topic = await opening()
    refs = tuple(DeploymentRef(f"d{n}", f"a{n}", 1, f"/a/{'x' * 190}{n}") for n in range(40_000))
    requires = tuple(("routes", f"{'x' * 190}{n}") for n in range(40_000))
    for large in (
        entry("body", bytes(8_000_000)),
        replace(entry("refs"), deployments=refs),
        replace(entry("requires"), requires=requires),
    ):
        with pytest.raises(MessageTooLarge, match=r"\d,\d\d\d,\d\d\d bytes .* 8,000,000"):
            topic.require_size(large)
    topic.require_size(entry("just so", bytes(7_900_000)))


async def test_a_follower_does_not_take_a_topic_that_lost_entries_for_one_without_news():
    settings = KafkaSettings(partitions=1)
    broker = ScriptedBroker(TopicPartition(settings.topic("config"), 0), end=3)
    topic = KafkaConfigTopic(settings, broker.fetching())
    assert await names(topic) == []  # what stands there is not ours
    broker.end = 1
    with pytest.raises(ExceptionGroup) as ended:
        await topic.follow()
    (damage,) = ended.value.exceptions
    assert isinstance(damage, LogDamaged)
    assert "signalbox.config/0 ends at 1 and had been read up to 3" in str(damage)


async def test_while_kafka_is_gone_a_follower_waits_and_goes_on_by_itself(
    own_kafka: DevKafka, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(partition_writer, "REQUEST_SECONDS", 1.0)
    settings = settings_for(own_kafka)
    await ensure_topics(settings)
    writer, reader = await KafkaConfigTopic.open(settings), await KafkaConfigTopic.open(settings)
    await writer.claim(0)
    await writer.put([entry("before")])
    # A put shows to others a moment after it has been confirmed.
    assert await names(writer) == await names(reader) == ["before"]
    async with following(reader) as received:
        own_kafka.kill()
        with pytest.raises(LogUnavailable):
            await writer.put([entry("meanwhile")])
        with pytest.raises(Unclaimed):
            await writer.put([entry("meanwhile")])
        await asyncio.to_thread(own_kafka.start)
        await writer.claim(0)
        await writer.put([entry("after")])
        assert (await received.until(1))[-1] == ("after",)
    await writer.close()
    await reader.close()
