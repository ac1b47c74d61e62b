"""Membership of a consumer group: which partitions are this process's to work on.

Only the assignment comes from the group. What is read, and from where, is for whoever is told; two who
believe they have a partition at the same time are kept apart by fencing (`streams.kafka.partition_writer`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from streams.kafka.settings import KafkaSettings

logger = logging.getLogger("signalbox.kafka")

PartitionCallback = Callable[[int], Awaitable[None]]
POLL_MS = 200
RETRY_SECONDS = 1.0
LONGEST_PAUSE_MS = 24 * 3600 * 1000
"""A member that consumes nothing would be thought to be stuck: being alive is all that is asked here."""


class Membership:
    """`assigned` and `revoked` are awaited with each partition that comes and goes.

    `revoked` ends before another member is given the partition, unless this process stood still for longer
    than the session time-out.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        topic: str,
        assigned: PartitionCallback,
        revoked: PartitionCallback,
    ) -> None:
        self._settings = settings
        self._group = settings.group(group)
        self._topic = settings.topic(topic)
        self._assigned = assigned
        self._revoked = revoked
        self._rejoin = asyncio.Event()
        self.partitions: set[int] = set()
        self.joined = asyncio.Event()
        """Set once the group has said for the first time what is ours."""

    async def run(self) -> None:
        """Takes part until cancelled, then leaves."""
        while True:
            try:
                await self._take_part()
            except (KafkaError, OSError) as error:
                logger.error("%s: the group cannot be reached: %s", self._group, error)
                await self._give_up()
                await asyncio.sleep(RETRY_SECONDS)

    def rejoin(self) -> None:
        """Leaves the group and joins it anew: what is ours is worked on by another."""
        self._rejoin.set()

    async def _take_part(self) -> None:
        """Until `rejoin`. Raises aiokafka's errors."""
        self._rejoin.clear()
        options: dict[str, Any] = {
            **self._settings.client(),
            "group_id": self._group,
            "enable_auto_commit": False,
            "auto_offset_reset": "latest",
            "session_timeout_ms": self._settings.session_timeout_ms,
            "heartbeat_interval_ms": self._settings.session_timeout_ms // 4,
            "max_poll_interval_ms": LONGEST_PAUSE_MS,
        }
        consumer = AIOKafkaConsumer(**options)
        listener = _Listener(self, consumer)
        consumer.subscribe([self._topic], listener=listener)
        rejoin = asyncio.create_task(self._rejoin.wait())
        try:
            await consumer.start()
            while not rejoin.done():
                # Nothing is fetched, since all is paused: this tells of what the group's errors are.
                await consumer.getmany(timeout_ms=POLL_MS)
        finally:
            rejoin.cancel()
            await self._give_up()
            await consumer.stop()

    async def _give_up(self) -> None:
        await self.on_revoked(set(self.partitions))

    async def on_assigned(self, partitions: set[int]) -> None:
        for partition in sorted(partitions - self.partitions):
            self.partitions.add(partition)
            await self._assigned(partition)
        self.joined.set()

    async def on_revoked(self, partitions: set[int]) -> None:
        for partition in sorted(partitions & self.partitions):
            self.partitions.discard(partition)
            await self._revoked(partition)


class _Listener(ConsumerRebalanceListener):
    def __init__(self, membership: Membership, consumer: AIOKafkaConsumer) -> None:
        self._membership = membership
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._membership.on_revoked({place.partition for place in revoked})

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._consumer.pause(*assigned)
        await self._membership.on_assigned({place.partition for place in assigned})
