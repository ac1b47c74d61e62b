"""The services of one resource type each: clients that do not aggregate use them."""

from collections.abc import AsyncIterator

import grpc.aio
import pytest

from tests.xds.proxies import GATEWAY, TOKEN, DeltaProxy, StateProxy, entry
from xds.server.discovery import DiscoveryServer
from xds.store import ResourceStore
from xds.types import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SCOPED_ROUTES, SECRET, VIRTUAL_HOST

SERVICES = {
    CLUSTER: ("envoy.service.cluster.v3.ClusterDiscoveryService", "Clusters"),
    ENDPOINTS: ("envoy.service.endpoint.v3.EndpointDiscoveryService", "Endpoints"),
    LISTENER: ("envoy.service.listener.v3.ListenerDiscoveryService", "Listeners"),
    ROUTES: ("envoy.service.route.v3.RouteDiscoveryService", "Routes"),
    SCOPED_ROUTES: ("envoy.service.route.v3.ScopedRoutesDiscoveryService", "ScopedRoutes"),
    VIRTUAL_HOST: ("envoy.service.route.v3.VirtualHostDiscoveryService", "VirtualHosts"),
    SECRET: ("envoy.service.secret.v3.SecretDiscoveryService", "Secrets"),
    EXTENSION: ("envoy.service.extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs"),
}


@pytest.fixture
async def store() -> ResourceStore:
    store = ResourceStore()
    store.apply([entry(type, "a", "1") for type in SERVICES])
    return store


@pytest.fixture
async def channel(store: ResourceStore) -> AsyncIterator[grpc.aio.Channel]:
    server = DiscoveryServer(store, lambda gateway, token: gateway == GATEWAY and token == TOKEN)
    port = await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(1)


@pytest.mark.parametrize("type", SERVICES)
async def test_the_incremental_stream_of_a_type_carries_that_type(
    type: str, store: ResourceStore, channel: grpc.aio.Channel
) -> None:
    service, resources = SERVICES[type]
    proxy = DeltaProxy(channel, "node", method=f"/{service}/Delta{resources}")
    await proxy.ask(type, ["a"])
    first = await proxy.next()
    await proxy.ask(type, nonce=first.nonce)
    store.apply([entry(type, "a", "2")])
    second = await proxy.next()
    assert [(r.name, r.resource and r.resource.value) for r in first.resources] == [("a", b"1")]
    assert [(r.name, r.resource and r.resource.value) for r in second.resources] == [("a", b"2")]


@pytest.mark.parametrize("type", [type for type in SERVICES if type != VIRTUAL_HOST])
async def test_the_state_of_the_world_stream_of_a_type_carries_that_type(
    type: str, store: ResourceStore, channel: grpc.aio.Channel
) -> None:
    service, resources = SERVICES[type]
    proxy = StateProxy(channel, "node", method=f"/{service}/Stream{resources}")
    await proxy.ask(type, ["a"])
    first = await proxy.next()
    await proxy.ask(type, ["a"], nonce=first.nonce, version=first.version_info)
    store.apply([entry(type, "a", "2")])
    second = await proxy.next()
    assert (first.type_url, [r.value for r in first.resources]) == (type, [b"1"])
    assert (second.type_url, [r.value for r in second.resources]) == (type, [b"2"])


async def test_a_request_without_a_type_is_for_the_type_of_its_service(channel: grpc.aio.Channel) -> None:
    service, resources = SERVICES[CLUSTER]
    proxy = DeltaProxy(channel, "node", method=f"/{service}/Delta{resources}")
    await proxy.ask("")
    assert (await proxy.next()).type_url == CLUSTER


@pytest.mark.parametrize(
    ("method", "type", "reason"),
    [
        ("/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters", LISTENER, "serves"),
        ("", "", "type_url is missing"),
    ],
    ids=["another type", "no type on the aggregated stream"],
)
async def test_a_request_for_a_type_that_the_stream_cannot_carry_is_an_invalid_argument(
    method: str, type: str, reason: str, channel: grpc.aio.Channel
) -> None:
    proxy = DeltaProxy(channel, "node", method=method)
    await proxy.ask(type)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await proxy.receive()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason in (refused.value.details() or "")
