"""For any changes in any order, rejections, reconnects and restarts: proxies reach the right state.

An API has a route, and a cluster that it may share with others; either can be marked bad. Deploying
writes the route and, when they are new, its cluster, and removes unused clusters. What is
odd is rejected by one of the proxies and taken by the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateways.config_resource import ConfigResource
from tests.support.laws import examples
from tests.xds.models import DeltaModel, Proxy, StateModel
from tests.xds.proxies import GATEWAY, Remembering, entry
from xds import subscription
from xds.store import ResourceStore, backlog
from xds.store.resource import StoredResource
from xds.types import CLUSTER, ROUTES


@pytest.fixture(autouse=True, scope="module", params=[1, 2, 1_000], ids=lambda names: f"chunks of {names}")
def chunks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Of how many resources the chunks are that proxies get which have nothing yet."""
    with pytest.MonkeyPatch.context() as patch:
        size = backlog.ChunkSize(1 << 20, request.param)
        for module in (backlog, subscription):
            patch.setattr(module, "LARGE", size)
            patch.setattr(module, "SMALL", size)
        yield


APIS = ("a", "b", "c", "d", "e")
KINDS = {"broken": "bad", "curious": "odd"}


@dataclass
class Harness:
    store: ResourceStore = field(default_factory=ResourceStore)
    deployed: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    seen: Remembering = field(default_factory=Remembering)
    deployments: dict[str, str] = field(default_factory=dict[str, str])
    count: int = 0

    def deploy(self, api: str, content: int, cluster: str, state: str) -> None:
        used = {used for used, _ in self.deployed.values()}
        changes: list[ConfigResource] = []
        if cluster not in used:
            changes.append(entry("CDS", cluster, f"{KINDS.get(cluster, 'good')} 0 {cluster}", deployment=api))
        body = f"{state} {content} {api} {cluster}"
        self.count += 1
        self.deployments[api] = f"{api}-{self.count}"
        changes.append(entry("RDS", api, body, requires=[("CDS", cluster)], deployment=self.deployments[api]))
        self.deployed[api] = (cluster, body)
        self.store.apply([*changes, *self._unused(used)])

    def undeploy(self, api: str) -> None:
        used = {used for used, _ in self.deployed.values()}
        if self.deployed.pop(api, None):
            self.store.apply([entry("RDS", api, ""), *self._unused(used)])

    def _unused(self, used: set[str]) -> list[ConfigResource]:
        still = {used for used, _ in self.deployed.values()}
        return [entry("CDS", cluster, "") for cluster in sorted(used - still)]


deploys = st.tuples(
    st.just("deploy"),
    st.sampled_from(APIS),
    st.integers(0, 3),
    st.sampled_from(("one", "two", "three", "broken", "curious")),
    st.sampled_from(("good", "good", "good", "bad", "odd")),
)
undeploys = st.tuples(st.just("undeploy"), st.sampled_from(APIS))
steps = st.tuples(st.just("steps"), st.integers(0, 2), st.integers(1, 4))
sends = st.tuples(st.just("send"), st.integers(0, 2))
comings = st.tuples(st.sampled_from(("reconnect", "restart")), st.integers(0, 2))
rests = st.tuples(st.just("settle"))
histories = st.lists(
    st.one_of(deploys, deploys, undeploys, steps, steps, steps, steps, sends, sends, rests, comings),
    min_size=15,
    max_size=60,
)


def settle(proxies: list[Proxy]) -> None:
    for _ in range(3000):
        moved = [proxy.step() for proxy in proxies]
        if not any(moved):
            return
    raise AssertionError("the proxies never come to rest")


def proxies_of(harness: Harness, names_bad: bool) -> list[Proxy]:
    return [
        DeltaModel(harness.store, "first", harness.seen, names_bad=names_bad),
        DeltaModel(harness.store, "second", harness.seen, names_bad=names_bad, picky=True),
        StateModel(harness.store, "whole", harness.seen, names_bad=names_bad),
    ]


