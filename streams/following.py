"""Hears what is put on a topic from now on, in every partition."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from streams.log import Log, LogUnavailable, Record, Topic

BATCH = 1000
RETRY_SECONDS = 0.5
logger = logging.getLogger("signalbox.following")


class Follower:
    """Hands `told` the records of `topic` from its `start` on.

    `trouble` says why nothing is heard at the moment, and is empty otherwise.
    """

    def __init__(self, log: Log, topic: Topic, told: Callable[[Sequence[Record]], None]) -> None:
        self._log = log
        self._topic: Topic = topic
        self._told = told
        self._positions: dict[int, int] = {}
        self.trouble = ""

    async def start(self) -> None:
        """Notes where the topic ends: what comes from now on is heard. Raises LogUnavailable."""
        for partition in range(self._log.partitions):
            self._positions[partition] = await self._log.end(self._topic, partition)

    async def run(self) -> None:
        """Follows until cancelled; `start` comes first. Raises LogDamaged."""
        async with asyncio.TaskGroup() as following:
            for partition in self._positions:
                following.create_task(self._follow(partition))

    async def _follow(self, partition: int) -> None:
        while True:
            try:
                position = self._positions[partition]
                await self._log.wait(self._topic, partition, position)
                records = await self._log.read(self._topic, partition, position, BATCH)
            except LogUnavailable as error:
                if not self.trouble:
                    logger.warning("%s are not heard: %s", self._topic, error)
                self.trouble = str(error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self.trouble = ""
            if records:
                self._positions[partition] = records[-1].position
                self._told(records)
