"""The deployments to probe on one node: those that it acknowledged (status topic) and that are in force
(config topic)."""

import asyncio
import logging
from collections.abc import Iterable, Sequence

from gateways.config_resource import ConfigResource, DeploymentRef
from schemas.status import DeliveryReported, NodeReported, Status
from signalbox.envoy.prober import Prober, Target
from streams.kafka.config import KafkaConfigTopic
from streams.log import Log, LogUnavailable, Record
from streams.status_messages import status_of

BATCH = 500
LOOK_BACK = 5_000
"""Positions of the status topic that a start reads again: acknowledgements that were not probed yet."""
RETRY_SECONDS = 0.5

logger = logging.getLogger("signalbox.envoy.prober")


class ProbeTargets:
    """Submits each deployment that a node acknowledged, and that is in force, to the prober of the node."""

    def __init__(self, log: Log, config: KafkaConfigTopic, prober: Prober, gateway: str, node: str) -> None:
        self._log = log
        self._config = config
        self._prober = prober
        self._gateway = gateway
        self._node = node
        self._partition = config.partition_of(gateway)
        self._refs: dict[
            str, tuple[DeploymentRef, int]
        ] = {}  # by deployment, of what is in force; with positions
        self._carried: dict[str, tuple[DeploymentRef, ...]] = {}  # by entry
        self._taken: dict[str, None] = {}  # acknowledged, and not known to serve or probed in vain
        self._in_vain: dict[str, Target] = {}
        self._acknowledged: int | None = None
        """Acknowledgements of the node are known up to this position; None: not known yet."""
        self._pending: set[str] = set()
        self._named: dict[str, int] = {}
        """Deployments that were reported by name after that position, with theirs."""
        self.connection = ""
        """The node's newest connection."""

    async def load(self) -> None:
        """Loads the deployments in force and subscribes to changes. Raises LogUnavailable."""
        async for entries in self._config.load(self._gateway, bodies=False):
            self._apply(entries)
        self._config.subscribe(self._apply)

    async def run(self) -> None:
        """Consumes the reports of the node, until cancelled."""
        position: int | None = None
        caught_up = 0
        while True:
            try:
                if position is None:
                    caught_up = await self._log.end("status", self._partition)
                    position = max(0, caught_up - LOOK_BACK)
                    if position == 0:
                        self._acknowledged = 0
                if position >= caught_up:
                    await self._log.wait("status", self._partition, position)
                records = await self._log.read("status", self._partition, position, BATCH)
            except LogUnavailable as error:
                logger.error("what is acknowledged is not probed: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            position = records[-1].position if records else max(position, caught_up)
            self._apply_reports(records)
            if position >= caught_up:
                self._probe(tuple(self._taken))

    def given_up(self, target: Target) -> None:
        """The deployment is probed again when the node reconnects."""
        self._in_vain[target.deployment] = target

    def _apply_reports(self, records: Iterable[Record]) -> None:
        for record in records:
            status = status_of(record)
            if status is not None and self._is_ours(status):
                self._take(status)

    def _is_ours(self, status: Status) -> bool:
        _, organization, _, name = self._gateway.split("/")
        return (status.organization, status.name) == (organization, name) and (
            getattr(status, "node", "") == self._node
        )

    def _take(self, status: Status) -> None:
        match status:
            case DeliveryReported(fact="acknowledged"):
                self._taken[status.deployment] = None
                self._named[status.deployment] = status.position
            case DeliveryReported(fact="serving" | "withdrawn" | "refused"):
                self._taken.pop(status.deployment, None)
                self._named[status.deployment] = status.position
            case NodeReported(connected=True):
                self._node_reported(status)
            case _:
                pass

    def _node_reported(self, node: NodeReported) -> None:
        """Takes what the node's progress covers and no report of its own named; what was probed in vain has
        another chance on a new connection."""
        if node.connection != self.connection:
            self.connection = node.connection
            in_vain, self._in_vain = self._in_vain, {}
            self._taken.update(dict.fromkeys(in_vain))
        if node.acknowledged is None:
            return
        pending = {exception.deployment for exception in node.exceptions}
        if self._acknowledged is not None:
            for deployment, (_, position) in self._refs.items():
                covered = self._acknowledged < position <= node.acknowledged or deployment in self._pending
                if covered and deployment not in pending and deployment not in self._named:
                    self._taken[deployment] = None
        self._acknowledged = reached = max(self._acknowledged or 0, node.acknowledged)
        self._pending = pending
        self._named = {name: position for name, position in self._named.items() if position > reached}

    def _probe(self, deployments: Iterable[str]) -> None:
        for deployment in deployments:
            known = self._refs.get(deployment)
            if known is not None:  # else its report came before its configuration
                del self._taken[deployment]
                self._prober.submit(Target.of(*known))

    def _apply(self, entries: Sequence[ConfigResource]) -> None:
        came: list[str] = []
        for entry in entries:
            if entry.gateway != self._gateway or not entry.served:
                continue
            key = f"{entry.type} {entry.name}"
            for ref in self._carried.pop(key, ()):
                self._refs.pop(ref.deployment, None)
                if ref not in entry.deployments:
                    self._prober.forget(ref.deployment)
                    self._in_vain.pop(ref.deployment, None)
            if entry.deployments:
                self._carried[key] = entry.deployments
                for ref in entry.deployments:
                    self._refs[ref.deployment] = (ref, entry.position)
                    came.append(ref.deployment)
        self._probe(deployment for deployment in came if deployment in self._taken)
