"""The answers of nodes that are connected to other processes, read from the status topic. The position of
this consumer is on the config topic, put together with the changes that the answers caused."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from schemas.catalog import GATEWAY
from schemas.status import DeliveryReported, NodeReported
from streams.gateway_sync.config_view import ConfigView
from streams.gateway_sync.sync import GatewaySync
from streams.log import Log, LogUnavailable, Record
from streams.retry import Retry
from streams.status_messages import status_of
from streams.subscription import Subscription

logger = logging.getLogger("signalbox.gateway-sync")


@dataclass(slots=True)
class GatewayStatusConsumer:
    """Follows one partition of the status topic for the gateway sync of that partition."""

    log: Log
    sync: GatewaySync
    view: ConfigView
    on_delivery: Callable[[DeliveryReported], None] = lambda report: None
    """Called with each report of any process."""

    def begin(self, end: int) -> None:
        """`end`: the end of the status topic before the config topic was loaded.

        Without a stored position, as before the first put of a version that stores one, deployments in force
        count as acknowledged, and answers from now on are read.
        """
        changes = self.sync.changes
        changes.verdicts.learn()
        if changes.followed is None:
            changes.followed = end
        elif changes.followed > end:
            logger.error(
                "status/%d ends at %d and was read up to %d: it lost records; reading continues at its end",
                *(self.sync.partition, end, changes.followed),
            )
            changes.followed = end

    async def follow(self) -> None:
        """Handles all reports after the kept position, until cancelled. Raises Fenced."""

        async def start(partition: int) -> int:
            return self.sync.changes.followed or 0

        async def handle(records: Sequence[Record]) -> None:
            # A batch that failed after its position was kept is not handled twice.
            kept = self.sync.changes.followed or 0
            await self.take([record for record in records if record.position > kept])

        retry = Retry("reports of gateways are not handled", logger)
        subscription = Subscription(self.log, "status", handle, start=start, retry=retry)
        await subscription.run((self.sync.partition,))

    async def take(self, records: Iterable[Record]) -> None:
        """Handles answers; after LogUnavailable, call it again with the same ones. Raises LogUnavailable,
        Fenced."""
        changes = self.sync.changes
        async with self.sync.turn:
            await changes.settle()
            before = position = changes.followed
            for record in records:
                status = status_of(record)
                if isinstance(status, DeliveryReported):
                    await self._delivery(status, record.position)
                elif isinstance(status, NodeReported):
                    self._node(status, record.position)
                position = record.position
            changes.followed = position
            try:
                await changes.decide()
            except LogUnavailable:
                changes.followed = before
                raise
            if changes.acceptance.untimed:
                changes.acceptance.timed(await self.log.end("status", self.sync.partition))

    def _node(self, report: NodeReported, at: int) -> None:
        gateway = GATEWAY.subject(report.organization, report.name)
        changes = self.sync.changes
        if report.connected:
            changes.verdicts.connected(gateway, report.node, report.connection, report.connections)
        else:
            changes.verdicts.left(gateway, report.node, report.connection)
        if report.acknowledged is not None:
            exceptions = {exception.deployment for exception in report.exceptions}
            changes.acceptance.acknowledged_up_to(
                gateway, report.acknowledged, exceptions, report.connection, at
            )

    async def _delivery(self, report: DeliveryReported, at: int) -> None:
        self.on_delivery(report)
        gateway = GATEWAY.subject(report.organization, report.name)
        changes = self.sync.changes
        entry = self.view.carrying(gateway, report.version)
        match report.fact:
            case "acknowledged":
                # An entry that was superseded before a restart is not known any more.
                changes.acceptance.acknowledged(gateway, entry.deployments if entry else ())
                changes.acceptance.acknowledged_one(gateway, report.api, report.deployment)
            case "refused" if entry is not None:
                await changes.rejected(entry, report.node, report.reason, at)
            case _:
                pass
