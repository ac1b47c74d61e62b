"""What proxies answered, as gateway sync hears of it when they are connected to another process: through
the status topic."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateways.entry import Entry
from schemas.catalog import GATEWAY
from schemas.status import DeliveryReported
from streams.config_view import ConfigView
from streams.gateway_sync import GatewaySync
from streams.log import Log, LogUnavailable, Record
from streams.status_reading import status_of

BATCH = 500
RETRY_SECONDS = 0.5

logger = logging.getLogger("signalbox.gateway-sync")


@dataclass(slots=True)
class GatewayAnswers:
    """Follows one partition of the status topic for the gateway sync of that partition."""

    log: Log
    sync: GatewaySync
    view: ConfigView
    _refused: dict[tuple[str, str, str], tuple[str, int]] = field(
        default_factory=dict[tuple[str, str, str], tuple[str, int]]
    )
    """Of each entry that was refused, version and position: each node says so, for each deployment."""

    async def follow(self, position: int) -> None:
        """Tells of all answers after a position, until cancelled."""
        partition = self.sync.partition
        while True:
            try:
                await self.log.wait("status", partition, position)
                records = await self.log.read("status", partition, position, BATCH)
            except LogUnavailable as error:
                logger.error("gateways' answers wait for the log: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if records:
                self.tell(records)
                position = records[-1].position

    def tell(self, records: Iterable[Record]) -> None:
        for record in records:
            report = status_of(record)
            if not isinstance(report, DeliveryReported) or report.fact not in ("acknowledged", "refused"):
                continue
            gateway = GATEWAY.subject(report.organization, report.name)
            entry = self.view.carrying(gateway, report.version)
            if entry is None:
                continue
            if report.fact == "acknowledged":
                self.sync.acknowledged(gateway, (entry,))
            elif self.view.entry(*entry.key) is entry and self._is_news(entry):
                # What has been superseded meanwhile needs not be taken back: its successor is answered too.
                self.sync.refused(gateway, (entry,))

    def _is_news(self, entry: Entry) -> bool:
        version = (entry.version, entry.position)
        known = self._refused.get(entry.key)
        self._refused[entry.key] = version
        return known != version
