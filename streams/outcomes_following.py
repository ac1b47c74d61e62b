"""Hears from the outcomes topic what became of commands, whichever process decided them."""

import asyncio
import logging
from collections.abc import Callable, Iterable

from pydantic import ValidationError

from schemas.outcome import Outcome
from streams.log import Log, LogUnavailable, Record

BATCH = 1000
RETRY_SECONDS = 0.5
REUSED = "command-id-reused"
"""The rule of a rejection beside which the first outcome of the same id stands."""

logger = logging.getLogger("signalbox.outcomes")


class OutcomesFollower:
    """Tells `decided` of every outcome from its `start` on, of all partitions.

    `trouble` says why nothing is heard at the moment, and is empty otherwise.
    """

    def __init__(self, log: Log, decided: Callable[[Iterable[Outcome]], None]) -> None:
        self._log = log
        self._decided = decided
        self._positions: dict[int, int] = {}
        self.trouble = ""

    async def start(self) -> None:
        """Notes where outcomes end: what is decided from now on is heard. Raises LogUnavailable."""
        for partition in range(self._log.partitions):
            self._positions[partition] = await self._log.end("outcomes", partition)

    async def run(self) -> None:
        """Follows until cancelled; `start` comes first. Raises LogDamaged."""
        async with asyncio.TaskGroup() as following:
            for partition in self._positions:
                following.create_task(self._follow(partition))

    async def _follow(self, partition: int) -> None:
        while True:
            try:
                position = self._positions[partition]
                await self._log.wait("outcomes", partition, position)
                records = await self._log.read("outcomes", partition, position, BATCH)
            except LogUnavailable as error:
                if not self.trouble:
                    logger.warning("outcomes are not heard: %s", error)
                self.trouble = str(error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self.trouble = ""
            if records:
                self._positions[partition] = records[-1].position
                self._decided([o for o in map(_outcome, records) if o is not None])


def _outcome(record: Record) -> Outcome | None:
    """None for what is no answer to the command that had the id first."""
    if record.fault is not None or record.envelope.type != Outcome.type():
        return None
    try:
        outcome = Outcome.of(record.envelope.data)
    except ValidationError:
        logger.warning("outcomes/%d, position %d is no outcome", record.partition, record.position)
        return None
    return None if outcome.rule == REUSED else outcome
