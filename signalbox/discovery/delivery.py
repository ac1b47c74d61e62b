"""Turns the answers of proxies into status messages and probes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from gateways.config_resource import ConfigResource
from schemas.identity import timestamp
from schemas.status import DeliveryReported, Fact, NodeException, NodeReported, Status
from signalbox.envoy.prober import Target
from xds.server.observer import Connection, Delivered, Progress
from xds.types import LISTENER

Report = Callable[[Sequence[Status]], None]


class NodeListener(Protocol):
    """Notified in this process of the answers of nodes: gateway sync (`streams.gateway_sync`).

    `gateway` is a subject, `connection` the id of a node's connection.
    """

    def connected(self, gateway: str, connection: str) -> None: ...

    def disconnected(self, gateway: str, connection: str) -> None: ...

    def acknowledged(self, gateway: str, connection: str, entries: Sequence[ConfigResource]) -> None: ...

    def rejected(
        self, gateway: str, connection: str, entries: Sequence[ConfigResource], reason: str
    ) -> None: ...


@dataclass(slots=True)
class Delivery:
    """Observes the xDS server, and reports the answers of nodes.

    `on_listener_rejected` is called for listeners, on which all deployments depend. Answers are buffered
    until `begin`.

    The connections of a node are kept, the newest last, each with its reported progress. The progress of the
    newest one is reported for the node. When the last one ends, the node is reported as disconnected on the
    latest connection that it had: no reader knows a later one.
    """

    report: Report
    on_listener_rejected: Callable[[Connection, ConfigResource, str], None]
    listener: NodeListener | None = None
    proxies: dict[tuple[str, str], dict[Connection, Progress | None]] = field(
        default_factory=dict[tuple[str, str], dict[Connection, Progress | None]]
    )
    _latest: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    _deferred: list[Callable[[], None]] | None = field(default_factory=list[Callable[[], None]])

    def begin(self, listener: NodeListener | None = None) -> None:
        """Processes the buffered answers, and from now on each one at once, and notifies `listener`."""
        self.listener = listener
        deferred, self._deferred = self._deferred or (), None
        for call in deferred:
            call()

    def _hold(self, call: Callable[[], None]) -> bool:
        if self._deferred is not None:
            self._deferred.append(call)
        return self._deferred is not None

    def connected(self, connection: Connection) -> None:
        if self._hold(lambda: self.connected(connection)):
            return
        node = _node_of(connection)
        self.proxies.setdefault(node, {})[connection] = None
        self._latest[node] = max(self._latest.get(node, ""), connection.id)
        if self.listener is not None:
            self.listener.connected(connection.gateway, connection.id)
        self._node(connection, None)

    def disconnected(self, connection: Connection) -> None:
        if self._hold(lambda: self.disconnected(connection)):
            return
        if self.listener is not None:
            self.listener.disconnected(connection.gateway, connection.id)
        connections = self.proxies[_node_of(connection)]
        del connections[connection]
        if not connections:
            del self.proxies[_node_of(connection)]
            latest = self._latest.pop(_node_of(connection))
            self._node(replace(connection, id=latest), None, connected=False)
        else:
            left = next(reversed(connections))
            self._node(left, connections[left])

    def progressed(self, connection: Connection, progress: Progress) -> None:
        """Reports the node's progress if it has changed."""
        if self._hold(lambda: self.progressed(connection, progress)):
            return
        connections = self.proxies.get(_node_of(connection), {})
        if connection in connections and connections[connection] != progress:
            self.still_connected(connection, progress)

    def still_connected(self, connection: Connection, progress: Progress) -> None:
        """Reports the node's progress, whether or not it changed."""
        if self._hold(lambda: self.still_connected(connection, progress)):
            return
        connections = self.proxies.get(_node_of(connection), {})
        if connection in connections:
            connections[connection] = progress
            if self._is_newest(connection):
                self._node(connection, progress)

    def sent(self, connection: Connection, entries: Sequence[ConfigResource]) -> None:
        """Nothing is reported: only the answer of the proxy is a fact of a deployment."""

    def acknowledged(
        self, connection: Connection, entries: Sequence[ConfigResource], came: Sequence[Delivered]
    ) -> None:
        """Reports the deployments that became acknowledged."""
        if self._hold(lambda: self.acknowledged(connection, entries, came)):
            return
        if self.listener is not None:
            self.listener.acknowledged(connection.gateway, connection.id, entries)
        # On an older connection, too: another process may use the node's id.
        self._deliveries(connection, "acknowledged", came)

    def rejected(
        self,
        connection: Connection,
        entries: Sequence[ConfigResource],
        reason: str,
        deployments: Sequence[Delivered],
    ) -> None:
        if self._hold(lambda: self.rejected(connection, entries, reason, deployments)):
            return
        if self._is_newest(connection):
            self._deliveries(connection, "refused", deployments, reason)
        if self.listener is not None:
            self.listener.rejected(connection.gateway, connection.id, entries, reason)
        for entry in entries:
            if entry.type == LISTENER:
                self.on_listener_rejected(connection, entry, reason)

    def withdrawn(
        self, connection: Connection, entries: Sequence[ConfigResource], gone: Sequence[Delivered]
    ) -> None:
        """A removed resource no longer serves the deployments it carried last."""
        if self._hold(lambda: self.withdrawn(connection, entries, gone)):
            return
        if self._is_newest(connection):
            self._deliveries(connection, "withdrawn", gone)

    def _is_newest(self, connection: Connection) -> bool:
        connections = self.proxies.get(_node_of(connection))
        return connections is not None and next(reversed(connections)).id == connection.id

    def _deliveries(
        self, connection: Connection, fact: Fact, delivered: Iterable[Delivered], reason: str = ""
    ) -> None:
        self.report(
            [
                delivery(
                    connection.gateway,
                    one.ref.deployment,
                    connection.node,
                    fact,
                    api=one.ref.api,
                    revision=one.ref.revision,
                    position=one.position,
                    connection=connection.id,
                    version=one.version,
                    reason=reason,
                )
                for one in delivered
            ]
        )

    def _node(self, connection: Connection, progress: Progress | None, *, connected: bool = True) -> None:
        _, organization, _, name = connection.gateway.split("/")
        self.report(
            [
                NodeReported(
                    organization=organization,
                    name=name,
                    at=timestamp(),
                    node=connection.node,
                    connected=connected,
                    agent=connection.agent if connected else "",
                    connection=connection.id,
                    connections=len(self.proxies.get(_node_of(connection), ())),
                    acknowledged=progress.acknowledged if progress else None,
                    exceptions=_exceptions(progress) if progress else (),
                    listener_refused=progress.listener_refused if progress else "",
                )
            ]
        )


