"""Membership in a consumer group: the assignment of partitions to this process.

The group only assigns partitions; the callbacks read them, from offsets of their choice. Fencing
(`streams.kafka.partition_writer`) excludes that two processes write to a partition at the same time.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from streams.kafka.settings import KafkaSettings
from streams.retry import Retry

logger = logging.getLogger("signalbox.kafka")

PartitionCallback = Callable[[int], Awaitable[None]]
POLL_MS = 200
LONGEST_PAUSE_MS = 24 * 3600 * 1000
"""Disables the poll time-out: this member never consumes, it only sends heartbeats."""


class Membership:
    """`assigned` and `revoked` are awaited with each assigned or revoked partition.

    `revoked` ends before the partition is assigned to another member, unless this process was suspended for
    longer than the session time-out.
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
        self._retry = Retry(f"{self._group}: the group cannot be reached", logger, retryable=_retryable)
        self.partitions: set[int] = set()
        self.joined = asyncio.Event()
        """Set after the first assignment."""

    async def run(self) -> None:
        """Is a member until cancelled, then leaves the group."""
        while True:
            await self._retry(self._take_part)

    def rejoin(self) -> None:
        """Leaves the group and joins it again: another member gets the partitions."""
        self._rejoin.set()

    async def _take_part(self) -> None:
        """Is a member until `rejoin`. Raises aiokafka's errors."""
        self._rejoin.clear()
        await self._give_up()  # partitions that were assigned while the previous membership ended
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
                # Nothing is fetched, since all partitions are paused: this raises errors of the group.
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
        self._retry.succeeded()
        self.joined.set()

    async def on_revoked(self, partitions: set[int]) -> None:
        for partition in sorted(partitions & self.partitions):
            self.partitions.discard(partition)
            await self._revoked(partition)


def _retryable(error: Exception) -> bool:
    return isinstance(error, KafkaError | OSError)


class _Listener(ConsumerRebalanceListener):
    def __init__(self, membership: Membership, consumer: AIOKafkaConsumer) -> None:
        self._membership = membership
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._membership.on_revoked({place.partition for place in revoked})

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._consumer.pause(*assigned)
        await self._membership.on_assigned({place.partition for place in assigned})
