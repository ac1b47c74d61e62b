"""The rules of the protocol, over real gRPC, as a table: what happens, and what the proxy gets.

`put` changes the store; `ask` is a request; `ack` and `nack` answer the last response of a type; `gets`
is the next response; `silent` says that none is due: a question whose answer comes last is asked next,
and its answer is the next response.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc.aio
import pytest
from envoy_data_plane.envoy.service.discovery.v3 import DeltaDiscoveryResponse

from gateways.config_resource import ConfigResource
from tests.xds.proxies import (
    GATEWAY,
    KEEPALIVE_TYPE,
    SHORT,
    TOKEN,
    DeltaProxy,
    Remembering,
    StateProxy,
    entry,
)
from xds.server.discovery import DiscoveryServer
from xds.store import ResourceStore


@dataclass
class Table:
    """One proxy of one served gateway."""

    store: ResourceStore
    seen: Remembering
    proxy: DeltaProxy
    last: dict[str, DeltaDiscoveryResponse]
    asked: int = 0


Step = Callable[[Table], Awaitable[None]]


def put(*entries: ConfigResource) -> Step:
    async def step(table: Table) -> None:
        await silent(table)  # what was asked before has been taken in
        table.store.apply(entries)

    return step


def ask(
    type: str,
    subscribe: Sequence[str] = (),
    unsubscribe: Sequence[str] = (),
    has: dict[str, str] | None = None,
    nonce: str = "",
) -> Step:
    async def step(table: Table) -> None:
        await table.proxy.ask(type, subscribe, unsubscribe, has, nonce)

    return step


def ack(type: str, subscribe: Sequence[str] = (), unsubscribe: Sequence[str] = ()) -> Step:
    async def step(table: Table) -> None:
        await table.proxy.ask(type, subscribe, unsubscribe, nonce=table.last[type].nonce)

    return step


def nack(type: str, reason: str = "no", nonce: str | None = None) -> Step:
    async def step(table: Table) -> None:
        answered = table.last[type].nonce if nonce is None else nonce
        await table.proxy.ask(type, nonce=answered, error=reason)

    return step


def gets(type: str, resources: str = "", removed: str = "") -> Step:
    """`resources` are `name=body` and `removed` are names, with spaces between, in any order."""

    async def step(table: Table) -> None:
        response = await table.proxy.next()
        contents = {r.name: (r.resource.value if r.resource else b"").decode() for r in response.resources}
        assert response.type_url == SHORT[type]
        assert contents == dict(word.split("=", 1) for word in resources.split())
        assert sorted(response.removed_resources) == sorted(removed.split())
        table.last[type] = response

    return step


async def silent(table: Table) -> None:
    """Nothing is due."""
    table.asked += 1
    name = f"nothing-{table.asked}"
    await table.proxy.ask(KEEPALIVE_TYPE, subscribe=[name])
    response = await table.proxy.next()
    assert response.type_url == KEEPALIVE_TYPE, f"got {response}"
    assert response.removed_resources == [name]
    await table.proxy.ask(KEEPALIVE_TYPE, nonce=response.nonce)


def note(what: str, *names: str) -> Step:
    async def step(table: Table) -> None:
        assert table.seen.names(what)[-len(names) :] == list(names), table.seen.notified

    return step


def never(what: str, name: str) -> Step:
    async def step(table: Table) -> None:
        assert name not in table.seen.names(what)

    return step


A, A2, B = entry("CDS", "a", "1"), entry("CDS", "a", "2"), entry("CDS", "b", "1")
NO_A, NO_B = entry("CDS", "a", ""), entry("CDS", "b", "")
ROUTE = entry("RDS", "r", "1", requires=[("CDS", "a")])
ROUTE_B = entry("RDS", "r", "2", requires=[("CDS", "b")])
ENDPOINTS_A = entry("EDS", "a", "e")
CLUSTERS = [entry("CDS", name, "1") for name in "abcd"]

RULES: list[tuple[str, list[Step]]] = [
    ("the first wildcard request is answered even when there is nothing", [ask("CDS"), gets("CDS"), silent]),
    ("a wildcard gets everything, and then what changes", [
        put(A, B), ask("CDS"), gets("CDS", "a=1 b=1"), ack("CDS"), put(A2), gets("CDS", "a=2"),
    ]),
    ("the same version is not sent again", [
        put(A), ask("CDS"), gets("CDS", "a=1"), ack("CDS"), put(A), silent,
    ]),
    ("an acknowledgement is not answered", [put(A), ask("CDS"), gets("CDS", "a=1"), ack("CDS"), silent]),
    ("changes while a response is under way are sent together when it is answered", [
        put(A), ask("CDS"), gets("CDS", "a=1"), put(A2), put(B), silent, ack("CDS"), gets("CDS", "a=2 b=1"),
    ]),
    ("a name that is unknown is answered as removed", [
        ask("RDS", ["x"]), gets("RDS", removed="x"), ack("RDS"), silent,
    ]),
    ("a name that was unknown is sent when it comes", [
        ask("CDS", ["b"]), gets("CDS", removed="b"), ack("CDS"), put(A, B), gets("CDS", "b=1"),
    ]),
    ("subscribing a name again is answered though nothing changed", [
        put(A), ask("CDS", ["a"]), gets("CDS", "a=1"), ack("CDS"), ask("CDS", ["a"]), gets("CDS", "a=1"),
    ]),
    ("subscribing again while the response is under way is answered after it", [
        put(A), ask("CDS", ["a"]), gets("CDS", "a=1"), ask("CDS", ["a"]), silent, ack("CDS"),
        gets("CDS", "a=1"),
    ]),
    ("what is not subscribed is not sent", [
        put(A, B), ask("CDS", ["a"]), gets("CDS", "a=1"), ack("CDS"), put(NO_B), silent,
    ]),
    ("after unsubscribing nothing comes", [
        put(A), ask("CDS", ["a"]), gets("CDS", "a=1"), ack("CDS", unsubscribe=["a"]), put(A2), silent,
    ]),
    ("a wildcard that was not named stays when a name is subscribed", [
        put(A, B), ask("CDS"), gets("CDS", "a=1 b=1"), ack("CDS", ["b"]), gets("CDS", "b=1"), ack("CDS"),
        put(A2), gets("CDS", "a=2"), ack("CDS"), silent,
    ]),
    ("a wildcard that was not named ends only when it is unsubscribed by name", [
        put(A, B), ask("CDS"), gets("CDS", "a=1 b=1"), ack("CDS", ["b"]), gets("CDS", "b=1"),
        ack("CDS", unsubscribe=["b"]), gets("CDS", "b=1"), ack("CDS"), put(A2), gets("CDS", "a=2"),
        ack("CDS", unsubscribe=["*"]), put(A), silent,
    ]),
    ("a wildcard that was named stays beside names", [
        put(A), ask("CDS", ["*"]), gets("CDS", "a=1"), ack("CDS", ["b"]), gets("CDS", removed="b"),
        ack("CDS"), put(A2), gets("CDS", "a=2"),
    ]),
    ("the wildcard can be unsubscribed", [
        put(A, B), ask("CDS", ["*", "b"]), gets("CDS", "a=1 b=1"), ack("CDS", unsubscribe=["*"]), put(A2),
        silent,
    ]),
    ("unsubscribing a name that the wildcard covers is answered with what it is", [
        put(A), ask("CDS", ["*", "a"]), gets("CDS", "a=1"), ack("CDS", unsubscribe=["a"]), gets("CDS", "a=1"),
    ]),
    ("naming the wildcard later brings everything", [
        put(A, B), ask("CDS", ["a"]), gets("CDS", "a=1"), ack("CDS", ["*"]), gets("CDS", "a=1 b=1"),
    ]),
    ("a stale nonce is no acknowledgement, but its subscriptions count", [
        put(A, B), ask("CDS", ["a"]), gets("CDS", "a=1"), ask("CDS", ["b"], nonce="stale"), silent,
        ack("CDS"),
        gets("CDS", "b=1"),
    ]),
    ("only error_detail refuses", [
        put(A), ask("CDS"), gets("CDS", "a=1"), ack("CDS"), silent, never("refused", "a"),
        note("acknowledged", "a"),
    ]),
    ("an error under a stale nonce refuses nothing", [
        put(A), ask("CDS"), gets("CDS", "a=1"), nack("CDS", nonce="stale"), silent, never("refused", "a"),
    ]),
    ("after a reconnect only what differs is sent, and what vanished is removed", [
        put(A2, B), ask("CDS", has={"a": A.version, "b": B.version, "gone": "x"}), gets("CDS", "a=2"),
        ack("CDS"),
        gets("CDS", removed="gone"), note("acknowledged", "b", "a"),
    ]),
    ("after a reconnect with all there is nothing is sent", [
        put(A), ask("CDS", has={"a": A.version}), silent, note("acknowledged", "a"), never("sent", "a"),
    ]),
    ("names are reconnected likewise", [
        put(A, B), ask("CDS", ["a", "b"], has={"a": A.version}), gets("CDS", "b=1"),
    ]),
    ("what refers waits until what it needs is accepted", [
        put(ROUTE, A), ask("CDS"), ask("RDS", ["r"]), gets("CDS", "a=1"), silent, ack("CDS"),
        gets("RDS", "r=1"),
    ]),
    ("a removal comes after what referred to it has moved on", [
        put(ROUTE, A), ask("CDS"), gets("CDS", "a=1"), ack("CDS"), ask("RDS", ["r"]), gets("RDS", "r=1"),
        ack("RDS"),
        put(NO_A, ROUTE_B, B), gets("CDS", "b=1"), ack("CDS"), gets("RDS", "r=2"), silent, ack("RDS"),
        gets("CDS", removed="a"), never("withdrawn", "a"), ack("CDS"), silent, note("withdrawn", "a"),
    ]),
    ("types go in order", [
        ask("RDS"), gets("RDS"), ack("RDS"), ask("SRDS"), gets("SRDS"), ack("SRDS"), ask("LDS"), gets("LDS"),
        ack("LDS"), ask("EDS", ["a"]), gets("EDS", removed="a"), ack("EDS"), ask("CDS"), gets("CDS"),
        ack("CDS"),
        put(*(entry(type, "a", "1") for type in ("RDS", "SRDS", "LDS", "EDS", "CDS"))),
        gets("CDS", "a=1"), gets("EDS", "a=1"), gets("LDS", "a=1"), gets("SRDS", "a=1"), gets("RDS", "a=1"),
    ]),
    ("a cluster that changes gets its endpoints again", [
        put(A, ENDPOINTS_A), ask("CDS"), gets("CDS", "a=1"), ack("CDS"), ask("EDS", ["a"]),
        gets("EDS", "a=e"),
        ack("EDS"), put(A2), gets("CDS", "a=2"), gets("EDS", "a=e"),
    ]),
    ("a refusal is halved until the bad one is found; the others go live", [
        put(*CLUSTERS), ask("CDS"), gets("CDS", "a=1 b=1 c=1 d=1"), nack("CDS"), gets("CDS", "a=1 b=1"),
        ack("CDS"),
        gets("CDS", "c=1 d=1"), nack("CDS"), gets("CDS", "c=1"), nack("CDS"), gets("CDS", "d=1"), ack("CDS"),
        silent,
        note("refused", "c"),
    ]),
    ("what the reason names is tried apart", [
        put(*CLUSTERS), ask("CDS"), gets("CDS", "a=1 b=1 c=1 d=1"), nack("CDS", "bad: 'c'"),
        gets("CDS", "a=1 b=1 d=1"), ack("CDS"), gets("CDS", "c=1"), nack("CDS"), silent, note("refused", "c"),
    ]),
    ("a later version of what was refused is tried", [
        put(A), ask("CDS"), gets("CDS", "a=1"), nack("CDS"), put(A), silent, put(A2), gets("CDS", "a=2"),
        ack("CDS"),
        silent, note("acknowledged", "a"),
    ]),
    ("removing what was refused is sent when the proxy may have an older one", [
        put(A), ask("CDS"), gets("CDS", "a=1"), ack("CDS"), put(A2), gets("CDS", "a=2"), nack("CDS"), silent,
        put(NO_A), gets("CDS", removed="a"),
    ]),
    ("what needs a refused one is refused with it, and answered as absent", [
        put(A, ROUTE), ask("CDS"), ask("RDS", ["r"]), gets("CDS", "a=1"), nack("CDS", "bad"),
        gets("RDS", removed="r"), note("refused", "a", "r"),
    ]),
    ("other deployments of a version that runs are acknowledged at once", [
        put(A), ask("CDS"), gets("CDS", "a=1"), ack("CDS"), silent,
        put(entry("CDS", "a", "1", deployment="second")), silent, note("acknowledged", "a", "a"),
    ]),
]  # fmt: skip


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