def _node_of(connection: Connection) -> tuple[str, str]:
    return connection.gateway, connection.node


def _exceptions(progress: Progress) -> tuple[NodeException, ...]:
    return tuple(
        NodeException(
            deployment=each.deployment,
            state="pending" if each.reason is None else "refused",
            reason=each.reason or "",
        )
        for each in progress.unacknowledged
    )


def delivery(
    gateway: str,
    deployment: str,
    node: str,
    fact: Fact,
    *,
    api: str = "",
    revision: int = 0,
    position: int = 0,
    connection: str = "",
    version: str = "",
    reason: str = "",
    at: str | None = None,
) -> DeliveryReported:
    """A status of one deployment on one node; `gateway` is its subject."""
    _, organization, _, name = gateway.split("/")
    return DeliveryReported(
        organization=organization,
        name=name,
        at=at or timestamp(),
        deployment=deployment,
        node=node,
        fact=fact,
        version=version,
        reason=reason,
        api=api,
        revision=revision,
        position=position,
        connection=connection,
    )


def serving(target: Target, gateway: str, node: str, connection: str, at: str) -> DeliveryReported:
    """The status message that a probe proved that a node serves a deployment."""
    return delivery(
        gateway,
        target.deployment,
        node,
        "serving",
        api=target.api,
        revision=target.revision,
        position=target.position,
        connection=connection,
        at=at,
    )
