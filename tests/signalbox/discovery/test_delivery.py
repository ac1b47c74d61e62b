"""What becomes of proxies' answers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateways.config_resource import ConfigResource, DeploymentRef
from projections.deliveries.gateway_state import GatewayState
from schemas.status import DeliveryReported, NodeReported, Status
from signalbox.discovery.delivery import Delivery
from streams.sqlite.log import SqliteLog
from streams.status_reporter import StatusReporter
from xds.server.observer import Connection, Delivered, Progress, UnacknowledgedDeployment

EAST = "organizations/acme/gateways/east"
FIRST = Connection(EAST, "node-1", "first", "envoy 1.40.0")
SECOND = Connection(EAST, "node-1", "second", "envoy 1.40.0")


def came(*deployments: str, position: int = 7) -> list[Delivered]:
    return [Delivered(DeploymentRef(name, f"api-of-{name}", 3, "/x"), "v1", position) for name in deployments]


def carrying(*deployments: str) -> ConfigResource:
    refs = tuple(one.ref for one in came(*deployments))
    return ConfigResource(EAST, "envoy", "routes", "x", "v1", 7, b"x", deployments=refs)


@dataclass
class Notifications:
    published: list[Status] = field(default_factory=list[Status])
    taken: list[ConfigResource] = field(default_factory=list[ConfigResource])
    not_taken: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    present: list[tuple[str, bool]] = field(default_factory=list[tuple[str, bool]])

    def delivery(self) -> Delivery:
        made = Delivery(self.published.extend, lambda connection, entry, reason: None)
        made.begin(self)
        return made

    def connected(self, gateway: str, connection: str) -> None:
        self.present.append((connection, True))

    def disconnected(self, gateway: str, connection: str) -> None:
        self.present.append((connection, False))

    def acknowledged(self, gateway: str, connection: str, entries: Sequence[ConfigResource]) -> None:
        self.taken.extend(entries)

    def rejected(self, gateway: str, connection: str, entries: Sequence[ConfigResource], reason: str) -> None:
        self.not_taken.extend((entry.name, reason) for entry in entries)

    def facts(self) -> list[tuple[str, str, str]]:
        """Deployment, fact and connection of what was reported by name."""
        return [
            (m.deployment, m.fact, m.connection) for m in self.published if isinstance(m, DeliveryReported)
        ]

    def nodes(self) -> list[NodeReported]:
        return [message for message in self.published if isinstance(message, NodeReported)]


def test_a_deployment_that_came_is_reported_with_all_that_is_known_of_it():
    notified = Notifications()
    delivery = notified.delivery()
    delivery.connected(FIRST)
    delivery.acknowledged(FIRST, [carrying("d0", "d1")], came("d1"))
    [report] = [message for message in notified.published if isinstance(message, DeliveryReported)]
    assert (report.deployment, report.fact, report.node) == ("d1", "acknowledged", "node-1")
    assert (report.api, report.revision, report.version) == ("api-of-d1", 3, "v1")
    assert (report.position, report.connection) == (7, "first")


def test_an_answer_without_deployments_is_not_reported_but_gateway_sync_is_notified():
    notified = Notifications()
    delivery = notified.delivery()
    delivery.connected(FIRST)
    delivery.acknowledged(FIRST, [carrying("d1")], [])
    assert notified.facts() == []
    assert notified.taken == [carrying("d1")]


def test_a_refusal_is_reported_on_its_connection_despite_an_earlier_acknowledgement():
    notified = Notifications()
    delivery = notified.delivery()
    delivery.connected(FIRST)
    delivery.acknowledged(FIRST, [carrying("d1")], came("d1"))
    delivery.disconnected(FIRST)
    delivery.connected(SECOND)
    delivery.rejected(SECOND, [carrying("d1")], "no", came("d1"))
    assert notified.facts() == [("d1", "acknowledged", "first"), ("d1", "refused", "second")]
    assert notified.not_taken == [("x", "no")]


def test_a_node_that_connects_has_acknowledged_nothing_until_it_progresses():
    notified = Notifications()
    delivery = notified.delivery()
    delivery.connected(FIRST)
    progress = Progress(
        9, (UnacknowledgedDeployment("d1", 4, "no"), UnacknowledgedDeployment("d2", 5)), "port taken"
    )
    delivery.progressed(FIRST, progress)
    delivery.progressed(FIRST, progress)
    delivery.disconnected(FIRST)
    reported = [(m.connected, m.connection, m.acknowledged, m.listener_refused) for m in notified.nodes()]
    assert reported == [
        (True, "first", None, ""),
        (True, "first", 9, "port taken"),
        (False, "first", None, ""),
    ]
    exceptions = [(e.deployment, e.state, e.reason) for e in notified.nodes()[1].exceptions]
    assert exceptions == [("d1", "refused", "no"), ("d2", "pending", "")]


def test_a_node_with_two_connections_has_the_state_of_the_newest_and_of_the_other_one_when_that_ends():
    notified = Notifications()
    delivery = notified.delivery()
    delivery.connected(FIRST)
    delivery.progressed(FIRST, Progress(9))
    delivery.connected(SECOND)
    delivery.acknowledged(FIRST, [carrying("d1")], came("d1"))
    delivery.progressed(FIRST, Progress(12))
    assert notified.facts() == [("d1", "acknowledged", "first")]
    assert (notified.nodes()[-1].connection, notified.nodes()[-1].connections) == ("second", 2)
    delivery.disconnected(SECOND)
    last = notified.nodes()[-1]
    assert (last.connected, last.connection, last.acknowledged) == (True, "first", 12)
    assert last.connections == 1


def test_a_heartbeat_repeats_the_progress_of_connected_nodes():
    notified = Notifications()
    delivery = notified.delivery()
    other = Connection(EAST, "node-2", "other", "envoy 1.40.0")
    delivery.connected(FIRST)
    delivery.connected(other)
    delivery.progressed(FIRST, Progress(9))
    delivery.disconnected(other)
    notified.published.clear()
    for connection in (FIRST, other):
        delivery.still_connected(connection, Progress(9))
    assert [(m.node, m.connected, m.agent, m.acknowledged) for m in notified.nodes()] == [
        ("node-1", True, "envoy 1.40.0", 9)
    ]


def test_nothing_is_kept_of_a_node_that_has_gone():
    notified = Notifications()
    delivery = notified.delivery()
    for number in range(100):
        connection = Connection(EAST, f"node-{number}", f"connection-{number}")
        delivery.connected(connection)
        delivery.acknowledged(connection, [carrying("d1")], came("d1"))
        delivery.progressed(connection, Progress(9))
        delivery.disconnected(connection)
    assert delivery.proxies == {}


def folded(observed: GatewayState, messages: Iterable[Status]) -> list[str]:
    """The connections that the read model holds as connected."""
    for position, message in enumerate(messages):
        observed.node_reported(position, message.data())
    return [node.connection for node in observed.nodes.values() if node.connected]


async def test_a_node_whose_connections_end_within_one_append_is_not_connected(tmp_path: Path):
    for known in (1, 2):
        for ends in ((FIRST, SECOND), (SECOND, FIRST)):
            log = await SqliteLog.open(tmp_path / f"{known}-{ends[0].id}")
            reporter = StatusReporter(log, "/test")
            notified, observed = Notifications(), GatewayState()
            delivery = notified.delivery()
            for connection in (FIRST, SECOND)[:known]:
                delivery.connected(connection)
            assert folded(observed, notified.published) == [(FIRST, SECOND)[known - 1].id]
            notified.published.clear()
            if known == 1:
                delivery.connected(SECOND)
            for connection in ends:
                delivery.disconnected(connection)

            reporter.report(notified.published)
            await reporter.flush()

            for record in await log.read("status", 0, 0, 10):
                observed.node_reported(record.position, record.envelope.data)
            assert [node.connected for node in observed.nodes.values()] == [False], (known, ends)
            await log.close()


def test_a_server_that_reports_late_does_not_end_a_newer_connection_to_another_server():
    here, there = Notifications(), Notifications()
    old, new = here.delivery(), there.delivery()
    old.connected(FIRST)
    new.connected(SECOND)
    observed = GatewayState()
    assert folded(observed, [*here.published, *there.published]) == ["second"]
    here.published.clear()

    old.disconnected(FIRST)

    assert folded(observed, here.published) == ["second"]
