"""What every xDS server has to do, in the four variants of the protocol and for its four basic types.

Source: the xDS protocol (envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol); the choice of scenarios is
that of the public conformance suite ii/xds-test-harness. Every scenario ends with its streams: the server
must not have said more than was necessary.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc.aio
import pytest

from gateways.config_resource import ConfigResource
from tests.conformance.clients import DeltaClient, StateClient
from tests.support.hang_guard import HANG_SECONDS
from tests.xds.proxies import GATEWAY, TOKEN, entry
from xds.server.discovery import DiscoveryServer
from xds.server.streams.state_of_the_world import StateStream
from xds.server.wire import StateRequest
from xds.store import ResourceStore

TYPES = ("CDS", "LDS", "RDS", "EDS")
WHOLE = ("CDS", "LDS")
"""Types of which a state-of-the-world response holds all that is wanted, changed or not."""
PAIRS = (("CDS", "LDS"), ("LDS", "CDS"), ("RDS", "EDS"), ("EDS", "RDS"))

both_layouts = pytest.mark.parametrize("aggregated", [True, False], ids=["aggregated", "non-aggregated"])
only_aggregated = pytest.mark.parametrize("aggregated", [True], ids=["aggregated"])
all_types = pytest.mark.parametrize("type", TYPES)
whole_types = pytest.mark.parametrize("type", WHOLE)
pairs = pytest.mark.parametrize(("type", "other"), PAIRS, ids=["+".join(pair) for pair in PAIRS])


def at(version: str, type: str, names: str) -> list[ConfigResource]:
    return [entry(type, name, f"{name}={version}") for name in names]


def gone(type: str, name: str) -> list[ConfigResource]:
    return [entry(type, name, "")]


@pytest.fixture
async def store() -> ResourceStore:
    return ResourceStore()


@pytest.fixture
async def channel(store: ResourceStore) -> AsyncIterator[grpc.aio.Channel]:
    server = DiscoveryServer(store, lambda gateway, token: gateway == GATEWAY and token == TOKEN)
    port = await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(1)


@pytest.fixture
async def taken_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Awaitable[None]]:
    """Waits until the server has taken in so many requests: some are answered by nothing."""
    more = asyncio.Event()
    received: list[StateRequest] = []

    class Counted(StateStream):
        def receive(self, request: StateRequest) -> None:
            super().receive(request)
            received.append(request)
            more.set()

    async def wait(requests: int) -> None:
        async with asyncio.timeout(HANG_SECONDS):
            while len(received) < requests:
                more.clear()
                await more.wait()

    monkeypatch.setattr("xds.server.discovery.StateStream", Counted)
    return wait


@pytest.fixture
async def state(channel: grpc.aio.Channel, aggregated: bool) -> StateClient:
    return StateClient(channel, aggregated)


@pytest.fixture
async def delta(channel: grpc.aio.Channel, aggregated: bool) -> DeltaClient:
    return DeltaClient(channel, aggregated)


# -- state of the world


@both_layouts
@whole_types
async def test_a_wildcard_gets_everything_in_one_response(
    type: str, store: ResourceStore, state: StateClient
) -> None:
    store.apply(at("1", type, "ABC"))
    await state.want(type, [])
    assert await state.gets(type) == {"A": "1", "B": "1", "C": "1"}
    assert await state.rest() == 0


@both_layouts
@whole_types
async def test_a_wildcard_gets_the_whole_state_again_when_one_resource_changes(
    type: str, store: ResourceStore, state: StateClient
) -> None:
    store.apply(at("1", type, "ABC"))
    await state.want(type, [])
    await state.gets(type)
    store.apply(at("2", type, "A"))
    assert await state.gets(type) == {"A": "2", "B": "1", "C": "1"}
    assert await state.rest() == 0


@both_layouts
@whole_types
async def test_a_wildcard_gets_the_whole_state_again_when_a_resource_is_added(
    type: str, store: ResourceStore, state: StateClient
) -> None:
    store.apply(at("1", type, "ABC"))
    await state.want(type, [])
    await state.gets(type)
    store.apply(at("2", type, "D"))
    assert await state.gets(type) == {"A": "1", "B": "1", "C": "1", "D": "2"}
    assert await state.rest() == 0


@both_layouts
@all_types
async def test_a_client_that_names_resources_gets_only_these(
    type: str, store: ResourceStore, state: StateClient
) -> None:
    store.apply(at("1", type, "ABCD"))
    await state.want(type, ["B", "D"])
    assert await state.gets(type) == {"B": "1", "D": "1"}
    assert await state.rest() == 0


@both_layouts
@all_types
async def test_a_named_resource_that_changes_is_sent(
    type: str, store: ResourceStore, state: StateClient
) -> None:
    store.apply(at("1", type, "ABCD"))
    await state.want(type, ["B", "D"])
    await state.gets(type)
    store.apply(at("2", type, "B"))
    assert await state.gets(type) == ({"B": "2", "D": "1"} if type in WHOLE else {"B": "2"})
    assert await state.rest() == 0


@both_layouts
@all_types
async def test_a_named_resource_that_is_not_there_is_sent_once_it_is_created(
    type: str, store: ResourceStore, state: StateClient
) -> None:
    store.apply(at("1", type, "ABC"))
    await state.want(type, ["A", "Z"])
    assert await state.gets(type) == {"A": "1"}
    store.apply(at("2", type, "Z"))
    assert await state.gets(type) == ({"A": "1", "Z": "2"} if type in WHOLE else {"Z": "2"})
    assert await state.rest() == 0


@both_layouts
@all_types
async def test_a_name_that_is_left_out_is_not_sent_any_more(
    type: str, store: ResourceStore, taken_in: Callable[[int], Awaitable[None]], state: StateClient
) -> None:
    store.apply(at("1", type, "ABCD"))
    await state.want(type, ["A", "B", "C"])
    await state.gets(type)
    await state.want(type, ["A"])
    await taken_in(3)
    store.apply(at("2", type, "AB"))
    assert await state.gets(type) == {"A": "2"}
    assert await state.rest() == 0


@both_layouts
@all_types
async def test_a_client_that_leaves_all_names_out_gets_none(
    type: str, store: ResourceStore, taken_in: Callable[[int], Awaitable[None]], state: StateClient
) -> None:
    store.apply(at("1", type, "ABCD"))
    await state.want(type, ["A", "B"])
    await state.gets(type)
    await state.want(type, [])
    await taken_in(3)
    store.apply(at("2", type, "B"))
    assert await state.rest() == 0


@only_aggregated
@pairs
async def test_two_types_are_distinguished_on_one_stream(
    type: str, other: str, store: ResourceStore, state: StateClient
) -> None:
    store.apply(at("1", type, "ABC") + at("1", other, "ABC"))
    await state.want(type, ["B"])
    assert await state.gets(type) == {"B": "1"}
    await state.want(other, ["B"])
    assert await state.gets(other) == {"B": "1"}
    store.apply(at("2", type, "B"))
    assert await state.gets(type) == {"B": "2"}
    store.apply(at("2", other, "B"))
    assert await state.gets(other) == {"B": "2"}
    assert await state.rest() == 0


# -- incremental


@both_layouts
@all_types
async def test_resources_can_be_subscribed_one_after_the_other(
    type: str, store: ResourceStore, delta: DeltaClient
) -> None:
    store.apply(at("1", type, "ABC"))
    await delta.want(type, ["A"])
    assert await delta.gets(type) == ({"A": "1"}, set())
    await delta.want(type, ["B"])
    assert await delta.gets(type) == ({"B": "1"}, set())
    assert await delta.rest() == 0


@both_layouts
@all_types
async def test_only_changed_resources_are_sent(type: str, store: ResourceStore, delta: DeltaClient) -> None:
    store.apply(at("1", type, "ABC"))
    await delta.want(type, ["A", "B", "C"])
    assert await delta.gets(type) == ({"A": "1", "B": "1", "C": "1"}, set())
    store.apply(at("2", type, "A"))
    assert await delta.gets(type) == ({"A": "2"}, set())
    assert await delta.rest() == 0


@both_layouts
@all_types
async def test_a_subscribed_name_is_reported_absent_and_sent_once_it_is_created(
    type: str, store: ResourceStore, delta: DeltaClient
) -> None:
    store.apply(at("1", type, "A"))
    await delta.want(type, ["A", "B"])
    assert await delta.gets(type) == ({"A": "1"}, {"B"})
    store.apply(at("1", type, "B"))
    assert await delta.gets(type) == ({"B": "1"}, set())
    assert await delta.rest() == 0


@both_layouts
@all_types
async def test_a_removal_is_sent_and_so_is_a_recreated_resource(
    type: str, store: ResourceStore, delta: DeltaClient
) -> None:
    store.apply(at("1", type, "AB"))
    await delta.want(type, ["A", "B"])
    await delta.gets(type)
    store.apply(gone(type, "B"))
    assert await delta.gets(type) == ({}, {"B"})
    store.apply(at("2", type, "B"))
    assert await delta.gets(type) == ({"B": "2"}, set())
    assert await delta.rest() == 0


@both_layouts
@all_types
async def test_an_unsubscribed_resource_is_not_sent_any_more(
    type: str, store: ResourceStore, delta: DeltaClient
) -> None:
    store.apply(at("1", type, "ABC"))
    await delta.want(type, ["A", "B", "C"])
    await delta.gets(type)
    await delta.leave(type, ["B"])
    await delta.want(type, ["C"])  # is answered, so that B has been left before it changes
    assert await delta.gets(type) == ({"C": "1"}, set())
    store.apply(at("2", type, "B"))
    await delta.leave(type, ["A"])
    await delta.want(type, ["C"])
    assert await delta.gets(type) == ({"C": "1"}, set())
    store.apply(at("2", type, "A"))
    assert await delta.rest() == 0


@both_layouts
@whole_types
async def test_an_incremental_wildcard_goes_on_beside_names_until_it_is_unsubscribed(
    type: str, store: ResourceStore, delta: DeltaClient
) -> None:
    store.apply(at("1", type, "AB"))
    await delta.want(type, [])
    assert await delta.gets(type) == ({"A": "1", "B": "1"}, set())
    await delta.want(type, ["B"])
    assert await delta.gets(type) == ({"B": "1"}, set())
    store.apply(at("2", type, "A"))
    assert await delta.gets(type) == ({"A": "2"}, set())
    await delta.leave(type, ["*"])
    await delta.want(type, ["B"])
    assert await delta.gets(type) == ({"B": "1"}, set())
    store.apply(at("3", type, "A"))
    assert await delta.rest() == 0


@only_aggregated
@pairs
async def test_two_types_are_distinguished_on_one_incremental_stream(
    type: str, other: str, store: ResourceStore, delta: DeltaClient
) -> None:
    store.apply(at("1", type, "ABC") + at("1", other, "ABC"))
    await delta.want(type, ["B"])
    assert await delta.gets(type) == ({"B": "1"}, set())
    await delta.want(other, ["B"])
    assert await delta.gets(other) == ({"B": "1"}, set())
    store.apply(at("2", type, "B"))
    assert await delta.gets(type) == ({"B": "2"}, set())
    store.apply(at("2", other, "B"))
    assert await delta.gets(other) == ({"B": "2"}, set())
    assert await delta.rest() == 0
