"""The file Envoy starts with: Envoy takes it, and comes back with the gateway's name and token."""

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from envoy_data_plane.envoy.service.discovery.v3 import DeltaDiscoveryRequest

from tests.support.hang_guard import HANG_SECONDS
from tests.xds.translate.inputs import SUBJECT
from tests.xds.translate.proxy import envoy_binary, validate
from xds.bootstrap import bootstrap


def _bootstrap(port: int, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "node_id": "node-1",
        "gateway": SUBJECT,
        "token": "secret",
        "xds_host": "127.0.0.1",
        "xds_port": port,
    }
    return bootstrap(**fields | changes)


@pytest.mark.usefixtures("envoy")
def test_envoy_takes_it(tmp_path: Path) -> None:
    assert validate(_bootstrap(18000, admin_port=9901), tmp_path) == ""
    assert validate(_bootstrap(18000, xds_host="xds.test", admin_socket=str(tmp_path / "s")), tmp_path) == ""


class _ControlPlane:
    """Notes who connects, and hangs up at once."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[tuple[Any, DeltaDiscoveryRequest]] = asyncio.Queue()

    async def stream(self, requests: Any, context: Any) -> None:
        first = DeltaDiscoveryRequest.parse(await anext(aiter(requests)))
        await self.connections.put((dict(context.invocation_metadata()), first))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")

    async def start(self) -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server()
        method = grpc.stream_stream_rpc_method_handler(self.stream)
        service = "envoy.service.discovery.v3.AggregatedDiscoveryService"
        handler = grpc.method_handlers_generic_handler(service, {"DeltaAggregatedResources": method})
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port


@pytest.mark.usefixtures("envoy")
async def test_envoy_connects_with_its_token_and_comes_back_soon(tmp_path: Path) -> None:
    plane = _ControlPlane()
    server, port = await plane.start()
    file = tmp_path / "envoy.json"
    file.write_text(json.dumps(_bootstrap(port, admin_socket=str(tmp_path / "admin"))), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        envoy_binary(), "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "-l", "off"
    )
    try:
        async with asyncio.timeout(HANG_SECONDS):
            metadata, first = await plane.connections.get()
        assert metadata["authorization"] == "Bearer secret"
        assert first.node is not None
        assert (first.node.id, first.node.cluster) == ("node-1", SUBJECT)
        async with asyncio.timeout(HANG_SECONDS):
            for _ in range(4):
                await plane.connections.get()
    finally:
        process.terminate()
        await process.wait()
        await server.stop(None)
