"""What the server takes from callers whose gateway it does not know yet, and from nodes with an odd id."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc.aio
import pytest

from gateways.config_resource import PRIVATE
from tests.support.hang_guard import HANG_SECONDS
from tests.xds.proxies import GATEWAY, TOKEN, DeltaProxy, Remembering, StateProxy, entry
from xds.server.discovery import SERVICE, DiscoveryServer
from xds.server.limits import LARGEST_FIRST_REQUEST, LARGEST_REQUEST, LONGEST_NODE_ID, MOST_TYPES, Limits
from xds.store import ResourceStore

LARGE = LARGEST_FIRST_REQUEST + 1000


@pytest.fixture
async def seen() -> Remembering:
    return Remembering()


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def denied() -> list[str]:
    """Why streams were refused."""
    return []


@pytest.fixture
async def server(seen: Remembering, limits: Limits, denied: list[str]) -> AsyncIterator[DiscoveryServer]:
    store = ResourceStore()
    store.apply([entry("CDS", "a", "1"), entry(f"{PRIVATE}credentials", "token", "digest")])
    server = DiscoveryServer(
        store,
        lambda gateway, token: (gateway, token) == (GATEWAY, TOKEN),
        seen,
        is_known=lambda token: token == TOKEN,
        limits=limits,
        denied=denied.append,
    )
    yield server
    await server.stop(0)


@pytest.fixture
async def port(server: DiscoveryServer) -> int:
    return await server.start("127.0.0.1", 0)


@pytest.fixture
async def channel(port: int) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


async def ended(proxy: DeltaProxy | StateProxy) -> tuple[grpc.StatusCode, str]:
    """How the server ended the stream. Raises TimeoutError when it does not."""
    async with asyncio.timeout(HANG_SECONDS):
        with contextlib.suppress(grpc.aio.AioRpcError):
            while isinstance(await proxy.call.read(), bytes):
                pass
        return await proxy.call.code(), await proxy.call.details()


@pytest.mark.parametrize("proxy", [DeltaProxy, StateProxy])
async def test_a_stream_with_a_token_of_no_gateway_ends_before_its_first_request(
    proxy: type[DeltaProxy | StateProxy], channel: grpc.aio.Channel, denied: list[str]
) -> None:
    code, _ = await ended(proxy(channel, "node-1", token="guessed"))
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert denied == ["xDS: a node at 127.0.0.1 is refused: its token is that of no gateway"]


async def test_a_stream_for_a_gateway_that_does_not_exist_is_rejected_with_the_reason(
    channel: grpc.aio.Channel, denied: list[str]
) -> None:
    proxy = DeltaProxy(channel, "node-1", "organizations/default/gateways/nowhere\n")
    await proxy.ask("CDS", [])

    code, _ = await ended(proxy)

    assert code is grpc.StatusCode.UNAUTHENTICATED
    (notifies,) = denied
    assert "127.0.0.1" in notifies
    assert "organizations/default/gateways/nowhere" in notifies
    assert TOKEN not in notifies
    assert notifies.isprintable()


async def test_a_stream_without_a_token_ends_before_its_first_request(
    channel: grpc.aio.Channel, denied: list[str]
) -> None:
    proxy = DeltaProxy(channel, "node-1")
    proxy.call.cancel()
    proxy.call = channel.stream_stream(f"/{SERVICE}/{DeltaProxy.method}", None, None)(None)
    code, _ = await ended(proxy)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert denied == ["xDS: a node at 127.0.0.1 is refused: it sends no token"]


async def test_the_first_request_of_a_stream_is_bounded(channel: grpc.aio.Channel, seen: Remembering) -> None:
    proxy = DeltaProxy(channel, "node-1")
    await proxy.ask("CDS", ["a" * LARGE])
    code, details = await ended(proxy)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(LARGEST_FIRST_REQUEST) in details
    assert seen.notified == []


async def test_a_later_request_may_be_larger_than_the_first(channel: grpc.aio.Channel) -> None:
    proxy = DeltaProxy(channel, "node-1")
    await proxy.ask("CDS")
    first = await proxy.next()
    await proxy.ask("CDS", ["a"], has={"b": "v" * LARGE}, nonce=first.nonce)
    assert [r.name for r in (await proxy.next()).resources] == ["a"]


async def test_a_later_request_is_bounded(channel: grpc.aio.Channel) -> None:
    proxy = DeltaProxy(channel, "node-1")
    await proxy.ask("CDS")
    first = await proxy.next()
    await proxy.ask("CDS", ["b" * LARGEST_REQUEST], nonce=first.nonce)
    code, _ = await ended(proxy)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


class TestFewPlaces:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(awaited=1, first_request_seconds=1.0)

    async def test_a_stream_that_sends_no_request_ends_and_frees_capacity_for_the_next(
        self, channel: grpc.aio.Channel
    ) -> None:
        silent = DeltaProxy(channel, "node-1")
        code, details = await ended(silent)
        assert (code, details) == (grpc.StatusCode.DEADLINE_EXCEEDED, "no request received")
        proxy = DeltaProxy(channel, "node-2")
        await proxy.ask("CDS")
        assert [r.name for r in (await proxy.next()).resources] == ["a"]


class TestFewConnections:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(connections=1)

    async def test_a_connection_above_the_limit_is_closed_at_once(self, port: int) -> None:
        first, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(HANG_SECONDS):
            assert await first.read(1), "this one is served: it is sent the server's settings"
            second, other = await asyncio.open_connection("127.0.0.1", port)
            assert await second.read(1) == b""
        writer.close()
        other.close()


class TestShortTimes:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(handshake_ms=300, idle_ms=1_000)

    async def test_a_connection_that_says_nothing_is_closed(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(HANG_SECONDS):
            await reader.read(-1)
        writer.close()

    async def test_a_connection_without_a_stream_is_closed(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        no_settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + no_settings)
        async with asyncio.timeout(HANG_SECONDS):
            await reader.read(-1)
        writer.close()


@pytest.mark.parametrize(
    "node",
    ["*", "a*", "a\x00b", "a\nb", "\x1b[2J", "a b", "näher", "\u202enode", "n" * (LONGEST_NODE_ID + 1), ""],
    ids=["*", "with *", "NUL", "newline", "escape", "space", "umlaut", "bidi", "too long", "empty"],
)
async def test_a_node_id_that_cannot_be_shown_is_an_invalid_argument(
    node: str, channel: grpc.aio.Channel, seen: Remembering
) -> None:
    proxy = DeltaProxy(channel, node)
    await proxy.ask("CDS")
    code, details = await ended(proxy)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("node.id ")
    assert seen.notified == []


@pytest.mark.parametrize("node", ["node-1", "sidecar~10.1.2.3~pod.ns~ns.svc.cluster.local", "a/b:c_d@e+f=g"])
async def test_node_ids_in_use_are_taken(node: str, channel: grpc.aio.Channel) -> None:
    proxy = DeltaProxy(channel, node)
    await proxy.ask("CDS")
    assert [r.name for r in (await proxy.next()).resources] == ["a"]


async def test_the_versions_that_a_node_reports_are_bounded(
    channel: grpc.aio.Channel, seen: Remembering
) -> None:
    proxy = DeltaProxy(channel, "node-1")
    proxy.node.user_agent_name = "e" * 1000
    await proxy.ask("CDS")
    code, details = await ended(proxy)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("node.user_agent_name ")
    assert seen.notified == []


@pytest.mark.parametrize("proxy", [DeltaProxy, StateProxy])
async def test_a_stream_takes_few_types(
    proxy: type[DeltaProxy | StateProxy], channel: grpc.aio.Channel
) -> None:
    made = proxy(channel, "node-1")
    for number in range(MOST_TYPES + 1):
        await made.ask(f"type.example/{number}")
    code, details = await ended(made)
    assert (code, str(MOST_TYPES) in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)


@pytest.mark.parametrize("proxy", [DeltaProxy, StateProxy])
@pytest.mark.parametrize("first", [True, False], ids=["first request", "later request"])
async def test_credentials_are_never_served(
    first: bool, proxy: type[DeltaProxy | StateProxy], channel: grpc.aio.Channel
) -> None:
    made = proxy(channel, "node-1")
    if not first:
        await made.ask("CDS")
        await made.next()
    await made.ask(f"{PRIVATE}credentials", ["token"])
    code, details = await ended(made)
    assert (code, details) == (grpc.StatusCode.INVALID_ARGUMENT, f"{PRIVATE}credentials is not served")


async def test_no_stream_is_cancelled_when_very_many_come_at_once(port: int) -> None:
    own = (("grpc.use_local_subchannel_pool", 1),)
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}", own))
            for _ in range(3)
        ]
        proxies = [DeltaProxy(channels[number % 3], f"node-{number}") for number in range(1_500)]

        async def first(proxy: DeltaProxy) -> int:
            await proxy.ask("CDS")
            return len((await proxy.next()).resources)

        async with asyncio.timeout(HANG_SECONDS):
            assert await asyncio.gather(*map(first, proxies)) == [1] * len(proxies)
