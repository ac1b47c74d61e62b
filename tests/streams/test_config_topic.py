"""The config topic: the newest entry per gateway and resource."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gateways.config_resource import ConfigResource, DeploymentRef
from streams.config_topic import ConfigTopic
from streams.kafka.config import KafkaConfigTopic
from streams.kafka.settings import KafkaSettings
from streams.kafka.topics import ensure_topics
from streams.log import LogUnavailable, MessageTooLarge
from streams.sqlite.config import SqliteConfigTopic
from tests.support.hang_guard import HANG_SECONDS

EDGE = "organizations/acme/gateways/edge"
INNER = "organizations/acme/gateways/inner"


def entry(name: str, *, gateway: str = EDGE, position: int = 1, body: bytes = b"body") -> ConfigResource:
    return ConfigResource(gateway, "envoy", "RouteConfiguration", name, f"v{position}", position, body)


FULL = ConfigResource(
    gateway=EDGE,
    kind="envoy",
    type="RouteConfiguration",
    name="acme/orders",
    version="0123456789abcdef",
    position=42,
    body=bytes(range(256)),
    requires=(("Cluster", "a"), ("Cluster", "ü")),
    deployments=(
        DeploymentRef("d1", "orders", 3, "/orders/v1"),
        DeploymentRef("d2", "users", 1, "/users", "api.example.com"),
    ),
)


Open = Callable[[], Awaitable[ConfigTopic]]
"""Opens the same topic again and again, ready to be put to."""


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.real)])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    if request.param == "sqlite":
        return lambda: SqliteConfigTopic.open(tmp_path)
    settings: KafkaSettings = request.getfixturevalue("kafka_settings")
    return lambda: created_and_claimed(settings)


async def created_and_claimed(settings: KafkaSettings) -> KafkaConfigTopic:
    await ensure_topics(settings)
    topic = await KafkaConfigTopic.open(settings)
    for partition in range(settings.partitions):
        await topic.claim(partition)
    return topic


@pytest.fixture
async def topic(opening: Open) -> AsyncIterator[ConfigTopic]:
    topic = await opening()
    yield topic
    await topic.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[ConfigTopic]:
    topic = await SqliteConfigTopic.open(tmp_path)
    yield topic
    await topic.close()


async def loaded(
    topic: ConfigTopic, gateway: str | None = None, *, removals: bool = False
) -> set[ConfigResource]:
    return {each async for chunk in topic.load(gateway, removals=removals) for each in chunk}


async def test_an_entry_is_loaded_as_it_was_put(topic: ConfigTopic):
    await topic.put([FULL])
    assert await loaded(topic) == {FULL}


async def test_the_newest_of_a_key_stays(topic: ConfigTopic):
    await topic.put([entry("a"), entry("b")])
    await topic.put([entry("a", position=2, body=b"new")])
    await topic.put([entry("c"), entry("c", position=3, body=b"within one put")])
    assert await loaded(topic) == {
        entry("a", position=2, body=b"new"),
        entry("b"),
        entry("c", position=3, body=b"within one put"),
    }


async def test_the_same_name_on_another_gateway_or_of_another_type_is_another_entry(topic: ConfigTopic):
    every = {entry("a"), entry("a", gateway=INNER), replace(entry("a"), type="Cluster")}
    await topic.put(list(every))
    assert await loaded(topic) == every
    assert await loaded(topic, INNER) == {entry("a", gateway=INNER)}
    assert await loaded(topic, "organizations/acme/gateways/none") == set()


async def test_an_empty_body_removes_and_leaves_word_of_it(topic: ConfigTopic):
    gone = entry("a", position=2, body=b"")
    await topic.put([entry("a"), entry("b")])
    await topic.put([gone])
    assert await loaded(topic) == {entry("b")}
    assert await loaded(topic, removals=True) == {entry("b"), gone}


async def test_an_entry_that_is_too_large_for_the_file_does_not_fail_others(
    sqlite: ConfigTopic, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("streams.sqlite.config.LARGEST", 1_000)
    sqlite.require_size(entry("a", body=bytes(1_000)))
    with pytest.raises(MessageTooLarge, match=r"1,001 bytes .* takes 1,000"):
        sqlite.require_size(entry("a", body=bytes(1_001)))


async def test_a_removed_entry_can_come_back(topic: ConfigTopic):
    await topic.put([entry("a", body=b"")])
    await topic.put([entry("a", position=2)])
    assert await loaded(topic) == {entry("a", position=2)}


async def test_subscribers_are_notified_of_puts_in_order(topic: ConfigTopic):
    received: list[Sequence[ConfigResource]] = []
    topic.subscribe(received.append)
    puts = [(entry("a"),), (entry("b"), entry("c")), (entry("a", position=2, body=b""),)]
    await asyncio.gather(*(topic.put(put) for put in puts))
    assert received == puts


async def test_subscribers_are_notified_of_durable_puts(sqlite: ConfigTopic, tmp_path: Path):
    stored: list[int] = []

    def subscriber(_: Sequence[ConfigResource]) -> None:
        with sqlite3.connect(f"file:{tmp_path / 'config.db'}?mode=ro", uri=True) as db:
            stored.extend(db.execute("SELECT count(*) FROM entries").fetchone())

    sqlite.subscribe(subscriber)
    await asyncio.gather(*(sqlite.put([entry(name)]) for name in "abc"))
    assert stored[-1] == 3
    assert all(stored)


async def test_a_subscriber_that_raises_or_has_left_does_not_affect_others(topic: ConfigTopic):
    received: list[Sequence[ConfigResource]] = []
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    done = asyncio.Event()

    def fails(_: Sequence[ConfigResource]) -> None:
        raise RuntimeError("subscriber")

    def last(_: Sequence[ConfigResource]) -> None:
        done.set()

    topic.subscribe(fails)
    leave = topic.subscribe(received.append)
    topic.subscribe(last)
    leave()
    leave()
    await topic.put([entry("a")])
    async with asyncio.timeout(HANG_SECONDS):
        await done.wait()
    assert received == []
    assert [str(context["exception"]) for context in reported] == ["subscriber"]


async def test_all_is_there_when_it_is_opened_again(opening: Open):
    topic = await opening()
    many = {entry(f"r{n}", gateway=EDGE if n % 2 else INNER, position=n) for n in range(3001)}
    await topic.put(list(many))
    await topic.close()
    topic = await opening()
    assert await loaded(topic) == many
    assert await loaded(topic, EDGE) == {each for each in many if each.gateway == EDGE}
    await topic.close()


async def test_putting_nothing_is_nothing(topic: ConfigTopic):
    received: list[Sequence[ConfigResource]] = []
    topic.subscribe(received.append)
    await topic.put([])
    await topic.put([FULL])
    assert len(await loaded(topic)) == 1
    assert received == [(FULL,)]


async def test_a_put_with_an_entry_that_cannot_be_kept_is_refused_whole_and_alone(topic: ConfigTopic):
    bad = [entry("x"), entry("\ud800")]
    results = await asyncio.gather(
        topic.put([entry("a")]), topic.put(bad), topic.put([entry("b")]), return_exceptions=True
    )
    assert isinstance(results[1], UnicodeEncodeError)
    assert results[0] is results[2] is None
    assert await loaded(topic) == {entry("a"), entry("b")}


async def test_a_closed_topic_refuses(topic: ConfigTopic):
    await topic.close()
    with pytest.raises(LogUnavailable):
        await topic.put([FULL])
    with pytest.raises(LogUnavailable):
        await loaded(topic)
