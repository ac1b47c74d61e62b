"""The protocol, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator

import grpc.aio
import pytest

from tests.xds.protocol_rules import A2, NO_B, RULES, A, B, Step, Table, ack, ask, gets, nack, put, silent
from tests.xds.proxies import (
    GATEWAY,
    SHORT,
    TOKEN,
    DeltaProxy,
    Remembering,
    StateProxy,
    entry,
)
from xds.server.discovery import DiscoveryServer
from xds.store import ResourceStore


@pytest.fixture
async def store() -> ResourceStore:
    return ResourceStore()


@pytest.fixture
async def seen() -> Remembering:
    return Remembering()


@pytest.fixture
async def server(store: ResourceStore, seen: Remembering) -> AsyncIterator[DiscoveryServer]:
    server = DiscoveryServer(store, lambda gateway, token: gateway == GATEWAY and token == TOKEN, seen)
    yield server
    await server.stop(1)


@pytest.fixture
async def channel(server: DiscoveryServer) -> AsyncIterator[grpc.aio.Channel]:
    port = await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


@pytest.mark.parametrize("steps", [rule[1] for rule in RULES], ids=[rule[0] for rule in RULES])
async def test_delta(
    steps: list[Step], store: ResourceStore, seen: Remembering, channel: grpc.aio.Channel
) -> None:
    table = Table(store, seen, DeltaProxy(channel, "node-1"), {})
    for step in steps:
        await step(table)
    await table.proxy.close()


async def test_a_newcomer_that_rejects_a_version_as_all_others_did_gets_the_last_good_version(
    store: ResourceStore, seen: Remembering, channel: grpc.aio.Channel
) -> None:
    first, second = (Table(store, seen, DeltaProxy(channel, name), {}) for name in ("one", "two"))
    for step in (put(A, B), ask("CDS"), gets("CDS", "a=1 b=1"), ack("CDS"), silent):
        await step(first)
    for step in (put(A2), gets("CDS", "a=2"), nack("CDS", "bad value"), silent):
        await step(first)
    for step in (ask("CDS"), gets("CDS", "a=2 b=1"), nack("CDS", "bad value")):
        await step(second)
    for step in (gets("CDS", "b=1"), ack("CDS"), gets("CDS", "a=2"), nack("CDS", "bad value")):
        await step(second)
    for step in (gets("CDS", "a=1"), ack("CDS"), silent):
        await step(second)
    await silent(first)
    assert [(e, reason) for e, reason in store.quarantined(GATEWAY)] == [(A2, "bad value")]
    assert seen.names("refused", "one") == ["a"]
    assert seen.names("refused", "two") == ["a"]
    assert ("connected", "two", (GATEWAY,), "envoy") in seen.notified


async def test_a_version_that_one_proxy_rejects_is_sent_to_one_that_was_busy_meanwhile(
    store: ResourceStore, seen: Remembering, channel: grpc.aio.Channel
) -> None:
    rogue, busy = (Table(store, seen, DeltaProxy(channel, name), {}) for name in ("rogue", "busy"))
    for step in (put(A), ask("CDS"), gets("CDS", "a=1"), ack("CDS"), silent):
        await step(rogue)
    for step in (ask("CDS"), gets("CDS", "a=1")):
        await step(busy)
    for step in (put(A2), gets("CDS", "a=2"), nack("CDS"), silent):
        await step(rogue)
    assert store.quarantined(GATEWAY) == []
    for step in (ack("CDS"), gets("CDS", "a=2"), ack("CDS"), silent):
        await step(busy)
    assert seen.names("acknowledged", "busy") == ["a", "a"]
    await silent(rogue)


async def test_a_version_that_one_proxy_rejects_and_another_acknowledges_is_served_to_newcomers(
    store: ResourceStore, seen: Remembering, channel: grpc.aio.Channel
) -> None:
    first, second = (Table(store, seen, DeltaProxy(channel, name), {}) for name in ("one", "two"))
    for table in (first, second):
        for step in (put(A), ask("CDS"), gets("CDS", "a=1")):
            await step(table)
    for step in (nack("CDS"), silent):
        await step(first)
    for step in (ack("CDS"), silent):
        await step(second)
    assert store.quarantined(GATEWAY) == []
    await silent(first)
    third = Table(store, seen, DeltaProxy(channel, "three"), {})
    for step in (ask("CDS"), gets("CDS", "a=1")):
        await step(third)


async def state(proxy: StateProxy, type: str, bodies: str) -> tuple[str, str]:
    """The next response holds exactly these bodies; its nonce and version."""
    response = await proxy.next()
    assert response.type_url == SHORT[type]
    assert sorted(r.value.decode() for r in response.resources) == sorted(bodies.split())
    return response.nonce, response.version_info


async def test_state_of_the_world(store: ResourceStore, seen: Remembering, channel: grpc.aio.Channel) -> None:
    a, a2, b = entry("CDS", "a", "a1"), entry("CDS", "a", "a2"), entry("CDS", "b", "b1")
    proxy = StateProxy(channel, "node-1")
    await proxy.ask("CDS")
    nonce, version = await state(proxy, "CDS", "")
    store.apply([a, b])
    await proxy.ask("CDS", nonce=nonce, version=version)
    stale, version = nonce, version
    nonce, version = await state(proxy, "CDS", "a1 b1")
    await proxy.ask("CDS", nonce=stale, error="an answer to what is stale refuses nothing")
    await proxy.ask("CDS", nonce=nonce, version=version)
    store.apply([a2])
    nonce, _ = await state(proxy, "CDS", "a2 b1")
    await proxy.ask("CDS", nonce=nonce, version=version, error="no")
    store.apply([NO_B])
    # alone refused: left out for its last good version, which the proxy has; so only the removal shows
    nonce, version = await state(proxy, "CDS", "a1")
    await proxy.ask("CDS", nonce=nonce, version=version)
    store.apply([entry("RDS", "r", "r1"), entry("RDS", "s", "s1")])
    await proxy.ask("RDS", ["r"])
    nonce, version = await state(proxy, "RDS", "r1")
    await proxy.ask("RDS", ["r", "s"], nonce=nonce, version=version)
    nonce, version = await state(proxy, "RDS", "s1")
    await proxy.ask("RDS", ["s"], nonce=nonce, version=version)
    store.apply([entry("RDS", "r", "r2"), entry("RDS", "s", "s2")])
    await state(proxy, "RDS", "s2")
    assert seen.names("refused") == ["a"]
    assert seen.names("withdrawn") == ["b"]


@pytest.mark.parametrize(
    ("gateway", "token"), [(GATEWAY, "wrong"), ("organizations/acme/gateways/other", TOKEN), ("", TOKEN)]
)
async def test_a_wrong_token_and_an_unknown_gateway_are_unauthenticated(
    gateway: str, token: str, seen: Remembering, channel: grpc.aio.Channel
) -> None:
    proxy = DeltaProxy(channel, "node-1", gateway, token)
    await proxy.ask("CDS")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await proxy.receive()
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert seen.notified == []


async def test_a_stream_ends_with_the_first_change_after_its_token(store: ResourceStore) -> None:
    good = {TOKEN}
    server = DiscoveryServer(store, lambda gateway, token: token in good)
    port = await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        proxy = DeltaProxy(channel, "node-1")
        await proxy.ask("CDS", ["*"])
        nonce = (await proxy.next()).nonce
        await proxy.ask("CDS", nonce=nonce)
        good.clear()
        store.apply([entry("CDS", "a", "1")])
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            while True:
                await proxy.receive()
        assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED
    await server.stop(1)


async def test_bytes_that_are_no_request_are_an_invalid_argument(
    server: DiscoveryServer, channel: grpc.aio.Channel
) -> None:
    proxy = DeltaProxy(channel, "node-1")
    await proxy.ask("CDS")
    await proxy.receive()
    await proxy.call.write(b"\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        while True:
            await proxy.receive()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_stopping_ends_the_streams_in_order(
    server: DiscoveryServer, seen: Remembering, channel: grpc.aio.Channel
) -> None:
    proxy = DeltaProxy(channel, "node-1")
    await proxy.ask("CDS")
    await proxy.receive()
    assert server.streams == 1
    assert server.nodes(GATEWAY) == ["node-1"]
    await server.stop(5)
    assert not isinstance(await proxy.call.read(), bytes), "the stream has ended"
    assert await proxy.call.code() is grpc.StatusCode.OK
    assert server.streams == 0
    assert seen.notified[-1] == ("disconnected", "node-1", (GATEWAY,), "")


async def test_a_resource_rejected_for_a_cause_that_passed_is_offered_again_on_the_same_stream(
    server: DiscoveryServer, store: ResourceStore, seen: Remembering, channel: grpc.aio.Channel
) -> None:
    proxy = DeltaProxy(channel, "node-1")
    refusing = Table(store, seen, proxy, {})
    for step in (put(A), ask("CDS"), gets("CDS", "a=1"), nack("CDS", "address in use"), silent):
        await step(refusing)
    assert store.quarantined(GATEWAY) == [(A, "address in use")]
    server.offer_again(A)
    for step in (gets("CDS", "a=1"), nack("CDS", "address in use"), silent):
        await step(refusing)
    assert seen.names("refused") == ["a", "a"], "every try is reported"
    server.offer_again(A)
    for step in (gets("CDS", "a=1"), ack("CDS"), silent):
        await step(refusing)
    assert store.quarantined(GATEWAY) == []


async def test_a_resource_that_one_proxy_rejected_for_a_cause_that_passed_is_offered_again_to_it_alone(
    server: DiscoveryServer, store: ResourceStore, seen: Remembering, channel: grpc.aio.Channel
) -> None:
    good = Table(store, seen, DeltaProxy(channel, "good"), {})
    refusing = Table(store, seen, DeltaProxy(channel, "refusing"), {})
    for step in (put(A), ask("CDS"), gets("CDS", "a=1"), ack("CDS")):
        await step(good)
    for step in (ask("CDS"), gets("CDS", "a=1"), nack("CDS", "address in use"), silent):
        await step(refusing)
    server.offer_again(A)
    for step in (gets("CDS", "a=1"), ack("CDS"), silent):
        await step(refusing)
    await silent(good)


async def test_a_port_that_is_taken_is_an_error(server: DiscoveryServer) -> None:
    port = await server.start("127.0.0.1", 0)
    other = DiscoveryServer(ResourceStore(), lambda gateway, token: True)
    with pytest.raises(OSError, match=str(port)):
        await other.start("127.0.0.1", port)


async def test_proxies_that_connect_before_the_store_is_loaded_get_what_it_has_then() -> None:
    store, good = ResourceStore(), set[str]()
    server = DiscoveryServer(store, lambda gateway, token: token in good)
    port = await server.start("127.0.0.1", 0, loaded=False)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        proxy = DeltaProxy(channel, "node-1")
        await proxy.ask("CDS", ["*"])
        answer = asyncio.create_task(proxy.next())
        store.apply([entry("CDS", "a", "1")])
        assert (await asyncio.wait([answer], timeout=0.05))[0] == set()
        good.add(TOKEN)
        server.loaded.set()
        assert [resource.name for resource in (await answer).resources] == ["a"]
    await server.stop(0)
