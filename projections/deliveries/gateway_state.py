"""How status messages change the observed state of gateways. Pure: rows in, rows out.

Reports of a node count for their connection only: a new connection or a disconnect voids them. The live
deployment of an API changes when a newer one, or one that the gateway rolled back to, is acknowledged; and
when every node that had it withdrew it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from projections.deliveries.observed_rows import ObservedRows, with_report_at
from projections.deliveries.rows import (
    FORGET_NODES_AFTER_SECONDS,
    MOST_DISCONNECTED_NODES,
    ROLLED_BACK,
    WHOLE_GATEWAY,
    ApiOnGateway,
    Delivery,
    DeliveryKey,
    GatewayKey,
    Node,
    covers,
    holds,
)
from projections.readmodel import Unprojectable
from schemas.identity import timestamp, unix_seconds

ALL = 2**63 - 1
"""A threshold above every position."""


@dataclass(slots=True)
class GatewayState(ObservedRows):
    """The rows that a batch of messages may change, and how messages change them."""

    def delivery_reported(self, position: int, data: Mapping[str, Any]) -> None:
        """Applies a `schemas.status.DeliveryReported` at a position of the status topic."""
        organization, gateway = data["organization"], data["name"]
        key = (organization, data["deployment"], gateway)
        before = self.deliveries.get(key) or Delivery(*key)
        delivery = before._replace(
            api=data.get("api") or before.api,
            revision=data.get("revision") or before.revision,
            position=max(data.get("position") or 0, before.position),
        )
        name = data.get("node", WHOLE_GATEWAY)
        node = None
        if name != WHOLE_GATEWAY:
            node = self.nodes.get((organization, gateway, name))
            if node is not None and _of_other_connection(node, data):
                return  # reported on an earlier connection
            if node is not None and not node.connected:
                node = None
        at = data["at"]
        fact = data["fact"]
        if fact == "published":
            if not _is_repeated_publication(before, self._api(delivery), data):
                self._published(delivery, at, data)
        elif fact == "acknowledged":
            self._acknowledged(delivery, node, position, at, data)
        elif fact == "refused":
            self._refused(delivery, node, at, data)
        elif fact == "serving":
            self.deliveries[key] = delivery._replace(serving_at=delivery.serving_at or at, serving_last=at)
            self._serving(delivery, node, at)
        elif fact == "withdrawn":
            self._withdrawn(delivery, node, position, at, data)

    def node_reported(self, position: int, data: Mapping[str, Any]) -> None:
        """Applies a `schemas.status.NodeReported`. Raises Unprojectable if its time is invalid."""
        organization, gateway, name = data["organization"], data["name"], data["node"]
        key = (organization, gateway, name)
        at, connected, connection = data["at"], data["connected"], data.get("connection") or ""
        before = self.nodes.get(key)
        if before is not None and not connected and before.connected and before.connection > connection > "":
            return  # an earlier connection has ended: the ids of connections are in order of time
        new = before is None or not before.connected or (bool(connection) and before.connection != connection)
        withdrawing = self._withdrawing((organization, gateway))
        node = Node(
            organization,
            gateway,
            name,
            connected,
            data.get("agent") or (before.agent if before else ""),
            connection or (before.connection if before and not new else ""),
            before.acknowledged if before and not new else 0,
            before.reported_to if before else 0,
            before.first_seen if before else at,
            at,
            (data.get("listener_refused") or "") if connected else "",
        )
        if new or not connected:
            node = self._clear(node, ALL)._replace(acknowledged=0)
        if connected and data.get("acknowledged") is not None:
            node = self._acknowledged_up_to(node, position, at, data)
        self._set_node(node)
        for deployment in withdrawing:
            self._withdrawn_by_all(deployment, position, at)
        self._forget((organization, gateway), at)

    # -- one deployment

    def _published(self, delivery: Delivery, at: str, data: Mapping[str, Any]) -> None:
        # Another process reports the nodes, so their answers may precede the first publication.
        first = delivery.published_at is None
        taken = first and delivery.taken
        self.deliveries[delivery[:3]] = delivery._replace(
            published_at=delivery.published_at or at,
            version=data.get("version") or "",
            taken=taken,
            rejected=first and delivery.rejected and delivery.refused_by != WHOLE_GATEWAY,
            withdrawn_at=None,
        )
        if delivery.api:
            self._set_api(
                self._api(delivery)._replace(
                    configured=delivery.deployment, position=delivery.position, waiting=not taken
                )
            )

    def _acknowledged(
        self, delivery: Delivery, node: Node | None, position: int, at: str, data: Mapping[str, Any]
    ) -> None:
        if node is not None:
            for key in self._same_api(delivery, node):
                other = self.reports[key]
                if key[4] != delivery.deployment and (
                    other.state == "acknowledged" or other.position <= delivery.position
                ):
                    self._drop_report(key)
            self._report(delivery, node, "acknowledged", at, data)
        self._acknowledged_by_some(delivery, position, at)

    def _acknowledged_by_some(self, delivery: Delivery, position: int, at: str) -> None:
        """A node acknowledged it: it is live, unless the live one is newer and this one is not configured.

        A late answer does not make it live if the gateway rolled back to no deployment: its removal follows.
        If the gateway rolled back to another one, it may be live until that one is, and stays rejected.
        """
        configured = self._api(delivery).configured
        if delivery.rejected and configured == ROLLED_BACK:
            self.deliveries[delivery[:3]] = delivery
            return
        self.deliveries[delivery[:3]] = delivery._replace(
            acknowledged_at=delivery.acknowledged_at or at,
            acknowledged_last=at,
            taken=True,
            rejected=delivery.rejected and configured not in ("", delivery.deployment),
            withdrawn_at=None,
        )
        if not delivery.api:
            return
        api = self._api(delivery)
        configured = api.configured == delivery.deployment
        if configured:
            api = api._replace(waiting=False)
        if api.live != delivery.deployment and (
            not api.live or configured or delivery.position > api.live_position
        ):
            self._close(api, position, at)
            api = api._replace(
                live=delivery.deployment,
                live_revision=delivery.revision,
                live_position=delivery.position,
                valid_from=position,
                since=at,
            )
            self._open(api)
        elif api.live == delivery.deployment:
            api = api._replace(live_position=delivery.position)
        self._set_api(api)

    def _refused(self, delivery: Delivery, node: Node | None, at: str, data: Mapping[str, Any]) -> None:
        name = data.get("node", WHOLE_GATEWAY)
        whole = name == WHOLE_GATEWAY
        # When the gateway rolls back after a node's refusal, the node and its reason are kept.
        follows = whole and delivery.rejected and delivery.refused_by not in ("", WHOLE_GATEWAY)
        self.deliveries[delivery[:3]] = delivery._replace(
            refused_at=delivery.refused_at or at,
            refused_last=at,
            refused_by=delivery.refused_by if follows else name,
            reason=delivery.reason if follows else data.get("reason") or "",
            rejected=delivery.rejected or whole or not delivery.taken,
        )
        if delivery.api and whole:
            api = self._api(delivery)
            if api.configured == delivery.deployment:
                self._set_api(api._replace(configured=ROLLED_BACK, waiting=False))
        if node is not None:
            self._report(delivery, node, "refused", at, data)

    def _serving(self, delivery: Delivery, node: Node | None, at: str) -> None:
        if node is None:
            return
        key = (*node[:3], delivery.api, delivery.deployment)
        report = self.reports.get(key)
        if report is not None and report.serving_at is None:
            self.reports[key] = report._replace(serving_at=at)

    def _withdrawn(
        self, delivery: Delivery, node: Node | None, position: int, at: str, data: Mapping[str, Any]
    ) -> None:
        self.deliveries[delivery[:3]] = delivery
        if node is not None:
            self._report(delivery, node, "withdrawn", at, data)
        certainly = data.get("node", WHOLE_GATEWAY) == WHOLE_GATEWAY
        self._withdrawn_by_all(delivery[:3], position, at, certainly=certainly)

    def _withdrawing(self, gateway: GatewayKey) -> list[DeliveryKey]:
        """The deployments that some nodes withdrew, but not all."""
        return sorted({(key[0], key[4], key[1]) for key in self._withdrawn_reports.get(gateway, ())})

    def _withdrawn_by_all(self, key: DeliveryKey, position: int, at: str, *, certainly: bool = False) -> None:
        delivery = self.deliveries[key]
        if not certainly:
            for node in self.nodes.values():
                if node.connected and node[:2] == (delivery.organization, delivery.gateway):
                    report = self.reports.get((*node[:3], delivery.api, delivery.deployment))
                    if holds(node, report, delivery.position):
                        return
        self.deliveries[key] = delivery._replace(withdrawn_at=at)
        for report in list(self._withdrawn_reports.get((delivery.organization, delivery.gateway), ())):
            if report[4] == delivery.deployment:
                self._drop_report(report)
        if not delivery.api:
            return
        api = self._api(delivery)
        if api.configured == delivery.deployment:
            api = api._replace(configured="", position=0, waiting=False)
        if api.live == delivery.deployment:
            self._close(api, position, at)
            api = api._replace(live="", live_revision=0, live_position=0, valid_from=0, since="")
        self._set_api(api)

    # -- one node

    def _acknowledged_up_to(self, node: Node, position: int, at: str, data: Mapping[str, Any]) -> Node:
        """Applies that the node acknowledged everything up to a position, except some deployments."""
        acknowledged = data["acknowledged"]
        exceptions = {e["deployment"]: e for e in data.get("exceptions") or ()}
        kept = {(k[3], k[4]): self.reports[k] for k in self._of_node.get(node[:3], ()) if k[4] in exceptions}
        node = self._clear(node, acknowledged)._replace(acknowledged=acknowledged)
        self._set_node(node)
        for name, exception in exceptions.items():
            key = (node.organization, name, node.gateway)
            delivery = self.deliveries.get(key) or Delivery(*key)
            self.deliveries[key] = delivery
            state, reason = exception.get("state") or "pending", exception.get("reason") or ""
            before = kept.get((delivery.api, name))
            if before is not None and before.state == state:
                self._set_report(before._replace(last_at=at, reason=reason or before.reason))
                node = with_report_at(node, delivery.position)
            elif state == "refused":
                self._refused(delivery, node, at, {"node": node.node, "reason": reason})
                node = self.nodes[node[:3]]
            else:
                self._report(delivery, node, state, at, {"reason": reason})
                node = self.nodes[node[:3]]
        for key in list(self._waiting.get(node[:2], ())):
            api = self.apis[key]
            if covers(acknowledged, api.position) and api.configured not in exceptions:
                self._acknowledged_by_some(
                    self.deliveries[api.organization, api.configured, api.gateway], position, at
                )
        return node

    def _clear(self, node: Node, threshold: int) -> Node:
        """Drops the node's reports up to a position."""
        for key in list(self._of_node.get(node[:3], ())):
            if self.reports[key].position <= threshold:
                self._drop_report(key)
        if node.reported_to:
            self.cleared[node[:3]] = max(threshold, self.cleared.get(node[:3], 0))
        return node._replace(reported_to=0 if threshold >= node.reported_to else node.reported_to)

    def _forget(self, gateway: GatewayKey, at: str) -> None:
        absent = self._absent.get(gateway)
        if not absent:
            return
        oldest = _seconds_before(at, FORGET_NODES_AFTER_SECONDS)
        newest = sorted(absent, key=lambda k: (self.nodes[k].last_seen, k), reverse=True)
        for i, key in enumerate(newest):
            if i >= MOST_DISCONNECTED_NODES or self.nodes[key].last_seen < oldest:
                absent.discard(key)
                del self.nodes[key]


def _is_repeated_publication(delivery: Delivery, api: ApiOnGateway, data: Mapping[str, Any]) -> bool:
    """Whether a publication for the same event was reported before: gateway sync repeats the report when it
    starts, since it does not know whether the first one is on the log. A repeated report has no version.

    A rejected deployment may be published again for the same event, to be tried by itself.
    """
    position = data.get("position") or 0
    if delivery.published_at is None or not 0 < position <= delivery.position:
        return False
    return not delivery.rejected or (not data.get("version") and api.configured == delivery.deployment)


def _of_other_connection(node: Node, data: Mapping[str, Any]) -> bool:
    """Whether a message is about another connection of the node than the current one."""
    connection = data.get("connection") or ""
    return bool(connection) and bool(node.connection) and connection != node.connection


def _seconds_before(at: str, seconds: float) -> str:
    try:
        return timestamp(unix_seconds(at) - seconds)
    except (ValueError, OverflowError, OSError) as error:
        raise Unprojectable(f"{at!r} is not a time") from error
