"""What a stream reports of deployments: by name what came since it began, as progress what was there."""

from dataclasses import dataclass, field, replace

import pytest
from envoy_data_plane.envoy.service.discovery.v3 import DeltaDiscoveryResponse

from gateways.config_resource import ConfigResource, DeploymentRef
from tests.xds.models import DeltaModel
from tests.xds.proxies import GATEWAY, Remembering, entry
from xds.server.observer import (
    MOST_EXCEPTIONS,
    Connection,
    Progress,
    UnacknowledgedDeployment,
    progress,
    together,
)
from xds.server.streams.delta import DeltaStream
from xds.server.wire import DeltaRequest, ErrorDetail
from xds.store import ResourceStore
from xds.types import CLUSTER, LISTENER, ROUTES

NODE = "node-1"


def route(group: str, state: str, position: int, *refs: tuple[str, str]) -> ConfigResource:
    """`deployments` are deployments and their APIs; without any the route is removed."""
    body = f"{state} {position} c" if refs else ""
    made = replace(entry("RDS", group, body, [("CDS", "c")]), position=position)
    return replace(
        made, deployments=tuple(DeploymentRef(deployment, api, 1, "/x") for deployment, api in refs)
    )


@dataclass
class Harness:
    store: ResourceStore = field(default_factory=ResourceStore)
    seen: Remembering = field(default_factory=Remembering)

    def __post_init__(self) -> None:
        self.store.apply([entry("CDS", "c", "good 0")])

    def proxy(self, node: str = NODE) -> DeltaModel:
        return DeltaModel(self.store, node, self.seen, names_bad=False)

    def settle(self, *proxies: DeltaModel) -> None:
        while any(proxy.step() for proxy in proxies):
            pass

    def take(self) -> list[tuple[str, str, str]]:
        """What was reported by name since the last time."""
        message, self.seen.deployments[:] = list(self.seen.deployments), []
        return message


def lacking(proxy: DeltaModel) -> dict[str, str | None]:
    return {lack.deployment: lack.reason for lack in proxy.stream.progress().unacknowledged}


def test_changes_before_a_proxy_connected_are_one_progress_without_names_of_deployments():
    harness = Harness()
    harness.store.apply([route(f"r{n}", "good", n, (f"d{n}", f"a{n}")) for n in range(1, 50)])
    proxy = harness.proxy()
    harness.settle(proxy)
    assert harness.take() == []
    assert harness.seen.progress == [(NODE, Progress(49))]


def test_a_proxy_that_comes_back_with_versions_proves_them_by_one_progress():
    harness = Harness()
    proxy = harness.proxy()
    harness.store.apply([route("r", "good", 1, ("d1", "a"))])
    harness.settle(proxy)
    harness.take()
    harness.seen.progress.clear()
    proxy.connect()
    harness.settle(proxy)
    assert (harness.take(), harness.seen.progress) == ([], [(NODE, Progress(1))])


def test_a_deployment_comes_by_name_and_those_that_share_its_resource_do_not():
    harness = Harness()
    proxy = harness.proxy()
    harness.settle(proxy)
    harness.store.apply([route("r", "good", 5, ("d1", "a"))])
    harness.settle(proxy)
    harness.store.apply([route("r", "good", 6, ("d1", "a"), ("d2", "b"))])
    harness.settle(proxy)
    harness.store.apply([route("r", "good", 7, ("d3", "a"), ("d2", "b"))])
    harness.settle(proxy)
    assert harness.take() == [("came", NODE, "d1"), ("came", NODE, "d2"), ("came", NODE, "d3")]
    assert proxy.stream.progress() == Progress(7)


def test_deployments_that_are_overtaken_while_they_wait_come_together():
    harness = Harness()
    proxy = harness.proxy()
    harness.settle(proxy)
    harness.store.apply([route("r", "good", 5, ("d1", "a"))])
    harness.store.apply([route("r", "good", 6, ("d1", "a"), ("d2", "b"))])
    harness.settle(proxy)
    assert sorted(harness.take()) == [("came", NODE, "d1"), ("came", NODE, "d2")]


def test_a_deployment_that_a_proxy_has_not_acknowledged_yet_is_an_exception():
    harness = Harness()
    proxy = harness.proxy()
    harness.settle(proxy)
    harness.store.apply([route("r", "good", 5, ("d1", "a"))])
    assert proxy.stream.progress() == Progress(5, (UnacknowledgedDeployment("d1", 5),))


def test_a_restarted_proxy_lacks_a_resource_that_it_rejects_and_had_acknowledged_before():
    harness = Harness()
    proxy = harness.proxy()
    harness.settle(proxy)
    harness.store.apply([route("r", "good", 5, ("d1", "a"))])
    harness.settle(proxy)
    assert harness.take() == [("came", NODE, "d1")]
    stream = DeltaStream(harness.store.gateway(GATEWAY), Connection(GATEWAY, NODE, "again"), harness.seen)
    stream.receive(DeltaRequest(type=CLUSTER))
    stream.receive(DeltaRequest(type=CLUSTER, nonce=sent(stream)))
    stream.receive(DeltaRequest(type=ROUTES))
    stream.receive(DeltaRequest(type=ROUTES, nonce=sent(stream), error_detail=ErrorDetail(13, "no")))
    assert stream.responses() == []
    assert harness.take() == [("lacks", NODE, "d1")]
    assert stream.progress() == Progress(5, (UnacknowledgedDeployment("d1", 5, "no"),))


