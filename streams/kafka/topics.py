"""Creates missing topics, and checks existing ones."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streams.kafka.producer import BATCH_FACTOR, unavailable
from streams.kafka.settings import KafkaSettings
from streams.log import LogError

WEEK_MS = 7 * 24 * 3600 * 1000
FOREVER = "-1"
TIMESTAMP_TYPE = "message.timestamp.type"


class TopicMismatch(LogError):
    """A topic is misconfigured; the message names the setting and the remedy."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """`required` settings are checked, since history could be lost otherwise; `wanted` are only set at the
    creation."""

    name: str
    required: Mapping[str, str]
    wanted: Mapping[str, str]


def specs(settings: KafkaSettings) -> tuple[TopicSpec, ...]:
    small, large = str(settings.max_message), str(settings.max_message * BATCH_FACTOR)
    kept = {"cleanup.policy": "delete", "retention.ms": FOREVER, "retention.bytes": FOREVER}
    compacted = {"cleanup.policy": "compact"}
    # Small segments: only closed segments are compacted.
    soon = {
        "segment.bytes": str(16 * 2**20),
        "min.cleanable.dirty.ratio": "0.2",
        # Consumers that were disconnected for a shorter time still receive every tombstone.
        "delete.retention.ms": str(WEEK_MS),
        "max.message.bytes": large,
    }
    return (
        TopicSpec(
            "commands",
            # By the broker's clock: a token is verified at the time of its command. By the sender's clock,
            # an expired token would be valid for ever.
            {"cleanup.policy": "delete", TIMESTAMP_TYPE: "LogAppendTime"},
            {"retention.ms": str(WEEK_MS), "max.message.bytes": small},
        ),
        TopicSpec("events", kept, {"max.message.bytes": large}),
        TopicSpec("outcomes", kept, {"max.message.bytes": large}),
        TopicSpec("status", kept, {"max.message.bytes": small}),
        TopicSpec("parked", kept, {"max.message.bytes": large}),
        TopicSpec("config", compacted, soon),
        TopicSpec("snapshots", compacted, soon),
    )


@asynccontextmanager
async def admin_client(settings: KafkaSettings) -> AsyncGenerator[AIOKafkaAdminClient]:
    """Raises LogUnavailable, also for errors of Kafka within the context."""
    admin = AIOKafkaAdminClient(**settings.client())
    try:
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()
    except (KafkaError, OSError) as error:
        raise unavailable(settings, error) from error


async def ensure_topics(settings: KafkaSettings) -> None:
    """Creates missing topics and checks existing ones.

    Raises TopicMismatch, LogUnavailable.
    """
    async with admin_client(settings) as admin:
        present = set(await admin.list_topics())
        missing = [s for s in specs(settings) if settings.topic(s.name) not in present]
        if missing:
            await _create(admin, settings, missing)
        problems = await _problems(admin, settings, created=bool(missing))
    if problems:
        raise TopicMismatch(problems[0])


async def topic_problems(settings: KafkaSettings) -> list[str]:
    """A sentence per wrong setting and per missing topic. Raises LogUnavailable."""
    async with admin_client(settings) as admin:
        return await _problems(admin, settings)


async def _create(admin: AIOKafkaAdminClient, settings: KafkaSettings, missing: list[TopicSpec]) -> None:
    # With three or more replicas, one may be unavailable; with fewer, all must have acknowledged records.
    in_sync = max(1, settings.replication - 1)
    response = await admin.create_topics(
        [
            NewTopic(
                settings.topic(spec.name),
                settings.partitions,
                settings.replication,
                topic_configs={**spec.required, **spec.wanted, "min.insync.replicas": str(in_sync)},
            )
            for spec in missing
        ]
    )
    for topic, code, *rest in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            message = rest[0] if rest and rest[0] else error.__name__
            raise TopicMismatch(f"The topic {topic} cannot be created: {message}")


async def _problems(
    admin: AIOKafkaAdminClient, settings: KafkaSettings, *, created: bool = False
) -> list[str]:
    wanted = {settings.topic(spec.name): spec for spec in specs(settings)}
    partitions = await _partitions(admin, list(wanted), created)
    problems: list[str] = []
    for name in wanted:
        count = partitions.get(name, 0)
        if not count:
            problems.append(f"The topic {name} is missing.")
        elif count != settings.partitions:
            problems.append(
                f"The topic {name} has {count} partitions, this process is configured for "
                f"{settings.partitions} (SIGNALBOX_KAFKA_PARTITIONS); the number never changes."
            )
    if problems:
        return problems
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
    for response in await admin.describe_configs(resources):
        for _, _, _, name, entries in response.resources:
            have = {entry[0]: entry[1] for entry in entries}
            required = {
                **wanted[name].required,
                "max.message.bytes": wanted[name].wanted["max.message.bytes"],
            }
            problems.extend(_differing(name, have, required, settings.replication))
    return problems


def _differing(
    topic: str, have: Mapping[str, str], required: Mapping[str, str], replication: int
) -> list[str]:
    problems = [
        f"The topic {topic} has {setting}={have.get(setting)}, it must be {value}: "
        f"kafka-configs.sh --alter --topic {topic} --add-config {setting}={value}"
        for setting, value in required.items()
        if setting != "max.message.bytes" and have.get(setting) != value
    ]
    size = int(required["max.message.bytes"])
    if int(have.get("max.message.bytes") or 0) < size:
        problems.append(
            f"The topic {topic} takes messages of {have.get('max.message.bytes')} bytes, it must be {size}: "
            f"kafka-configs.sh --alter --topic {topic} --add-config max.message.bytes={size}"
        )
    in_sync = int(have.get("min.insync.replicas") or 1)
    if replication >= 3 and in_sync < 2:
        problems.append(
            f"The topic {topic} has min.insync.replicas={in_sync} with {replication} replicas: losing one "
            f"broker would lose acknowledged records. Set it to {replication - 1}."
        )
    return problems


async def _partitions(admin: AIOKafkaAdminClient, names: list[str], created: bool) -> dict[str, int]:
    """The number of partitions per topic. Just `created` topics need a moment to get leaders."""
    found: list[dict[str, Any]] = []
    for _ in range(100):
        found = await admin.describe_topics(names)
        if not created or all(
            t["partitions"] and all(p["leader"] != -1 for p in t["partitions"]) for t in found
        ):
            break
        await asyncio.sleep(0.05)
    return {topic["topic"]: len(topic["partitions"]) for topic in found}
