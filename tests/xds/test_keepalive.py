"""A stalled proxy is noticed, although its connection stays open."""

import asyncio
import signal
import sys
from pathlib import Path

from tests.xds.proxies import Remembering
from xds.server.discovery import DiscoveryServer
from xds.server.rpc import KEEPALIVE, Keepalive
from xds.store import ResourceStore


async def test_a_stopped_proxy_is_disconnected_once_it_has_not_answered_a_ping() -> None:
    seen = Remembering()
    keepalive = Keepalive(after_ms=300, within_ms=300)
    server = DiscoveryServer(ResourceStore(), lambda gateway, token: True, seen, keepalive)
    port = await server.start("127.0.0.1", 0)
    proxy = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.xds.stopped_proxy", str(port), cwd=Path(__file__).parents[2]
    )
    try:
        await seen.until(lambda: bool(seen.names("connected")))
        proxy.send_signal(signal.SIGSTOP)
        await seen.until(lambda: bool(seen.names("disconnected")))
    finally:
        proxy.kill()
        await proxy.wait()
        await server.stop(0)


def test_a_stopped_proxy_is_noticed_within_half_a_minute() -> None:
    assert KEEPALIVE.after_ms + KEEPALIVE.within_ms <= 30_000
    assert dict(KEEPALIVE.options())["grpc.http2.ping_timeout_ms"] == KEEPALIVE.within_ms
