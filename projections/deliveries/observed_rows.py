"""The rows of the observed state of gateways that a batch of messages works on, indexed by their keys."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from projections.deliveries.rows import (
    ApiOnGateway,
    ApiOnGatewayKey,
    Delivery,
    DeliveryKey,
    GatewayKey,
    Interval,
    IntervalKey,
    Node,
    NodeKey,
    Report,
    ReportKey,
)


@dataclass(slots=True)
class ObservedRows:
    """The rows that a batch of messages may change, and those that it changed.

    Load before a batch: the deliveries, APIs and nodes that it names; the reports of these nodes on these
    APIs; for messages about nodes also `waiting` APIs and absent nodes of their gateways; for gateways where
    a deployment is being withdrawn, all connected nodes and their reports on it. `cleared`: per node, its
    reports up to this position are deleted, including those that were not loaded.
    """

    deliveries: dict[DeliveryKey, Delivery] = field(default_factory=dict[DeliveryKey, Delivery])
    apis: dict[ApiOnGatewayKey, ApiOnGateway] = field(default_factory=dict[ApiOnGatewayKey, ApiOnGateway])
    nodes: dict[NodeKey, Node] = field(default_factory=dict[NodeKey, Node])
    reports: dict[ReportKey, Report] = field(default_factory=dict[ReportKey, Report])
    intervals: dict[IntervalKey, Interval] = field(default_factory=dict[IntervalKey, Interval])
    cleared: dict[NodeKey, int] = field(default_factory=dict[NodeKey, int])
    _of_node: dict[NodeKey, set[ReportKey]] = field(default_factory=dict[NodeKey, set[ReportKey]])
    _absent: dict[GatewayKey, set[NodeKey]] = field(default_factory=dict[GatewayKey, set[NodeKey]])
    _waiting: dict[GatewayKey, set[ApiOnGatewayKey]] = field(
        default_factory=dict[GatewayKey, set[ApiOnGatewayKey]]
    )
    _withdrawn_reports: dict[GatewayKey, set[ReportKey]] = field(
        default_factory=dict[GatewayKey, set[ReportKey]]
    )
    """Reports of nodes that withdrew a deployment, while another node has it."""

    def load(
        self,
        deliveries: Iterable[Delivery],
        carried: Iterable[ApiOnGateway],
        nodes: Iterable[Node],
        reports: Iterable[Report],
    ) -> None:
        for delivery in deliveries:
            self.deliveries[delivery[:3]] = delivery
        for api in carried:
            self._set_api(api)
        for node in nodes:
            self._set_node(node)
        for report in reports:
            self._set_report(report)

    def _api(self, delivery: Delivery) -> ApiOnGateway:
        key = (delivery.organization, delivery.gateway, delivery.api)
        return self.apis.get(key) or ApiOnGateway(*key)

    def _set_api(self, api: ApiOnGateway) -> None:
        self.apis[api[:3]] = api
        waiting = self._waiting.setdefault(api[:2], set())
        if api.waiting:
            waiting.add(api[:3])
        else:
            waiting.discard(api[:3])

    def _set_node(self, node: Node) -> None:
        self.nodes[node[:3]] = node
        absent = self._absent.setdefault(node[:2], set())
        if node.connected:
            absent.discard(node[:3])
        else:
            absent.add(node[:3])

    def _same_api(self, delivery: Delivery, node: Node) -> list[ReportKey]:
        return [k for k in self._of_node.get(node[:3], ()) if delivery.api and k[3] == delivery.api]

    def _report(self, delivery: Delivery, node: Node, state: str, at: str, data: Mapping[str, Any]) -> None:
        key = (*node[:3], delivery.api, delivery.deployment)
        before = self.reports.get(key)
        same = before is not None and before.state == state
        self._set_report(
            Report(
                *key,
                delivery.position,
                state,
                before.at if before is not None and same else at,
                at,
                data.get("version") or "",
                data.get("reason") or "",
                before.serving_at if before is not None and same else None,
            )
        )
        self._set_node(with_report_at(self.nodes[node[:3]], delivery.position))

    def _set_report(self, report: Report) -> None:
        key = report[:5]
        self.reports[key] = report
        self._of_node.setdefault(key[:3], set()).add(key)
        gone = self._withdrawn_reports.setdefault(key[:2], set())
        if report.state == "withdrawn":
            gone.add(key)
        else:
            gone.discard(key)

    def _drop_report(self, key: ReportKey) -> None:
        del self.reports[key]
        self._of_node[key[:3]].discard(key)
        self._withdrawn_reports[key[:2]].discard(key)

    def _open(self, api: ApiOnGateway) -> None:
        interval = Interval(*api[:3], api.valid_from, api.live, api.live_revision, None, api.since, None)
        self.intervals[interval[:4]] = interval

    def _close(self, api: ApiOnGateway, position: int, at: str) -> None:
        if api.live:
            until = max(at, api.since)
            interval = Interval(
                *api[:3], api.valid_from, api.live, api.live_revision, position, api.since, until
            )
            self.intervals[interval[:4]] = interval


def with_report_at(node: Node, position: int) -> Node:
    return node._replace(reported_to=max(node.reported_to, position, 1))
