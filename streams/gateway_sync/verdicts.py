"""Decides when rejections by single nodes become the rejection by their gateway. Pure but for the clock.

A deployment that one node acknowledged stays in force, even if other nodes reject it. Without an
acknowledgement, a rejection is provisional while a connected node has not answered, for at most
`VERDICT_SECONDS` after the first rejection; then the deployment is rejected.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from math import inf
from time import monotonic

from gateways.config_resource import ConfigResource

VERDICT_SECONDS = 5.0
"""Seconds that a rejection waits for the answers of the other nodes."""
NODE_TIMEOUT_SECONDS = 30.0
"""A node whose heartbeats come over the status topic is disconnected after this time without one."""
LEARN_SECONDS = 15.0
"""Each connected node has at least one heartbeat on the status topic in this time."""

EntryKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Rejection:
    """An entry that no node runs and that `nodes` rejected on all their connections, first for `reason`.

    `deployments` are those of it that no node had acknowledged. `deadline` is on the clock of `Verdicts`;
    `at`: the position of the first rejection on the status topic, 0 if it did not come from there.
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
    """Gateways and nodes with several connections under one id: a rejection is not the answer of all."""
    _rejections: dict[EntryKey, Rejection] = field(default_factory=dict[EntryKey, Rejection])

    def learn(self) -> None:
        """Has the nodes learned from their heartbeats, from now on."""
        self.node_timeout_seconds = NODE_TIMEOUT_SECONDS
        self.known_from = self.clock() + LEARN_SECONDS

    def connected(self, gateway: str, node: str, connection: str = "", connections: int = 1) -> None:
        """Records that a node connected, or sent a heartbeat. Ids of connections are in order of time.

        `connections`: their number under the node's id.
        """
        self._last_seen.setdefault(gateway, {})[node] = (self.clock(), connection)
        if connections > 1:
            self._several.add((gateway, node))
        else:
            self._several.discard((gateway, node))

    def left(self, gateway: str, node: str, connection: str = "") -> None:
        """Records that a node disconnected, unless it has a later connection."""
        nodes = self._last_seen.get(gateway, {})
        if node in nodes and (not connection or nodes[node][1] <= connection):
            del nodes[node]
            self._several.discard((gateway, node))
            if not nodes:
                del self._last_seen[gateway]

    def rejected(
        self, entry: ConfigResource, node: str, reason: str, deployments: Collection[str], at: int = 0
    ) -> None:
        """Records that a node rejected an entry with these deployments that no node had acknowledged.

        While there are several connections under its id, this is not the answer of all of them. The deadline
        of an earlier version of the entry with one of the deployments is kept: successive changes do not
        postpone it.
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
        """Removes a rejection that needs no verdict any more."""
        self._rejections.pop(rejection.entry.key, None)

    def undecided(self) -> Iterator[Rejection]:
        """All rejections; the caller may decide them meanwhile."""
        return iter(tuple(self._rejections.values()))

    def final(self, rejection: Rejection) -> bool:
        """Whether no connected node can still acknowledge it, or the deadline has passed."""
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
