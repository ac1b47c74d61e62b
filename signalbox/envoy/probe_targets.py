"""The deployments to probe on one node: those that it acknowledged (status topic) and that are in force
(config topic)."""

from collections.abc import Iterable, Sequence

from gateways.config_resource import ConfigResource, DeploymentRef
from schemas.status import DeliveryReported, NodeReported, Status
from signalbox.envoy.prober import Prober, Target
from streams.config_topic import ConfigTopic
from streams.log import Log
from streams.status_messages import status_of

BATCH = 500
LOOK_BACK = 5_000
"""Positions of the status topic that a start reads again: acknowledgements that were not probed yet."""


class ProbeTargets:
    """Submits each deployment that a node acknowledged, and that is in force, to the prober of the node."""

    def __init__(self, prober: Prober, gateway: str, node: str) -> None:
        self._prober = prober
        self._gateway = gateway
        self._node = node
        self._refs: dict[
            str, tuple[DeploymentRef, int]
        ] = {}  # by deployment, of what is in force; with positions
        self._carried: dict[str, tuple[DeploymentRef, ...]] = {}  # by entry
        self._carrier: dict[str, str] = {}  # by deployment: the entry that it came with last
        self._taken: dict[str, None] = {}  # acknowledged, and not known to serve or probed in vain
        self._in_vain: dict[str, Target] = {}
        self._acknowledged: int | None = None
        """Acknowledgements of the node are known up to this position; None: not known yet."""
        self._pending: set[str] = set()
        self._named: dict[str, int] = {}
        """Deployments that were reported by name after that position, with theirs."""
        self.connection = ""
        """The node's newest connection; empty when it is not connected."""
        self.has_connected = False
        """Whether any known report says that the node was connected."""
        self.listener_refused = ""
        """Why the node rejected its listener; empty when it did not."""

    async def load(self, config: ConfigTopic) -> None:
        """Loads the deployments in force and subscribes to changes. Raises LogUnavailable."""
        async for entries in config.load(self._gateway, bodies=False):
            self._apply(entries)
        config.subscribe(self._apply)

    async def look_back(self, log: Log, partition: int) -> int:
        """Reads the last reports on the status topic, and probes deployments that were not probed before;
        returns the position it has read up to. Raises LogUnavailable."""
        end = await log.end("status", partition)
        position = max(0, end - LOOK_BACK)
        if position == 0:
            self._acknowledged = 0
        while position < end:
            records = await log.read("status", partition, position, BATCH)
            if not records:
                break
            position = records[-1].position
            self._take_all(status for record in records if (status := status_of(record)) is not None)
        self._probe(tuple(self._taken))
        return position

    def reported(self, statuses: Sequence[Status]) -> None:
        """Handles reports on any nodes."""
        self._take_all(statuses)
        self._probe(tuple(self._taken))

    def given_up(self, target: Target) -> None:
        """The deployment is probed again when the node reconnects."""
        self._in_vain[target.deployment] = target

    def _take_all(self, statuses: Iterable[Status]) -> None:
        for status in statuses:
            if self._is_ours(status):
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
            case NodeReported() if status.connection == self.connection:
                self.connection = self.listener_refused = ""
            case _:
                pass

    def _node_reported(self, node: NodeReported) -> None:
        """Adds deployments that the node's progress covers and no report named; deployments whose probes
        failed are probed again on a new connection."""
        self.listener_refused = node.listener_refused
        self.has_connected = True
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
        changed = [(f"{e.type} {e.name}", e) for e in entries if e.gateway == self._gateway and e.served]
        came: list[str] = []
        for key, entry in changed:
            for ref in entry.deployments:
                self._refs[ref.deployment] = (ref, entry.position)
                self._carrier[ref.deployment] = key
                came.append(ref.deployment)
        for key, entry in changed:
            for ref in self._carried.pop(key, ()):
                # Unless the deployment has moved to another entry.
                if ref not in entry.deployments and self._carrier.get(ref.deployment) == key:
                    del self._refs[ref.deployment], self._carrier[ref.deployment]
                    self._prober.forget(ref.deployment)
                    self._in_vain.pop(ref.deployment, None)
            if entry.deployments:
                self._carried[key] = entry.deployments
        self._probe(deployment for deployment in came if deployment in self._taken)
