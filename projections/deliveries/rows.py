"""The observed state of gateways as rows: deliveries of deployments, live revisions, nodes and their reports.

Rows are tuples in the order of the columns (`projections.deliveries.tables`). Times are RFC 3339;
`position` is that of an event, `valid_from` and `valid_to` are positions on the status topic.
"""

from typing import NamedTuple

from schemas.identity import timestamp, unix_seconds

WHOLE_GATEWAY = "*"
"""The node name in reports on a gateway as a whole."""
ROLLED_BACK = "*"
"""`ApiOnGateway.configured` after a gateway as a whole refused the last publication: no deployment."""
HEARTBEAT_TIMEOUT_SECONDS = 30.0
"""If nodes send heartbeats, a node without one for this time is not connected."""
FORGET_NODES_AFTER_SECONDS = 3600.0
"""The row of a node that left is deleted after this time."""
MOST_DISCONNECTED_NODES = 100
"""Maximum number of kept nodes of a gateway that left; the newest are kept."""


class Delivery(NamedTuple):
    """One deployment on one gateway; kept for ever. `taken`: acknowledged by a node since its publication.
    `rejected`: a node refused it before any acknowledged it, or the gateway did; see `rolled_back`."""

    organization: str
    deployment: str
    gateway: str
    api: str = ""
    revision: int = 0
    position: int = 0
    version: str = ""
    published_at: str | None = None
    acknowledged_at: str | None = None
    acknowledged_last: str | None = None
    serving_at: str | None = None
    serving_last: str | None = None
    refused_at: str | None = None
    refused_last: str | None = None
    refused_by: str = ""
    reason: str = ""
    withdrawn_at: str | None = None
    taken: bool = False
    rejected: bool = False


class ApiOnGateway(NamedTuple):
    """One API on one gateway: the deployment that was published last (`configured`; `waiting` until a node
    acknowledges it), and the one that is live since `valid_from`. An empty name is no deployment."""

    organization: str
    gateway: str
    api: str
    configured: str = ""
    position: int = 0
    waiting: bool = False
    live: str = ""
    live_revision: int = 0
    live_position: int = 0
    valid_from: int = 0
    since: str = ""


class Interval(NamedTuple):
    """A live revision from one position and time to another; without an end it is live now."""

    organization: str
    gateway: str
    api: str
    valid_from: int
    deployment: str
    revision: int
    valid_to: int | None
    since: str
    until: str | None


class Node(NamedTuple):
    """A proxy. On its `connection` it acknowledged the configuration of events up to `acknowledged`, except
    where its own reports differ. `reported_to` is the highest position of these reports, 0 without any."""

    organization: str
    gateway: str
    node: str
    connected: bool
    agent: str
    connection: str
    acknowledged: int
    reported_to: int
    first_seen: str
    last_seen: str
    listener_refused: str


class Report(NamedTuple):
    """One node's answer to one deployment on its current connection: acknowledged, refused, pending or
    withdrawn, since `at`."""

    organization: str
    gateway: str
    node: str
    api: str
    deployment: str
    position: int
    state: str
    at: str
    last_at: str
    version: str
    reason: str
    serving_at: str | None


GatewayKey = tuple[str, str]
"""Organization and gateway."""
DeliveryKey = tuple[str, str, str]
"""Organization, deployment, gateway."""
ApiOnGatewayKey = tuple[str, str, str]
"""Organization, gateway, API."""
NodeKey = tuple[str, str, str]
"""Organization, gateway, node."""
ReportKey = tuple[str, str, str, str, str]
"""Organization, gateway, node, API, deployment."""
IntervalKey = tuple[str, str, str, int]


def covers(acknowledged: int, position: int) -> bool:
    """Whether a node that acknowledged everything up to `acknowledged` has the configuration of the event at
    `position`. Reports of earlier releases have no position: theirs is 0."""
    return acknowledged > 0 and acknowledged >= position


def rolled_back(delivery: Delivery, api: ApiOnGateway | None) -> bool:
    """Whether a gateway rolled back, because a deployment was refused and no node acknowledged it.

    A deployment that only some nodes refused is still configured: others may acknowledge it.
    """
    return delivery.rejected and (api is None or api.configured != delivery.deployment)


def holds(node: Node, report: Report | None, position: int) -> bool:
    """Whether a connected node has a deployment."""
    if report is not None:
        return report.state == "acknowledged"
    return covers(node.acknowledged, position)


def heartbeat_deadline(now: float) -> str:
    """The time of the oldest heartbeat that a connected node may have; `now` is seconds since 1970."""
    return timestamp(now - HEARTBEAT_TIMEOUT_SECONDS)


def silent_since(last_seen: str) -> str:
    """The time from which a node whose last heartbeat was at `last_seen` is not connected."""
    try:
        return timestamp(unix_seconds(last_seen) + HEARTBEAT_TIMEOUT_SECONDS)
    except (ValueError, OverflowError, OSError):
        return last_seen
