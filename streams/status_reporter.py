"""Status messages to the status topic, gathered so that a thousand acknowledgements are one append."""

import asyncio
import logging
from collections.abc import Sequence

from schemas.envelope import Envelope
from schemas.envelopes import envelope_for
from schemas.status import DeliveryReported, Status
from streams.log import Log, LogUnavailable
from streams.retry import Retry

logger = logging.getLogger("signalbox.status")

MOST = 500


class StatusReporter:
    """Takes status messages at any time and appends them in order.

    What waits is kept to the newest message per thing reported, so that a log that refuses writes
    does not make it grow without bound.
    """

    def __init__(self, log: Log, source: str) -> None:
        self._log = log
        self._source = source
        self._waiting: dict[tuple[str, ...], Status] = {}
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._retry = Retry("status messages wait for the log", logger)

    def report(self, messages: Sequence[Status]) -> None:
        for message in messages:
            # What two connections of one node say are different things.
            key = (*_key(message), getattr(message, "connection", ""))
            self._waiting.pop(key, None)  # what is reported last is appended last
            self._waiting[key] = message
        self._wake.set()

    async def run(self) -> None:
        """Appends until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def durable(self) -> None:
        """Returns once all that was reported before is on the log. Raises LogUnavailable."""
        async with self._turn:
            while self._waiting:
                await self._append()

    async def flush(self) -> None:
        """Appends all that waits, however long the log refuses it."""
        await self._retry(self.durable)

    async def close(self) -> None:
        """Appends what waits, unless the log refuses it: a stop does not wait for room on the disk.

        What is lost is reported again when the proxies connect anew.
        """
        try:
            await self.durable()
        except LogUnavailable as error:
            logger.error("%d status messages are lost: %s", len(self._waiting), error)

    async def _append(self) -> None:
        """Raises LogUnavailable: all goes on waiting."""
        keys = list(self._waiting)[:MOST]
        batch = [self._waiting.pop(key) for key in keys]
        try:
            await self._log.append("status", [self._envelope(message) for message in batch])
        except LogUnavailable:
            newer = self._waiting
            self._waiting = {key: m for key, m in zip(keys, batch, strict=True) if key not in newer}
            self._waiting.update(newer)
            raise

    def _envelope(self, message: Status) -> Envelope:
        subject = "/".join(_key(message)[:-1])
        return envelope_for(message, source=self._source, subject=subject, time=message.at)


def _key(message: Status) -> tuple[str, ...]:
    """What a message speaks of; its last part is the fact."""
    gateway = ("organizations", message.organization, "gateways", message.name)
    if isinstance(message, DeliveryReported):
        return (*gateway, "deployments", message.deployment, "nodes", message.node, message.fact)
    return (*gateway, "nodes", getattr(message, "node", "*"), message.verb)
