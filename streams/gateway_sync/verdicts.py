"""When rejections of single nodes become the rejection of their gateway. Pure but for the clock.

One acknowledgement decides for a deployment: it stays in force, also when other nodes reject it. Without
one, a rejection is provisional while a connected node has not answered, for at most `VERDICT_SECONDS` after
the first rejection; then the deployment is rejected.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from math import inf
from time import monotonic

from gateways.config_resource import ConfigResource

VERDICT_SECONDS = 5.0
"""How long a rejection waits for the answers of the other nodes."""
NODE_TIMEOUT_SECONDS = 30.0
"""A node whose heartbeats come over the status topic is not connected any more after so long without one."""
LEARN_SECONDS = 15.0
"""Each connected node has at least one heartbeat on the status topic in this time."""

EntryKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Rejection:
    """An entry that was rejected, first for `reason`, by `nodes` on all their connections, and no node runs.

    `deployments` are those of it that no node had acknowledged. `deadline` is on the clock of `Verdicts`;
    `at` is where the first rejection stands on the status topic, 0 when it did not come from there.
    """

    entry: ConfigResource
    deployments: frozenset[str]
    nodes: frozenset[str]
    reason: str
    deadline: float
    at: int = 0


@dataclass(slots=True)
class Verdicts:
    """The connected nodes of each gateway, and the rejections that are not decided.

    A node is any text that is unique among the connected nodes of a gateway. Without a heartbeat for
    `node_timeout_seconds` it is not connected. Before `known_from` there may be connected nodes that are not
    known here, so only the deadline decides.
    """

    clock: Callable[[], float] = monotonic
    node_timeout_seconds: float = inf
    known_from: float = -inf
    _last_seen: dict[str, dict[str, tuple[float, str]]] = field(
        default_factory=dict[str, dict[str, tuple[float, str]]]
    )
    """By gateway and node, the time of its last heartbeat, and its connection."""
    _several: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """Gateways and nodes under whose id there are several connections: one rejection is not that of all."""
    _rejections: dict[EntryKey, Rejection] = field(default_factory=dict[EntryKey, Rejection])

    def learn(self) -> None:
        """The nodes have to be learned from their heartbeats."""
        self.node_timeout_seconds = NODE_TIMEOUT_SECONDS
        self.known_from = self.clock() + LEARN_SECONDS

    def connected(self, gateway: str, node: str, connection: str = "", connections: int = 1) -> None:
        """A node connected, or sent a heartbeat. Ids of connections are in order of time.

        `connections` is how many there are under the node's id.
        """
        self._last_seen.setdefault(gateway, {})[node] = (self.clock(), connection)
        if connections > 1:
            self._several.add((gateway, node))
        else:
            self._several.discard((gateway, node))

    def left(self, gateway: str, node: str, connection: str = "") -> None:
        """A node disconnected, unless it has a later connection."""
        nodes = self._last_seen.get(gateway, {})
        if node in nodes and (not connection or nodes[node][1] <= connection):
            del nodes[node]
            self._several.discard((gateway, node))
            if not nodes:
                del self._last_seen[gateway]

    def rejected(
        self, entry: ConfigResource, node: str, reason: str, deployments: Collection[str], at: int = 0
    ) -> None:
        """A node rejected an entry with these deployments that no node had acknowledged.

        While there are several connections under its id, this is not the answer of all of them. The deadline
        of an earlier version of the entry with one of the deployments is kept: changes that follow each other
        do not put it off.
        """
        nodes = frozenset[str]() if (entry.gateway, node) in self._several else frozenset({node})
        known = self._rejections.get(entry.key)
        if known is not None and known.entry.version == entry.version:
            self._rejections[entry.key] = replace(known, nodes=known.nodes | nodes)
            return
        same = known is not None and not known.deployments.isdisjoint(deployments)
        deadline = known.deadline if known is not None and same else self.clock() + VERDICT_SECONDS
        self._rejections[entry.key] = Rejection(entry, frozenset(deployments), nodes, reason, deadline, at)

    def decided(self, rejection: Rejection) -> None:
        """The rejection needs no verdict any more."""
        self._rejections.pop(rejection.entry.key, None)

    def undecided(self) -> Iterator[Rejection]:
        """All rejections; the caller may decide them meanwhile."""
        return iter(tuple(self._rejections.values()))

    def final(self, rejection: Rejection) -> bool:
        """Whether no connected node can still acknowledge it, or the time is over."""
        now, gateway = self.clock(), rejection.entry.gateway
        if now >= rejection.deadline:
            return True
        nodes = self._connected(gateway, now)
        several = any((gateway, node) in self._several for node in nodes)
        return now >= self.known_from and nodes <= rejection.nodes and not several

    def _connected(self, gateway: str, now: float) -> set[str]:
        nodes = self._last_seen.get(gateway, {})
        for node in [node for node, (seen, _) in nodes.items() if now - seen > self.node_timeout_seconds]:
            del nodes[node]
            self._several.discard((gateway, node))
        return set(nodes)
