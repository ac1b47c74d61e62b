"""A cluster is removed from a proxy as soon as no route there needs it, and not before."""

import grpc.aio
import pytest

from gateways.config_resource import ConfigResource
from tests.xds.models import DeltaModel, Proxy
from tests.xds.proxies import DeltaProxy, Remembering, entry
from xds.server.discovery import DiscoveryServer
from xds.server.streams import stream
from xds.store import ResourceStore
from xds.store.resource import MOST_EARLIER_REQUIREMENTS
from xds.types import CLUSTER, ROUTES


def rest(*proxies: Proxy) -> None:
    moved = True
    while moved:
        moved = any(tuple(proxy.step() for proxy in proxies))


def cluster(name: str) -> ConfigResource:
    return entry("CDS", name, f"good 0 {name}")


def gone(name: str) -> ConfigResource:
    return entry("CDS", name, "")


def route(name: str, body: str) -> ConfigResource:
    return entry("RDS", name, body, requires=[("CDS", body.rsplit(" ", 1)[1])])


def pair(store: ResourceStore) -> tuple[DeltaModel, DeltaModel]:
    """A proxy that takes everything, and a picky one."""
    seen = Remembering()
    proxy = DeltaModel(store, "node-1", seen, names_bad=False)
    return proxy, DeltaModel(store, "node-2", seen, names_bad=False, picky=True)


def test_a_route_that_is_on_its_way_to_a_new_proxy_keeps_its_cluster_there():
    # given a new proxy to which a route was sent
    store = ResourceStore()
    store.apply([cluster("old"), cluster("new"), route("r", "good 1 old")])
    proxy = DeltaModel(store, "node-1", Remembering(), names_bad=False)
    while not (proxy.inbox and proxy.held[CLUSTER]):
        proxy.step()
    # when the route moves before the proxy has answered, and the old cluster goes
    store.apply([route("r", "good 2 new"), gone("old")])
    proxy.send()
    # then the cluster goes after the route has moved: otherwise the model raises Dangling
    rest(proxy)
    assert proxy.held[ROUTES] == {"r": "good 2 new"}
    assert set(proxy.held[CLUSTER]) == {"new"}


def test_a_proxy_that_rejects_one_route_loses_the_clusters_that_only_others_needed():
    store = ResourceStore()
    store.apply(
        [cluster("a"), cluster("b"), cluster("c"), route("r", "good 1 a"), route("other", "good 1 b")]
    )
    proxy, picky = pair(store)
    rest(proxy, picky)
    # given a proxy that rejects a version which another one takes
    store.apply([cluster("d"), route("r", "odd 2 d"), gone("a")])
    rest(proxy, picky)
    assert (picky.held[ROUTES]["r"], set(picky.held[CLUSTER])) == ("good 1 a", {"a", "b", "c", "d"})
    # when another route moves, and when the rejected version gives way to one that needs no `d`
    store.apply([route("other", "good 2 c"), gone("b")])
    store.apply([cluster("e"), route("r", "odd 3 e"), gone("d")])
    rest(proxy, picky)
    # then both clusters go; what the last good version needs stays
    assert (picky.held[ROUTES]["r"], set(picky.held[CLUSTER])) == ("good 1 a", {"a", "c", "e"})


@pytest.mark.parametrize("moves", [1, MOST_EARLIER_REQUIREMENTS, MOST_EARLIER_REQUIREMENTS + 1])
def test_a_version_that_was_overtaken_keeps_its_cluster_however_often_the_route_moved_before(moves: int):
    # given a route that has moved from cluster to cluster
    store = ResourceStore()
    store.apply([cluster("c0"), route("r", "good 0 c0")])
    proxy, picky = pair(store)
    for number in range(1, moves + 1):
        store.apply([cluster(f"c{number}"), route("r", f"good {number} c{number}"), gone(f"c{number - 1}")])
        rest(proxy, picky)
    # when a proxy acknowledges the next version only after another one acknowledged the one that follows
    store.apply([cluster("x"), route("r", "good 0 x"), gone(f"c{moves}")])
    while not (picky.inbox and "x" in picky.held[CLUSTER]):
        picky.step()
    store.apply([cluster("y"), route("r", "good 0 y"), gone("x")])
    rest(proxy)
    while picky.held[ROUTES]["r"] != "good 0 x" or picky.outbox:
        picky.step()
    # and rejects what comes then
    store.apply([cluster("z"), route("r", "odd 0 z"), gone("y")])
    rest(picky)
    rest(picky, proxy)
    # then it keeps that version with its cluster
    assert picky.held[ROUTES] == {"r": "good 0 x"}
    assert "x" in picky.held[CLUSTER]


def two_clusters() -> ResourceStore:
    """A store with a route to one of two clusters."""
    store = ResourceStore()
    store.apply([cluster("old"), cluster("new"), route("r", "good 1 old")])
    return store


def test_a_proxy_that_reconnects_loses_no_cluster_before_it_has_reported_its_routes():
    # given a proxy that was away while its route moved
    store = two_clusters()
    proxy = DeltaModel(store, "node-1", Remembering(), names_bad=False)
    rest(proxy)
    proxy.leave()
    store.apply([route("r", "good 2 new"), gone("old")])
    # when only the first of its requests has arrived
    proxy.connect()
    proxy.deliver()
    proxy.send()
    # then nothing is removed: otherwise the model raises Dangling
    rest(proxy)
    assert (proxy.held[ROUTES], set(proxy.held[CLUSTER])) == ({"r": "good 2 new"}, {"new"})


async def test_a_client_that_subscribes_to_clusters_alone_loses_them_a_little_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "OPENING_SECONDS", 0.01)
    store = two_clusters()
    store.apply([route("r", "good 2 new"), gone("old")])
    server = DiscoveryServer(store, lambda gateway, token: True)
    port = await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        client = DeltaProxy(channel, "node-1")
        await client.ask("CDS", has={"old": "1", "new": cluster("new").version})
        response = await client.next()
        await client.close()
    await server.stop(0)
    assert (response.resources, response.removed_resources) == ([], ["old"])
