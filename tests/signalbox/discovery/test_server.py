"""Whom this process serves: proxies that bring the token of their gateway."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc.aio
import pytest

from gateways.config_resource import ConfigResource
from schemas.codecs.canonical import sha256_hex
from signalbox.discovery.server import Discovery
from streams.gateway_sync.sync import CREDENTIALS
from tests.support.hang_guard import HANG_SECONDS
from tests.xds.proxies import DeltaProxy, Remembering, entry
from xds.server.observer import Connection

EAST, WEST = "organizations/acme/gateways/east", "organizations/acme/gateways/west"


def credentials(gateway: str, token: str) -> ConfigResource:
    digest = sha256_hex(token.encode()) if token else ""
    return entry(CREDENTIALS, "token", digest, gateway=gateway)


@pytest.fixture
async def discovery() -> Discovery:
    return Discovery(Remembering(), lambda gateway: 0)


@pytest.fixture
async def channel(discovery: Discovery) -> AsyncIterator[grpc.aio.Channel]:
    port = await discovery.server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await discovery.server.stop(0)


async def let_in(channel: grpc.aio.Channel, gateway: str, token: str) -> bool:
    """Whether the first request is answered. Raises TimeoutError."""
    proxy = DeltaProxy(channel, "node-1", gateway, token)
    async with asyncio.timeout(HANG_SECONDS):
        try:
            await proxy.ask("CDS")
            await proxy.next()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            assert await proxy.call.code() is grpc.StatusCode.UNAUTHENTICATED
            return False
    await proxy.close()
    return True


async def asked_for_a_request(channel: grpc.aio.Channel, token: str) -> bool:
    """Whether the server waits for the first request of a stream with this token."""
    proxy = DeltaProxy(channel, "node-1", EAST, token)
    with contextlib.suppress(grpc.aio.AioRpcError):
        await proxy.call.read()
    return await proxy.call.code() is not grpc.StatusCode.UNAUTHENTICATED


async def test_a_gateway_is_served_to_its_own_token(discovery: Discovery, channel: grpc.aio.Channel) -> None:
    discovery.serve([credentials(EAST, "one"), credentials(WEST, "two")])
    assert await let_in(channel, EAST, "one")
    assert await let_in(channel, WEST, "two")
    assert not await let_in(channel, EAST, "two")
    assert not await let_in(channel, "organizations/acme/gateways/north", "one")


@pytest.mark.parametrize("after", ["", "three"], ids=["gateway removed", "token replaced"])
async def test_a_token_that_no_gateway_has_any_more_is_turned_away_before_its_first_request(
    after: str, discovery: Discovery, channel: grpc.aio.Channel
) -> None:
    discovery.serve([credentials(EAST, "one"), credentials(WEST, "two")])
    discovery.serve([credentials(EAST, after)])
    assert not await asked_for_a_request(channel, "one")
    assert await let_in(channel, WEST, "two")


async def test_a_token_that_two_gateways_share_opens_the_one_that_is_left(
    discovery: Discovery, channel: grpc.aio.Channel
) -> None:
    discovery.serve([credentials(EAST, "one"), credentials(WEST, "one")])
    discovery.serve([credentials(EAST, "")])
    assert await let_in(channel, WEST, "one")
    assert not await let_in(channel, EAST, "one")


async def test_the_log_names_each_node_that_rejects_the_listener_and_does_not_repeat_it(
    discovery: Discovery, caplog: pytest.LogCaptureFixture
) -> None:
    listener = entry("LDS", "listeners/main", "one", gateway=EAST)

    for node in ("edge-1", "edge-1", "edge-2"):
        discovery.offer_again_later(Connection(EAST, node), listener, "the port is taken")

    output = [record.getMessage() for record in caplog.records if "does not listen" in record.getMessage()]
    assert output == [
        f"node {node} of {EAST} does not listen; trying again every 2 s: the port is taken"
        for node in ("edge-1", "edge-2")
    ]


async def test_a_rejected_token_is_warned_of_once_there_is_a_gateway(
    discovery: Discovery, channel: grpc.aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    """At the first start the Envoy of this process connects before its gateway is registered."""
    assert not await let_in(channel, EAST, "early")
    assert caplog.messages == []
    discovery.serve([credentials(EAST, "one")])

    assert not await let_in(channel, EAST, "wrong")

    assert caplog.messages == ["xDS: a node at 127.0.0.1 is refused: its token is that of no gateway"]