def sent(stream: DeltaStream) -> str:
    """The nonce of what is sent now."""
    [frame] = stream.responses()
    return DeltaDiscoveryResponse.parse(frame).nonce


def test_a_rejected_deployment_is_lacking_alone_and_comes_once_it_is_mended():
    harness = Harness()
    proxy, other = harness.proxy(), harness.proxy("node-2")
    harness.settle(proxy, other)
    harness.store.apply([route("r", "good", 5, ("d1", "a"))])
    harness.settle(proxy, other)
    harness.take()
    harness.store.apply([route("r", "bad", 6, ("d1", "a"), ("d2", "b"))])
    harness.settle(proxy, other)
    assert set(harness.take()) == {("lacks", NODE, "d2"), ("lacks", "node-2", "d2")}
    assert lacking(proxy) == lacking(other) == {"d2": "no"}
    harness.store.apply([route("r", "good", 7, ("d1", "a"), ("d2", "b"), ("d3", "c"))])
    harness.settle(proxy, other)
    came = {("came", node, deployment) for node in (NODE, "node-2") for deployment in ("d2", "d3")}
    assert set(harness.take()) == came
    assert lacking(proxy) == lacking(other) == {}


def test_a_rejected_deployment_that_is_taken_back_brings_the_one_before_again():
    harness = Harness()
    proxy = harness.proxy()
    harness.settle(proxy)
    good = route("r", "good", 5, ("d1", "a"))
    harness.store.apply([good])
    harness.settle(proxy)
    harness.store.apply([route("r", "bad", 6, ("d2", "a"))])
    harness.settle(proxy)
    harness.take()
    harness.store.apply([replace(good, position=6)])
    harness.settle(proxy)
    assert harness.take() == [("came", NODE, "d1")]
    assert lacking(proxy) == {}


def test_a_removal_is_pending_until_it_is_acknowledged_and_then_gone_by_name():
    harness = Harness()
    proxy = harness.proxy()
    harness.settle(proxy)
    harness.store.apply([route("r", "good", 5, ("d1", "a"))])
    harness.settle(proxy)
    harness.take()
    harness.store.apply([route("r", "", 6)])
    assert proxy.stream.progress() == Progress(6, (UnacknowledgedDeployment("d1", 6),))
    assert harness.take() == []
    harness.settle(proxy)
    assert harness.take() == [("gone", NODE, "d1")]
    assert proxy.stream.progress() == Progress(6)


def test_a_deployment_that_leaves_a_resource_which_stays_is_gone_and_a_superseded_one_is_not():
    harness = Harness()
    proxy = harness.proxy()
    harness.settle(proxy)
    harness.store.apply([route("r", "good", 5, ("d1", "a"), ("d2", "b"))])
    harness.settle(proxy)
    harness.take()
    harness.store.apply([route("r", "good", 6, ("d3", "a"))])
    assert lacking(proxy) == {"d2": None, "d3": None}
    harness.settle(proxy)
    assert harness.take() == [("came", NODE, "d3"), ("gone", NODE, "d2")]


def test_a_resource_without_a_subscriber_is_pending_and_there_is_no_progress_to_report():
    harness = Harness()
    harness.store.apply([route("r", "good", 5, ("d1", "a"))])
    stream = DeltaStream(harness.store.gateway(GATEWAY), Connection(GATEWAY, NODE), harness.seen)
    stream.receive(DeltaRequest(type=CLUSTER))
    stream.receive(DeltaRequest(type=CLUSTER, nonce=sent(stream)))
    stream.responses()
    assert harness.seen.progress == []
    assert stream.progress() == Progress(5, (UnacknowledgedDeployment("d1", 5),))
    stream.receive(DeltaRequest(type=ROUTES, subscribe=["other"]))
    assert stream.progress() == Progress(5, (UnacknowledgedDeployment("d1", 5),))


def test_a_rejected_listener_is_reported_at_once_and_so_is_that_it_listens():
    harness = Harness()
    listener = replace(entry("LDS", "l", "port 8001"), type=LISTENER)
    harness.store.apply([listener])
    stream = DeltaStream(harness.store.gateway(GATEWAY), Connection(GATEWAY, NODE), harness.seen)
    stream.receive(DeltaRequest(type=LISTENER))
    for reason in ("port taken", "port taken"):
        refusal = ErrorDetail(13, reason)
        stream.receive(DeltaRequest(type=LISTENER, nonce=sent(stream), error_detail=refusal))
        assert stream.responses() == []
        harness.store.gateway(GATEWAY).retry((LISTENER, "l"))
        stream.try_again((LISTENER, "l"))
    assert harness.seen.names("refused") == ["l", "l"], "each try is reported"
    stream.receive(DeltaRequest(type=LISTENER, nonce=sent(stream)))
    stream.responses()
    output = [message.listener_refused for _, message in harness.seen.progress]
    assert output == ["port taken", ""]


