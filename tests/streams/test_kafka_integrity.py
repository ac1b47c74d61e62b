"""What Signalbox itself has written on Kafka is known by its MAC; what others forge counts for nothing."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from schemas.aggregates.organization import DefineOrganization
from schemas.outcome import Outcome
from streams.kafka.config import KafkaConfigTopic
from streams.kafka.fetcher import Fetcher
from streams.kafka.log import KafkaLog
from streams.kafka.messages.config_wire import encode as encode_entry
from streams.kafka.messages.wire import encode
from streams.kafka.producer import started_producer, stopped
from streams.kafka.security.integrity import HEADER, Integrity
from streams.kafka.security.integrity_key import (
    IntegrityKeyError,
    make_integrity,
    open_integrity,
    read_integrity,
)
from streams.kafka.settings import KafkaSettings
from streams.kafka.topics import ensure_topics
from streams.log import LogUnavailable
from tests.streams.kafka_deciders import command, decided, decider, everything
from tests.streams.test_kafka_config import entry, following
from tests.support.hang_guard import HANG_SECONDS

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
Headers = list[tuple[str, bytes]]


# -- MACs and their key


@pytest.mark.parametrize(
    "other",
    [
        ("config", 1, b"a", b"b"),
        ("outcomes", 0, b"a", b"b"),
        ("config", 0, b"b", b"a"),
        ("config", 0, b"ab", b""),
    ],
)
def test_a_mac_is_of_one_partition_and_of_its_parts_in_order(other: tuple[str, int, bytes, bytes]) -> None:
    integrity = Integrity(KEY)
    mac = integrity.mac("config", 0, b"a", b"b")
    assert re.fullmatch("[0-9a-f]{32}", mac.decode("ascii"))
    assert integrity.genuine("config", 0, 7, mac, b"a", b"b")
    topic, partition, *parts = other
    assert not integrity.genuine(topic, partition, 7, mac, *parts)
    assert not Integrity(OTHER_KEY).genuine("config", 0, 7, mac, b"a", b"b")


def test_a_message_without_a_mac_is_taken_only_where_it_stood_before_there_was_a_key() -> None:
    integrity = Integrity(KEY, {"config/0": 5})
    taken = [integrity.genuine("config", 0, offset, None, b"") for offset in (0, 4, 5, 6)]
    assert taken == [True, True, False, False]
    assert not integrity.genuine("config", 1, 0, None, b"")
    assert not integrity.genuine("config", 0, 0, b"not one of ours", b"")


def test_a_refused_entry_is_counted_once_and_logged_seldom(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    integrity = Integrity(KEY, clock=lambda: now)
    for offset in (3, 3, 4):
        integrity.refuse("config", 0, offset)
    assert integrity.refused == {"config": 2}
    [line] = [record.getMessage() for record in caplog.records if record.name == "signalbox.integrity"]
    assert "config/0 has at offset 3 a message that Signalbox did not write" in line


def test_the_key_is_made_once_and_its_owner_alone_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "secrets" / "integrity.key"
    assert read_integrity(file) is None
    first, second = make_integrity(file, {"config/0": 3}), make_integrity(file, {"config/0": 9})
    assert first.mac("config", 0) == second.mac("config", 0)
    assert not second.genuine("config", 0, 5, None), "the first one's offsets stand too"
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "content", ["", "[]", '{"key": "!", "unsigned": {}}', '{"key": "AAAA", "unsigned": {}}']
)
def test_a_key_file_that_is_damaged_is_reported_and_never_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / "integrity.key"
    file.write_text(content)
    with pytest.raises(IntegrityKeyError, match=r"integrity\.key"):
        read_integrity(file)
    assert file.read_text() == content


# -- the config topic

Open = Callable[[Integrity | None], Awaitable[KafkaConfigTopic]]


@pytest.fixture
async def opening(kafka_settings: KafkaSettings) -> AsyncIterator[Open]:
    await ensure_topics(kafka_settings)
    opened: list[KafkaConfigTopic] = []

    async def opening(integrity: Integrity | None) -> KafkaConfigTopic:
        opened.append(await KafkaConfigTopic.open(kafka_settings, integrity))
        return opened[-1]

    yield opening
    for topic in opened:
        await topic.close()


async def write(
    settings: KafkaSettings, topic: str, key: bytes, value: bytes | None, headers: Headers
) -> None:
    """As any client with write access to the topic does."""
    producer = await started_producer(settings)
    try:
        await producer.send_and_wait(settings.topic(topic), value, key, 0, headers=headers)
    finally:
        await stopped(producer)


async def on_the_topic(settings: KafkaSettings) -> list[tuple[bytes, bytes | None, Headers]]:
    fetching = await Fetcher.open(settings, [settings.topic("config")])
    try:
        place = TopicPartition(settings.topic("config"), 0)
        end = await fetching.end(place)
        found = [m async for f in fetching.through(place, 0, end, compacted=True) for m in f.messages]
        return [(m.key or b"", m.value, list(m.headers)) for m in found]
    finally:
        await fetching.close()


async def bodies(topic: KafkaConfigTopic) -> dict[str, bytes]:
    return {each.name: each.body async for chunk in topic.load() for each in chunk}


async def forge(settings: KafkaSettings, how: str) -> None:
    """Puts traffic of the entry `orders` elsewhere, or back to where it went before."""
    key, body, headers = encode_entry(entry("orders", b"to the thief"), last=True)
    if how == "replayed":
        key, body, headers = next(m for m in await on_the_topic(settings) if m[1] == b"old")
    elif how == "with-another-key":
        mac = Integrity(OTHER_KEY).mac(settings.topic("config"), 0, key, body or b"")
        headers.append((HEADER, mac))
    elif how == "removed":
        body = None
    await write(settings, "config", key, body, headers)


FORGED = ["without-mac", "with-another-key", "replayed", "removed"]


@pytest.mark.parametrize("how", FORGED)
async def test_a_forged_entry_is_served_neither_at_a_start_nor_while_following(
    opening: Open, kafka_settings: KafkaSettings, how: str
) -> None:
    # Given an entry that was put twice, and a server that follows
    writer, server = await opening(Integrity(KEY)), await opening(integrity := Integrity(KEY))
    await writer.claim(0)
    await writer.put([entry("orders", b"old")])
    await writer.put([entry("orders", b"new")])
    assert await bodies(writer) == await bodies(server) == {"orders": b"new"}
    async with following(server) as received:
        # When another program writes one, and gateway sync continues
        await forge(kafka_settings, how)
        await writer.claim(0)
        await writer.put([entry("other")])
        # Then the server receives the latter only, as does one that starts now, and the other was counted
        assert await received.until(1) == [("other",)]
    assert await bodies(server) == {"orders": b"new", "other": b"body"}
    assert integrity.refused == {kafka_settings.topic("config"): 1}


async def test_entries_of_an_earlier_version_are_served_and_forged_ones_after_them_are_not(
    opening: Open, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    earlier = await opening(None)
    await earlier.claim(0)
    await earlier.put([entry("orders", b"old"), entry("products", b"old")])
    assert len(await bodies(earlier)) == 2
    fetching = await Fetcher.open(kafka_settings, [kafka_settings.topic(t) for t in ("config", "outcomes")])
    integrity = await open_integrity(tmp_path / "integrity.key", kafka_settings, fetching)
    await fetching.close()
    await forge(kafka_settings, "without-mac")
    now = await opening(integrity)
    await now.claim(0)
    await now.put([entry("products", b"new")])
    assert await bodies(now) == {"orders": b"old", "products": b"new"}


async def test_an_entry_whose_commit_becomes_visible_after_the_key_was_made_is_served(
    opening: Open, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    fetching = await Fetcher.open(kafka_settings, [kafka_settings.topic(t) for t in ("config", "outcomes")])
    key, body, headers = encode_entry(entry("orders"), last=True)
    producer = await started_producer(kafka_settings, "earlier")
    await producer.begin_transaction()
    await producer.send_and_wait(kafka_settings.topic("config"), body, key, 0, headers=headers)
    integrity = await open_integrity(tmp_path / "integrity.key", kafka_settings, fetching)
    await producer.commit_transaction()
    await stopped(producer)
    await fetching.close()
    writer = await opening(integrity)
    await writer.claim(0)
    await writer.put([entry("products")])
    assert await bodies(writer) == {"orders": b"body", "products": b"body"}


async def test_a_server_with_another_key_waits_instead_of_serving_nothing(opening: Open) -> None:
    writer, server = await opening(Integrity(KEY)), await opening(Integrity(OTHER_KEY))
    await writer.claim(0)
    await writer.put([entry("orders")])
    assert await bodies(writer) == {"orders": b"body"}
    with pytest.raises(LogUnavailable, match="SIGNALBOX_SECRETS"):
        await bodies(server)


async def test_an_entry_hidden_by_a_forged_one_is_put_again(
    opening: Open, kafka_settings: KafkaSettings
) -> None:
    # Given a forged entry after ours, which compaction would keep, and one that was never ours
    writer = await opening(Integrity(KEY))
    await writer.claim(0)
    await writer.put([entry("orders", b"ours"), entry("products")])
    await forge(kafka_settings, "without-mac")
    key, body, headers = encode_entry(entry("ghost"), last=True)
    await write(kafka_settings, "config", key, body, headers)
    await write(kafka_settings, "config", b"no key of ours", b"?", [])
    # When gateway sync starts
    started = await opening(Integrity(KEY))
    await started.claim(0)
    assert await bodies(started) == {"orders": b"ours", "products": b"body"}
    assert await started.repair(0) == 2
    # Then ours is the newest, and what was never ours is removed
    assert await bodies(started) == {"orders": b"ours", "products": b"body"}
    newest = {key.split(b"\n")[-1]: value for key, value, _ in await on_the_topic(kafka_settings)}
    assert (newest[b"orders"], newest[b"ghost"]) == (b"ours", None)
    assert await started.repair(0) == 0


async def test_a_put_after_a_foreign_write_is_repeated_at_another_offset(
    opening: Open, kafka_settings: KafkaSettings
) -> None:
    writer = await opening(Integrity(KEY))
    await writer.claim(0)
    await forge(kafka_settings, "without-mac")
    with pytest.raises(LogUnavailable, match="instead of"):
        await writer.put([entry("orders")])
    await writer.claim(0)
    await writer.put([entry("orders")])
    assert await bodies(writer) == {"orders": b"body"}


# -- outcomes


async def forge_outcome(settings: KafkaSettings, id: str) -> None:
    """A forged rejection of a command that was not sent yet."""
    outcome = Outcome(
        organization="acme",
        name=id,
        accepted=False,
        command=DefineOrganization.type(),
        subject="organizations/acme",
        digest="0" * 64,
        position=0,
        rule="not-found",
        message="forged",
        decided_at="2026-01-01T00:00:00.000000Z",
        requested_at="2026-01-01T00:00:00.000000Z",
    )
    sent = replace(command(id), type=Outcome.type(), causationid=id, data=outcome.data())
    value, headers = encode(sent)
    await write(settings, "outcomes", b"acme", value, headers)


async def test_a_forged_outcome_does_not_use_up_the_id_of_a_command(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    # Given an outcome that no decider wrote, for a command that is still to come
    key = tmp_path / "integrity.key"
    log = await KafkaLog.open(kafka_settings, tmp_path / "one", integrity_key=key)
    api = await KafkaLog.open(kafka_settings, tmp_path / "two", integrity_key=key)
    await forge_outcome(kafka_settings, "a")
    try:
        assert await api.find("outcomes", ("acme", "a")) is None
        # When the command comes
        deciding = decider(log)
        await deciding.start()
        await decided(log, deciding, [command("a")])
        # Then it is decided, and what is found under its id is what the decider wrote
        assert [r.envelope.causationid for r in await everything(log, "events")] == ["a"]
        async with asyncio.timeout(HANG_SECONDS):
            await api.wait("outcomes", 0, 1)
        found = await api.find("outcomes", ("acme", "a"))
        assert found is not None
        assert Outcome.of(found.envelope.data).accepted
        assert [r.envelope.id for r in await api.find_by_id("outcomes", "a")] == ["a"]
        [forged, genuine] = await everything(api, "outcomes")
        assert forged.fault is not None
        assert (forged.fault.rule, forged.envelope.id, genuine.fault) == ("forged", "", None)
        assert api.integrity is not None
        assert api.integrity.refused == {kafka_settings.topic("outcomes"): 1}
    finally:
        await api.close()
        await log.close()


async def test_outcomes_of_an_earlier_version_are_still_known(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    earlier = await KafkaLog.open(kafka_settings, tmp_path / "one")
    deciding = decider(earlier)
    await deciding.start()
    await decided(earlier, deciding, [command("a")])
    now = await KafkaLog.open(kafka_settings, tmp_path / "two", integrity_key=tmp_path / "integrity.key")
    try:
        second = decider(now)
        await second.start()
        await decided(now, second, [command("a"), command("b", "one")])
        assert [r.envelope.causationid for r in await everything(now, "events")] == ["a", "b"]
        assert [r.envelope.id for r in await everything(now, "outcomes")] == ["a", "b"]
    finally:
        await now.close()
        await earlier.close()
