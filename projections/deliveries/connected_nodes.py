"""The connected nodes of a gateway, and how many of them have a deployment. Pure.

The count needs no row per node and deployment: it is the number of nodes that acknowledged the deployment's
position, corrected by the reports of nodes that differ.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from projections.deliveries.rows import ApiOnGateway, Delivery, Node, Report, covers, holds, rolled_back

Reports = Mapping[str, Report]
"""The reports on one deployment, by node."""
NO_REPORTS: Reports = {}


@dataclass(frozen=True, slots=True)
class ConnectedNodes:
    """The connected nodes of one gateway, by name."""

    nodes: Mapping[str, Node] = field(default_factory=dict[str, Node])
    _acknowledged: Sequence[int] = ()

    @property
    def count(self) -> int:
        return len(self.nodes)

    def count_acknowledged(self, position: int) -> int:
        """The number of nodes that acknowledged everything up to a position."""
        return len(self._acknowledged) - bisect_left(self._acknowledged, max(position, 1))

    def reports_of_connected(self, reports: Reports) -> list[Report]:
        """The reports of connected nodes, sorted by node."""
        return [r for name, r in sorted(reports.items()) if name in self.nodes]

    def count_having(self, position: int, reports: Reports) -> int:
        """The number of nodes that have the deployment of the event at a position."""
        count = self.count_acknowledged(position)
        for report in self.reports_of_connected(reports):
            node = self.nodes[report.node]
            count += holds(node, report, position) - holds(node, None, position)
        return count


NO_NODES = ConnectedNodes()


def connected_nodes(nodes: Iterable[Node]) -> dict[str, ConnectedNodes]:
    """One organization's connected nodes by gateway."""
    by_gateway: dict[str, dict[str, Node]] = {}
    for node in nodes:
        by_gateway.setdefault(node.gateway, {})[node.node] = node
    return {
        gateway: ConnectedNodes(found, sorted(n.acknowledged for n in found.values()))
        for gateway, found in by_gateway.items()
    }


def is_configured(delivery: Delivery, api: ApiOnGateway | None) -> bool:
    """Whether nodes are to run a deployment: it was published last, and not rolled back."""
    if rolled_back(delivery, api) or (delivery.published_at is None and not delivery.taken):
        return False
    return api is None or api.configured in ("", delivery.deployment)


def nodes_serving_live(
    there: ConnectedNodes, api: ApiOnGateway, live: Reports, next_: Delivery | None, next_reports: Reports
) -> int:
    """The number of connected nodes that have the live deployment; `next_` was published after it, if any.

    A node that acknowledged the position of `next_` has that one instead, unless it reported otherwise.
    """
    if next_ is None or next_.rejected:
        return there.count_having(api.live_position, live)
    count = there.count_having(api.live_position, live)
    if next_.position < api.live_position:
        return count
    moved = {r.node: r.state == "acknowledged" for r in there.reports_of_connected(next_reports)}
    count -= there.count_acknowledged(next_.position)  # they also acknowledged the live one
    for name, has_next in moved.items():
        node, report = there.nodes[name], live.get(name)
        if covers(node.acknowledged, next_.position):
            count += not has_next and (report is None or report.state == "acknowledged")
        elif has_next and holds(node, report, api.live_position):
            count -= 1
    return count


def nodes_still_holding(there: ConnectedNodes, position: int, reports: Reports, stopped_at: int) -> int:
    """The number of connected nodes that have a deployment stopped by the event at `stopped_at`: they neither
    withdrew it nor acknowledged that position."""
    count = there.count_acknowledged(position) - there.count_acknowledged(max(stopped_at, position))
    for report in there.reports_of_connected(reports):
        node = there.nodes[report.node]
        counted = holds(node, None, position) and not covers(node.acknowledged, max(stopped_at, position))
        count += holds(node, report, position) - counted
    return count
