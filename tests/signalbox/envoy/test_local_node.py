"""One node on this machine: why it does not serve, and its reports of what it serves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateways.config_resource import ConfigResource, DeploymentRef
from schemas.status import DeliveryReported, NodeReported, Status
from signalbox.envoy import local_node
from signalbox.envoy.local_node import LocalNode, Node
from signalbox.envoy.probe_targets import ProbeTargets
from signalbox.envoy.prober import Listener, Prober, Target
from signalbox.envoy.supervisor import EnvoyStatus
from signalbox.service_group import ServiceGroup
from signalbox.settings import Address, Settings
from streams.sqlite.config import SqliteConfigTopic

GATEWAY = "organizations/acme/gateways/local"
ORDERS = Target("d1", "orders", 3, "/orders", position=7)
AT = "2026-01-31T09:00:00.000000Z"


class Envoy:
    """Stands in for the supervisor."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.status = EnvoyStatus(reason="killed")

    async def start(self) -> None:
        self.status = EnvoyStatus("running", 1)

    async def stop(self) -> None:
        self.status = EnvoyStatus(reason="stopped")

    async def listening(self) -> bool:
        return True


class RecordedProber(Prober):
    """Records the submitted targets, and gives access to the callbacks."""

    def __init__(
        self,
        listener: Listener,
        serving: Callable[[Target, str, str, str], None],
        on_given_up: Callable[[Target, str], None],
    ) -> None:
        super().__init__(listener, serving, on_given_up=on_given_up)
        self.serving, self.given_up = serving, on_given_up
        self.submitted: list[str] = []

    def submit(self, target: Target) -> bool:
        self.submitted.append(target.deployment)
        return True

    async def run(self) -> None:
        return


class Harness:
    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local_node, "EnvoySupervisor", self._supervisor)
        monkeypatch.setattr(local_node, "Prober", RecordedProber)
        self.reports: list[Status] = []
        servers = (Address("127.0.0.1", 18000), Address("127.0.0.2", 18001))
        self.node = LocalNode(
            Settings(data=directory),
            Node(GATEWAY, "n", servers),
            token="secret token",
            probe_secret="",
            trust=None,
            report=self.reports.extend,
        )
        assert isinstance(self.node.prober, RecordedProber)
        self.prober = self.node.prober
        self.targets = ProbeTargets(self.prober, GATEWAY, "n")

    def _supervisor(self, **options: Any) -> Envoy:
        self.envoy = Envoy(**options)
        return self.envoy

    def connected(self, connection: str, listener_refused: str = "") -> None:
        report = NodeReported(
            organization="acme",
            name="local",
            at=AT,
            node="n",
            connected=True,
            connection=connection,
            listener_refused=listener_refused,
        )
        self.targets.reported([report])


@pytest.fixture
async def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Harness:
    return Harness(tmp_path, monkeypatch)


async def test_a_node_names_the_first_reason_why_it_does_not_serve(harness: Harness):
    assert harness.node.trouble() == "the gateway's Envoy does not run: killed"
    await harness.envoy.start()
    assert harness.node.trouble() is None  # until it is known whether it is connected
    harness.node.probes(harness.targets)
    assert harness.node.trouble() == "the gateway's Envoy has not connected to an xDS server yet"
    harness.connected("c1", listener_refused="no such filter")
    assert harness.node.trouble() == "the gateway's Envoy rejected its listener: no such filter"
    harness.connected("c1")
    assert harness.node.trouble() is None


async def test_a_served_deployment_is_reported_on_the_connection_of_the_node(harness: Harness):
    harness.node.probes(harness.targets)
    harness.connected("c1")
    harness.prober.serving(ORDERS, GATEWAY, "n", AT)
    (report,) = harness.reports
    assert isinstance(report, DeliveryReported)
    assert (report.fact, report.deployment, report.node) == ("serving", "d1", "n")
    assert (report.connection, report.position, report.at) == ("c1", 7, AT)


async def test_envoy_gets_all_xds_servers_and_its_token_stays_secret(harness: Harness):
    document = str(harness.envoy.options["bootstrap"](Path("admin.sock")))
    assert all(text in document for text in ("127.0.0.1", "18000", "127.0.0.2", "18001", GATEWAY))
    assert harness.envoy.options["secrets"] == ("secret token",)


async def test_envoy_runs_until_the_group_stops(harness: Harness):
    group = ServiceGroup()
    await harness.node.start(group)
    assert harness.envoy.status.state == "running"
    await group.stop()
    assert harness.envoy.status.state == "stopped"


async def test_a_deployment_that_moves_to_another_entry_is_probed_on(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def entry(name: str, position: int, *refs: DeploymentRef) -> ConfigResource:
        return ConfigResource(GATEWAY, "envoy", "routes", name, f"v{position}", position, b"-", (), refs)

    # Given an acknowledged deployment, which is probed
    forgotten: list[str] = []
    monkeypatch.setattr(harness.prober, "forget", forgotten.append)
    config = await SqliteConfigTopic.open(tmp_path)
    await harness.targets.load(config)
    orders, items = DeploymentRef("d1", "orders", 3, "/orders"), DeploymentRef("d2", "items", 1, "/items")
    await config.put([entry("unit", 7, orders, items)])
    reports = [
        DeliveryReported(
            organization="acme", name="local", at=AT, fact="acknowledged", deployment=d, node="n", position=7
        )
        for d in ("d1", "d2")
    ]
    harness.targets.reported(reports[:1])
    # When its entry is split, and made whole again, it is still probed
    await config.put([entry("part 1", 8, orders), entry("part 2", 8, items), entry("unit", 8)])
    harness.targets.reported(reports[1:])
    await config.put([entry("unit", 9, orders, items), entry("part 1", 9), entry("part 2", 9)])
    assert harness.prober.submitted == ["d1", "d2"]
    assert forgotten == []
    # Until it is in no entry
    await config.put([entry("unit", 10, items)])
    assert forgotten == ["d1"]
    await config.close()