def check(harness: Harness, proxies: list[Proxy]) -> None:
    quarantined = {(e.type, e.name): reason for e, reason in harness.store.quarantined(GATEWAY)}
    for proxy in proxies:
        routes, clusters = proxy.held[ROUTES], proxy.held[CLUSTER]
        lacks = {lack.deployment: lack.reason for lack in proxy.progress().unacknowledged}
        for api, (cluster, body) in harness.deployed.items():
            reason = lacks.get(harness.deployments[api], "acknowledged")
            if proxy.rejects(body) or proxy.rejects(KINDS.get(cluster, "good")):
                assert routes.get(api) != body
                assert reason not in ("acknowledged", None), f"{proxy.node} is not known to reject {api}"
                assert proxy.refusals, f"{proxy.node} was never sent {api}"
            else:
                assert routes.get(api) == body, f"{proxy.node} lacks {api}"
                assert reason == "acknowledged", f"{proxy.node} has {api}: {reason}"
                assert (ROUTES, api) not in quarantined
            if cluster == "broken" or (body.startswith("bad") and cluster != "curious"):
                assert (ROUTES, api) in quarantined
        assert set(routes) <= set(harness.deployed), "a route outlived its API"
        needed = {body.rsplit(" ", 1)[1] for body in routes.values()}
        wanted = {c for c, _ in harness.deployed.values() if not proxy.rejects(KINDS.get(c, "good"))}
        assert wanted <= set(clusters)
        last_good = {e.body.decode().rsplit(" ", 1)[1] for e in last_goods(harness)}
        odd = proxy.picky or "curious" in {c for c, _ in harness.deployed.values()}
        if not odd and not has_unknown(harness, proxy):
            assert set(clusters) <= wanted | needed | last_good, "a cluster outlived its routes"
        assert not [body for body in (*routes.values(), *clusters.values()) if proxy.rejects(body)]


def stored(harness: Harness, api: str) -> StoredResource:
    return harness.store.gateway(GATEWAY).table(ROUTES).stored_resources[api]


def has_unknown(harness: Harness, proxy: Proxy) -> bool:
    """Whether the proxy has a version that the server no longer has, with everything that it may need."""
    stored_resources = harness.store.gateway(GATEWAY).table(ROUTES).stored_resources
    return any(stored_resources[api].reason and not stored_resources[api].good for api in proxy.held[ROUTES])


def last_goods(harness: Harness) -> list[ConfigResource]:
    stored_resources = harness.store.gateway(GATEWAY).table(ROUTES).stored_resources.values()
    return [stored.good.entry for stored in stored_resources if stored.reason and stored.good]


