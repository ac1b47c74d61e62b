"""Checks that Signalbox's own messages on Kafka were written by Signalbox; `doctor` changes nothing."""

import asyncio
from collections.abc import Iterator

from aiokafka import TopicPartition

from signalbox.cli.doctor.finding import Check
from signalbox.settings import Settings
from streams.kafka.config import genuine
from streams.kafka.fetcher import Fetcher
from streams.kafka.security.integrity import Integrity
from streams.kafka.security.integrity_key import IntegrityKeyError, read_integrity
from streams.log import LogError

LATEST = 10_000
"""The number of newest offsets that are checked per partition of outcomes; all are checked of the
configuration."""
NAMED = 3


def integrity(settings: Settings, *, reachable: bool) -> Iterator[Check]:
    """`reachable`: whether the topics exist and can be read."""
    file = settings.integrity_key
    try:
        known = read_integrity(file)
    except IntegrityKeyError as error:
        yield Check("integrity key", "wrong", str(error), "no role starts until it is repaired")
        return
    if known is None:
        yield Check("integrity key", "note", f"{file} does not exist", "the first role to start creates it")
        return
    if file.stat().st_mode & 0o077:
        yield Check("integrity key", "wrong", f"others may read {file}", f"chmod 600 {file}")
    else:
        yield Check("integrity key", "ok", str(file))
    if not reachable:
        return
    try:
        for what, count, forged in asyncio.run(_looked_through(settings, known)):
            yield _check(what, count, forged)
    except (LogError, OSError) as error:
        yield Check("messages of our own", "wrong", str(error), "is the broker reachable?")


def _check(what: str, count: int, forged: list[str]) -> Check:
    if not forged:
        return Check(what, "ok", f"{count:,} messages, all written by Signalbox")
    named = ", ".join(forged[:NAMED]) + (", …" if len(forged) > NAMED else "")
    return Check(
        what,
        "wrong",
        f"{len(forged):,} of {count:,} messages were not written by Signalbox, or with another key: {named}",
        "they are ignored; find out who may write to the topic. A restart of the role gateway-sync writes "
        "the config resources again that they replaced",
    )


async def _looked_through(settings: Settings, integrity: Integrity) -> list[tuple[str, int, list[str]]]:
    """Per topic: its description, the number of messages, and the forged ones (key, or partition and
    offset)."""
    kafka = settings.kafka
    config, outcomes = kafka.topic("config"), kafka.topic("outcomes")
    fetching = await Fetcher.open(kafka, [config, outcomes])
    counts = {config: 0, outcomes: 0}
    forged: dict[str, list[str]] = {config: [], outcomes: []}
    try:
        for topic in (config, outcomes):
            for partition in range(kafka.partitions):
                place = TopicPartition(topic, partition)
                begin, end = await fetching.beginning(place), await fetching.end(place)
                if topic == outcomes:
                    begin = max(begin, end - LATEST)
                async for fetched in fetching.through(place, begin, end, compacted=topic == config):
                    for message in fetched.messages:
                        counts[topic] += 1
                        at = (topic, partition, message.offset)
                        if topic == config and not genuine(integrity, message):
                            name = (message.key or b"").decode(errors="replace").replace("\n", " ")
                            forged[topic].append(f"{name!a} at {partition}/{message.offset}")
                        elif topic == outcomes and not integrity.genuine_sealed(
                            *at, message.value, message.headers
                        ):
                            forged[topic].append(f"{partition}/{message.offset}")
    finally:
        await fetching.close()
    return [
        ("configuration", counts[config], forged[config]),
        ("outcomes", counts[outcomes], forged[outcomes]),
    ]
