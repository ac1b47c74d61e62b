"""The rules of the protocol as a table: what happens, and what the proxy gets.

`put` changes the store; `ask` is a request; `ack` and `nack` answer the last response of a type; `gets`
is the next response; `silent` says that none is due: a question whose answer comes last is asked next,
and its answer is the next response.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from envoy_data_plane.envoy.service.discovery.v3 import DeltaDiscoveryResponse

from gateways.config_resource import ConfigResource
from tests.xds.proxies import (
    KEEPALIVE_TYPE,
    SHORT,
    DeltaProxy,
    Remembering,
    entry,
)
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
