"""Reads the state of a cluster and of Signalbox's consumer groups."""

import asyncio
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from streams.kafka.settings import KafkaSettings
from streams.kafka.topics import admin_client

COORDINATOR_ATTEMPTS = 25
COORDINATOR_PAUSE = 0.2


@dataclass(frozen=True, slots=True)
class Cluster:
    """`brokers` are `HOST:PORT` by node id."""

    id: str
    brokers: dict[int, str]
    controller: int


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group: its state in Kafka's terms, its members' hosts, and committed offsets."""

    name: str
    state: str
    members: tuple[str, ...]
    offsets: dict[TopicPartition, int]


async def describe(settings: KafkaSettings, groups: list[str]) -> tuple[Cluster, list[Group]]:
    """The cluster, and those of the named groups that exist. Raises LogUnavailable."""
    async with admin_client(settings) as admin:
        described = await admin.describe_cluster()
        cluster = Cluster(
            id=str(described.get("cluster_id") or ""),
            brokers={b["node_id"]: f"{b['host']}:{b['port']}" for b in described["brokers"]},
            controller=int(described.get("controller_id", -1)),
        )
        return cluster, [group for name in groups if (group := await _group(admin, name)) is not None]


async def _group(admin: AIOKafkaAdminClient, name: str) -> Group | None:
    (response,) = await _described(admin, name)
    described: tuple[Any, ...] = response.groups[0]
    _, _, state, _, _, members = described[:6]
    offsets = {
        place: kept.offset
        for place, kept in (await admin.list_consumer_group_offsets(name)).items()
        if kept.offset >= 0
    }
    if state == "Dead" and not offsets:
        return None
    return Group(name, str(state), tuple(str(member[2]).lstrip("/") for member in members), offsets)


async def _described(admin: AIOKafkaAdminClient, name: str) -> list[Any]:
    """At the first request for a group, a new cluster creates the topic of groups; so this tries again."""
    for _ in range(COORDINATOR_ATTEMPTS):
        try:
            return await admin.describe_consumer_groups([name])
        except GroupCoordinatorNotAvailableError:
            await asyncio.sleep(COORDINATOR_PAUSE)
    return await admin.describe_consumer_groups([name])
