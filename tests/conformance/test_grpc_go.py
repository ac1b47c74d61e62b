"""gRPC for Go, with its own xDS client, finds its servers through ours."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import grpc
import grpc.aio
import pytest
from envoy_data_plane.envoy.config.cluster.v3 import ClusterLbPolicy

from tests.conformance.grpc_resources import SERVICE, cluster, endpoints, listener, removal, routes
from tests.support.hang_guard import HANG_SECONDS
from tests.support.running_signalbox import ROOT
from tests.support.toolchains import build_go
from tests.xds.proxies import GATEWAY, TOKEN, Remembering
from xds.server.discovery import DiscoveryServer
from xds.store import ResourceStore

pytestmark = pytest.mark.real

CLIENT = ROOT / "tests" / "conformance" / "grpc_client"
PLACE_ORDER, READ_STOCK = "/shop.Orders/Place", "/shop.Stock/Read"


class Client:
    """The running program."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def call(self, method: str) -> str:
        """`OK` and the name of the server that answered, or another status code."""
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._process.stdin.write(f"{method}\n".encode())
        await self._process.stdin.drain()
        line = await self._process.stdout.readline()
        assert line, (await self._process.stderr.read()).decode()
        return line.decode().strip()

    async def until(self, method: str, answer: str) -> None:
        """Calls until the answer is this one: the client applies what it has acknowledged in its own time."""
        last = "none"
        try:
            async with asyncio.timeout(HANG_SECONDS):
                while (last := await self.call(method)) != answer:
                    pass
        except TimeoutError:
            pytest.fail(f"{method} never answered {answer}, the last answer was {last}")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grpc-client")


@pytest.fixture
async def program(directory: Path) -> Path:
    built = directory / "program"
    return built if built.exists() else await build_go(CLIENT, directory)


@pytest.fixture
async def store() -> ResourceStore:
    return ResourceStore()


@pytest.fixture
async def seen() -> Remembering:
    return Remembering()


@pytest.fixture
async def ports() -> AsyncIterator[dict[str, int]]:
    """Two gRPC servers that answer any method with their name; where they listen."""
    servers = {name: grpc.aio.server() for name in ("blue", "green")}
    ports: dict[str, int] = {}
    for name, server in servers.items():
        server.add_generic_rpc_handlers((_Naming(name),))
        ports[name] = server.add_insecure_port("127.0.0.1:0")
        await server.start()
    yield ports
    for server in servers.values():
        await server.stop(None)


class _Naming(grpc.GenericRpcHandler):
    def __init__(self, name: str) -> None:
        self._answer = bytes((0x0A, len(name))) + name.encode()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        async def answer(_: bytes, context: object) -> bytes:
            return self._answer

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
async def client(program: Path, store: ResourceStore, seen: Remembering) -> AsyncIterator[Client]:
    server = DiscoveryServer(store, lambda gateway, token: gateway == GATEWAY and token == TOKEN, seen)
    port = await server.start("127.0.0.1", 0)
    bootstrap = {
        "xds_servers": [
            {
                "server_uri": f"127.0.0.1:{port}",
                "channel_creds": [{"type": "token", "config": TOKEN}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": "client", "cluster": GATEWAY},
    }
    process = await asyncio.create_subprocess_exec(
        program,
        f"xds:///{SERVICE}",
        env={**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(bootstrap)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Client(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
        await server.stop(1)


@pytest.fixture
async def shop(store: ResourceStore, ports: dict[str, int]) -> None:
    """All calls go to the cluster `main`, which the server `blue` serves."""
    store.apply([listener(), routes({"/": "main"}), cluster("main"), endpoints("main", ports["blue"])])


async def test_a_call_goes_where_the_routes_say(
    shop: None, client: Client, store: ResourceStore, ports: dict[str, int]
) -> None:
    await client.until(PLACE_ORDER, "OK blue")
    store.apply(
        [
            routes({"/shop.Stock/": "stock", "/": "main"}),
            cluster("stock"),
            endpoints("stock", ports["green"]),
        ]
    )
    await client.until(READ_STOCK, "OK green")
    assert await client.call(PLACE_ORDER) == "OK blue"


async def test_all_four_types_are_acknowledged(shop: None, client: Client, seen: Remembering) -> None:
    await client.until(PLACE_ORDER, "OK blue")
    await seen.until(lambda: set(seen.names("acknowledged")) == {SERVICE, "routes", "main"})
    await seen.until(lambda: seen.names("acknowledged").count("main") == 2)  # cluster and endpoints
    assert seen.names("refused") == []


async def test_endpoints_that_move_are_followed(
    shop: None, client: Client, store: ResourceStore, ports: dict[str, int]
) -> None:
    await client.until(PLACE_ORDER, "OK blue")
    store.apply([endpoints("main", ports["green"])])
    await client.until(PLACE_ORDER, "OK green")


async def test_a_removed_listener_ends_the_service_until_it_comes_again(
    shop: None, client: Client, store: ResourceStore
) -> None:
    await client.until(PLACE_ORDER, "OK blue")
    store.apply([removal(listener())])
    await client.until(PLACE_ORDER, "Unavailable")
    store.apply([listener()])
    await client.until(PLACE_ORDER, "OK blue")


async def test_a_rejected_cluster_leaves_the_last_good_one_in_force(
    shop: None, client: Client, store: ResourceStore, seen: Remembering, ports: dict[str, int]
) -> None:
    await client.until(PLACE_ORDER, "OK blue")
    store.apply([cluster("main", ClusterLbPolicy.MAGLEV)])  # gRPC has no such policy
    await seen.until(lambda: seen.names("refused") == ["main"])
    assert await client.call(PLACE_ORDER) == "OK blue"
    [(rejected, reason)] = store.quarantined(GATEWAY)
    assert rejected.name == "main"
    assert "unexpected lbPolicy" in reason
    # a later change of something else still arrives
    store.apply([endpoints("main", ports["green"])])
    await client.until(PLACE_ORDER, "OK green")
