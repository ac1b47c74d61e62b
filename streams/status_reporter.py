"""Appends status messages to the status topic in batches, so that many acknowledgements are one append."""

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
    """Accepts status messages at any time and appends them in order.

    Of the waiting messages, only the newest about each subject and fact is kept, so that they do not grow
    without bound while the log refuses writes.
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
            # Two connections of one node report separately.
            key = (*_key(message), getattr(message, "connection", ""))
            self._waiting.pop(key, None)  # the order is that of the last reports
            self._waiting[key] = message
        self._wake.set()

    async def run(self) -> None:
        """Appends until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def durable(self) -> None:
        """Returns once all earlier reports are on the log. Raises LogUnavailable."""
        async with self._turn:
            earlier = frozenset(self._waiting)
            while not earlier.isdisjoint(self._waiting):
                await self._append()

    async def flush(self) -> None:
        """Appends all waiting messages, and retries while the log refuses them."""
        await self._retry(self.durable)

    async def close(self) -> None:
        """Appends the waiting messages, unless the log refuses them: a stop does not wait for disk space.

        Lost messages are reported again when the proxies reconnect.
        """
        try:
            await self.durable()
        except LogUnavailable as error:
            logger.error("%d status messages are lost: %s", len(self._waiting), error)

    async def _append(self) -> None:
        """Appends the first messages. Raises LogUnavailable: then all messages are kept."""
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
    """The subject of a message; its last part is the fact."""
    gateway = ("organizations", message.organization, "gateways", message.name)
    if isinstance(message, DeliveryReported):
        return (*gateway, "deployments", message.deployment, "nodes", message.node, message.fact)
    return (*gateway, "nodes", getattr(message, "node", "*"), message.verb)