@examples(400)
@example(
    history=[("undeploy", "a"), ("settle",), ("deploy", "a", 0, "one", "bad"), ("settle",), ("restart", 0)],
    names_bad=False,
).via("what was removed before a refused version came is no last good version")
@example(
    history=[("reconnect", 2), ("undeploy", "b"), ("undeploy", "a"), ("deploy", "a", 0, "one", "bad")],
    names_bad=False,
).via("a state-of-the-world proxy that reconnects gets everything, although the first response is refused")
@example(
    history=[
        ("deploy", "a", 0, "three", "good"),
        ("settle",),
        ("deploy", "a", 0, "one", "good"),
        ("deploy", "a", 0, "three", "good"),
        ("deploy", "a", 0, "one", "bad"),
        ("steps", 0, 1),
    ],
    names_bad=False,
).via("a version that was offered twice is what a proxy may have had since the first time")
@example(
    history=[
        ("deploy", "a", 0, "three", "good"),
        ("steps", 0, 4),
        ("deploy", "a", 1, "curious", "good"),
        ("steps", 2, 6),
        ("steps", 0, 2),
        ("deploy", "a", 2, "two", "bad"),
    ],
    names_bad=False,
).via("a proxy keeps a version that it acknowledged after another proxy had acknowledged the next one")
@example(
    history=[
        ("deploy", "a", 0, "three", "good"),
        ("settle",),
        ("restart", 0),
        ("steps", 0, 6),
        ("deploy", "a", 0, "two", "good"),
        ("send", 0),
    ],
    names_bad=False,
).via("a route on its way to a proxy that had none needs its cluster")
@example(
    history=[
        ("deploy", "a", 0, "three", "good"),
        ("settle",),
        ("restart", 0),
        ("steps", 0, 11),
        ("deploy", "a", 0, "two", "good"),
        ("send", 0),
    ],
    names_bad=False,
).via("so does one that was sent after chunks of one cluster each")
@example(
    history=[("undeploy", "a"), ("reconnect", 1), ("steps", 1, 1), ("send", 1)],
    names_bad=False,
).via("a proxy that reconnects loses no cluster before it has reported its routes")
@example(
    history=[
        ("deploy", "b", 0, "broken", "odd"),
        ("steps", 1, 1),
        ("steps", 0, 4),
        ("steps", 2, 3),
        ("steps", 1, 2),
        ("deploy", "b", 1, "three", "good"),
        ("steps", 1, 6),
        ("deploy", "b", 0, "two", "good"),
        ("deploy", "b", 1, "broken", "good"),
    ],
    names_bad=True,
).via("the cluster of a last good version comes back while a response is made")
@example(
    history=[
        ("deploy", "d", 0, "curious", "good"),
        ("steps", 0, 5),
        ("reconnect", 0),
        ("deploy", "d", 1, "broken", "good"),
        ("deploy", "d", 0, "two", "bad"),
    ],
    names_bad=False,
).via("a proxy keeps a version that only it has, with its cluster")
@example(
    history=[
        ("deploy", "a", 0, "broken", "good"),
        ("settle",),
        ("deploy", "a", 0, "one", "odd"),
        ("steps", 2, 1),
        ("steps", 2, 3),
        ("deploy", "a", 0, "broken", "good"),
    ],
    names_bad=False,
).via("who rejects the last good version as well has not acknowledged the one that is quarantined")
@example(
    history=[
        ("deploy", "c", 0, "broken", "good"),
        ("send", 1),
        ("deploy", "b", 0, "three", "good"),
        ("steps", 0, 6),
        ("steps", 1, 4),
        ("steps", 0, 3),
        ("reconnect", 2),
        ("deploy", "b", 2, "broken", "good"),
        ("steps", 1, 1),
    ],
    names_bad=True,
).via("what is accepted late is the last good version, which others do not have yet")
@example(
    history=[
        ("deploy", "e", 0, "broken", "good"),
        ("steps", 0, 2),
        ("steps", 2, 3),
        ("reconnect", 1),
        ("undeploy", "b"),
        ("steps", 1, 6),
        ("deploy", "b", 0, "broken", "good"),
        ("steps", 0, 1),
        ("send", 1),
    ],
    names_bad=False,
).via("what is quarantined while its removal is acknowledged is not acknowledged")
@example(
    history=[
        ("deploy", "a", 1, "two", "bad"),
        ("deploy", "b", 0, "two", "bad"),
        ("settle",),
        ("deploy", "b", 1, "one", "good"),
        ("steps", 0, 4),
        ("steps", 2, 4),
        ("deploy", "b", 0, "two", "bad"),
        ("steps", 0, 2),
        ("steps", 1, 1),
        ("send", 2),
    ],
    names_bad=False,
).via("nor is what is quarantined while the version before it is acknowledged")
@given(histories, st.booleans())
def test_proxies_converge_and_no_route_is_ever_without_its_cluster(
    history: list[tuple[object, ...]], names_bad: bool
) -> None:
    harness = Harness()
    harness.deploy("a", 9, "one", "good")
    harness.deploy("b", 9, "two", "good")
    proxies = proxies_of(harness, names_bad)
    settle(proxies)
    for what in history:
        match what:
            case ("deploy", str(api), int(content), str(cluster), str(state)):
                harness.deploy(api, content, cluster, state)
            case ("undeploy", str(api)):
                harness.undeploy(api)
            case ("steps", int(index), int(count)):
                for _ in range(count):
                    proxies[index].step()
            case ("send", int(index)):
                proxies[index].send()
            case ("settle",):
                settle(proxies)
            case ("reconnect", int(index)):
                proxies[index].connect()
            case ("restart", int(index)):
                proxies[index].restart()
            case _:
                raise AssertionError(what)
    settle(proxies)
    check(harness, proxies)
    late = DeltaModel(harness.store, "late", harness.seen, names_bad=names_bad)
    settle([late])
    check(harness, [late])
    refusals = [proxy.refusals for proxy in proxies]
    settle([*proxies, late])
    check(harness, [*proxies, late])
    assert refusals == [proxy.refusals for proxy in proxies], "what they rejected is not sent to them again"
