"""A name server that never answers: upstreams of other APIs do not wait for attempts to ask it again."""

import asyncio
import json
import socket
from pathlib import Path

import pytest

from tests.xds.proxies import GATEWAY, TOKEN, Remembering
from tests.xds.translate.inputs import settings, upstream
from tests.xds.translate.proxy import envoy_binary
from xds.bootstrap import bootstrap
from xds.server.discovery import DiscoveryServer
from xds.store import ResourceStore
from xds.translate.clusters import cluster_entry

pytestmark = pytest.mark.usefixtures("envoy")

QUESTIONS = 2
"""Of one lookup: for IPv4 and for IPv6."""


def _asked(silent: socket.socket) -> int:
    """How many questions wait to be answered."""
    count = 0
    while True:
        try:
            silent.recv(4096)
        except BlockingIOError:
            return count
        count += 1


async def test_another_upstream_waits_for_one_lookup_at_most(tmp_path: Path) -> None:
    gateway = settings(subject=GATEWAY)
    first = cluster_entry(gateway, upstream("http://127.0.0.1:9001"), 1)
    silent_one = cluster_entry(gateway, upstream("http://silent.test"), 1)
    other = cluster_entry(gateway, upstream("http://127.0.0.1:9000"), 2)
    store, seen = ResourceStore(), Remembering()
    server = DiscoveryServer(store, lambda subject, token: (subject, token) == (GATEWAY, TOKEN), seen)
    port = await server.start("127.0.0.1", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.setblocking(False)
        silent.bind(("127.0.0.1", 0))
        document = bootstrap(
            node_id="node-1",
            gateway=GATEWAY,
            token=TOKEN,
            xds_host="127.0.0.1",
            xds_port=port,
            admin_socket=str(tmp_path / "admin"),
        )
        document["typed_dns_resolver_config"]["typed_config"]["resolvers"] = [
            {"socket_address": {"address": "127.0.0.1", "port_value": silent.getsockname()[1]}}
        ]
        (tmp_path / "envoy.json").write_text(json.dumps(document), encoding="utf-8")
        envoy = await asyncio.create_subprocess_exec(
            envoy_binary(), "-c", str(tmp_path / "envoy.json"), "--disable-hot-restart", "-l", "off"
        )
        try:
            store.apply([first])
            await seen.until(lambda: first.name in seen.names("acknowledged"))
            store.apply([silent_one])
            await seen.until(lambda: silent_one.name in seen.names("sent"))
            store.apply([other])
            await seen.until(lambda: other.name in seen.names("acknowledged"))
            assert _asked(silent) <= QUESTIONS
        finally:
            envoy.kill()
            await envoy.wait()
            await server.stop(0)