def test_notes_of_our_own_processes_are_no_deployments_that_a_proxy_lacks():
    harness = Harness()
    note = replace(route("r", "good", 5, ("d1", "a")), type="signalbox.io/note")
    harness.store.apply([note])
    proxy = harness.proxy()
    harness.settle(proxy)
    assert proxy.stream.progress() == Progress(5)


def test_events_without_an_effect_on_the_gateway_are_acknowledged_too():
    reached = {GATEWAY: 12}
    harness = Harness(ResourceStore(lambda gateway: reached[gateway]))
    proxy = harness.proxy()
    harness.settle(proxy)
    assert harness.seen.progress == [(NODE, Progress(12))]


@pytest.mark.parametrize("many", [MOST_EXCEPTIONS, MOST_EXCEPTIONS + 1, 10 * MOST_EXCEPTIONS])
def test_with_too_many_exceptions_the_position_is_lowered_below_the_first_unnamed_one(many: int):
    lacks = [UnacknowledgedDeployment(f"d{position}", position) for position in range(many, 0, -1)]
    output = progress(many, lacks, "")
    assert len(output.unacknowledged) <= MOST_EXCEPTIONS
    named = {lack.deployment for lack in output.unacknowledged}
    assert all(lack.deployment in named for lack in lacks if lack.position <= output.acknowledged)
    assert output.acknowledged == min(many, MOST_EXCEPTIONS)


def test_exceptions_of_one_event_that_are_too_many_lower_the_position_below_it():
    lacks = [UnacknowledgedDeployment(f"d{number}", 7) for number in range(MOST_EXCEPTIONS + 1)]
    assert progress(9, lacks, "") == Progress(6)


def test_a_proxy_with_a_stream_for_each_type_has_the_progress_of_the_most_advanced_one():
    clusters, routes = Progress(9, (UnacknowledgedDeployment("d1", 3),)), Progress(9)
    assert together([clusters, replace(clusters, listener_refused="no"), routes]) == Progress(9, (), "no")


def test_each_node_that_rejected_a_cluster_reports_that_it_lacks_the_routes_that_require_it():
    harness = Harness()
    proxy, other = harness.proxy(), harness.proxy("node-2")
    harness.settle(proxy, other)
    harness.store.apply([entry("CDS", "c", "bad 1"), route("r", "good", 5, ("d1", "a"))])
    harness.settle(proxy)
    assert harness.take() == [("lacks", NODE, "d1")]
    assert (lacking(proxy), lacking(other)) == ({"d1": "requires c: no"}, {"d1": None})
    harness.settle(proxy, other)
    late = harness.proxy("node-3")
    harness.settle(late)
    assert set(harness.take()) == {("lacks", "node-2", "d1"), ("lacks", "node-3", "d1")}
    assert lacking(proxy) == lacking(other) == lacking(late) == {"d1": "requires c: no"}


def test_a_node_that_rejects_a_version_that_another_one_runs_keeps_its_own_with_all_that_needs():
    harness = Harness()
    proxy, picky = (
        harness.proxy(),
        DeltaModel(harness.store, "picky", harness.seen, names_bad=False, picky=True),
    )
    harness.store.apply([route("r", "good", 5, ("d1", "a"))])
    harness.settle(proxy, picky)
    moved = replace(route("r", "odd", 6, ("d2", "a")), body=b"odd 6 d", requires=((CLUSTER, "d"),))
    harness.store.apply([entry("CDS", "d", "good 0"), moved, entry("CDS", "c", "")])
    harness.settle(picky)
    harness.settle(proxy, picky)
    assert (proxy.held[ROUTES], set(proxy.held[CLUSTER])) == ({"r": "odd 6 d"}, {"d"})
    assert (picky.held[ROUTES], set(picky.held[CLUSTER])) == ({"r": "good 5 c"}, {"c", "d"})
    assert (lacking(proxy), lacking(picky)) == ({}, {"d2": "no"})


def test_a_node_that_rejects_a_running_version_gets_the_last_good_one_when_it_comes_back_empty():
    harness = Harness()
    proxy, picky = (
        harness.proxy(),
        DeltaModel(harness.store, "picky", harness.seen, names_bad=False, picky=True),
    )
    harness.store.apply([route("r", "good", 5, ("d1", "a"))])
    harness.settle(proxy, picky)
    harness.store.apply([route("r", "odd", 6, ("d2", "a"))])
    harness.settle(proxy, picky)
    picky.restart()
    harness.settle(proxy, picky)
    assert (proxy.held[ROUTES], picky.held[ROUTES]) == ({"r": "odd 6 c"}, {"r": "good 5 c"})
    assert lacking(picky) == {"d2": "no"}
