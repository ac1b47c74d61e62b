"""Clients that have nothing get everything in chunks, which are encoded once for all of them."""

import asyncio

import pytest
from envoy_data_plane.envoy.service.discovery.v3 import DeltaDiscoveryResponse

from tests.xds.proxies import GATEWAY, Remembering, entry
from xds.server.observer import Connection
from xds.server.streams.delta import DeltaStream
from xds.server.streams.state_of_the_world import StateStream
from xds.server.wire import DeltaRequest, StateRequest
from xds.store import ResourceStore
from xds.store.backlog import FEW, SMALL, Permit
from xds.types import CLUSTER

COUNT = 50
NAMES = {f"c/{number:02}" for number in range(COUNT)}
BODY = "x" * (SMALL.bytes // 10)


@pytest.fixture
def store() -> ResourceStore:
    store = ResourceStore()
    store.apply([entry("CDS", name, BODY) for name in sorted(NAMES)])
    return store


@pytest.fixture
async def seen() -> Remembering:
    return Remembering()


@pytest.fixture(autouse=True)
def busy(store: ResourceStore) -> list[Permit]:
    """The permits for large chunks: other clients have them."""
    permits = [store.gateway(GATEWAY).large_chunks.permit() for _ in range(FEW)]
    return [permit for permit in permits if permit]


class Client:
    def __init__(self, store: ResourceStore, seen: Remembering, node: str) -> None:
        self.stream = DeltaStream(store.gateway(GATEWAY), Connection(GATEWAY, node), seen)
        self.stream.receive(DeltaRequest(type=CLUSTER))
        self.frames: list[bytes] = []
        self.names: list[str] = []

    def step(self) -> bool:
        """Takes the next response, if there is any, and accepts it."""
        frames = self.stream.responses()
        for frame in frames:
            response = DeltaDiscoveryResponse.parse(frame)
            self.frames.append(frame)
            self.names += [resource.name for resource in response.resources]
            self.stream.receive(DeltaRequest(type=CLUSTER, nonce=response.nonce))
        return bool(frames)

    def finish(self) -> None:
        while self.step():
            pass


async def test_a_client_that_has_nothing_gets_each_resource_once_in_bounded_responses(
    store: ResourceStore, seen: Remembering
) -> None:
    client = Client(store, seen, "one")
    client.finish()
    assert sorted(client.names) == sorted(NAMES)
    assert max(map(len, client.frames)) <= SMALL.bytes + 10_000
    assert sorted(seen.names("acknowledged", "one")) == sorted(NAMES)
    assert [progress.unacknowledged for _, progress in seen.progress] == [()]


async def test_a_few_clients_get_everything_in_one_response(
    store: ResourceStore, seen: Remembering, busy: list[Permit]
) -> None:
    busy.pop()
    one, two = (Client(store, seen, node) for node in ("one", "two"))
    one.finish()
    two.finish()
    assert len(one.frames) == 1
    assert len(two.frames) > 1
    assert sorted(one.names) == sorted(two.names) == sorted(NAMES)
    three = Client(store, seen, "three")
    three.finish()
    assert len(three.frames) == 1, "the first has everything: another client may get large chunks"


async def test_a_stream_that_ends_leaves_its_large_chunks_to_others(
    store: ResourceStore, seen: Remembering, busy: list[Permit]
) -> None:
    busy.pop()
    ended = Client(store, seen, "ended")
    del ended
    two = Client(store, seen, "two")
    two.finish()
    assert len(two.frames) == 1


async def test_clients_share_the_encoded_responses(store: ResourceStore, seen: Remembering) -> None:
    one, two = (Client(store, seen, node) for node in ("one", "two"))
    one.finish()
    two.finish()
    assert len(one.frames) > 1
    assert all(mine is yours for mine, yours in zip(one.frames, two.frames, strict=True))


async def test_responses_are_kept_while_several_streams_may_send_them(
    store: ResourceStore, seen: Remembering
) -> None:
    """A first sync has all of the configuration once more."""

    def sent(node: str) -> bytes:
        return Client(store, seen, node).stream.responses()[0]

    gateway = store.gateway(GATEWAY)
    only, other = (Client(store, seen, node) for node in ("only", "other"))
    changed, changed_too = asyncio.Event(), asyncio.Event()
    gateway.watch(changed.set, only.stream)
    assert sent("one") is not sent("two")
    gateway.watch(changed_too.set, other.stream)
    kept = sent("one")
    assert sent("two") is kept
    gateway.unwatch(changed_too.set)
    assert sent("three") is not kept


async def test_clients_of_the_other_variant_share_their_whole_response(
    store: ResourceStore, seen: Remembering
) -> None:
    frames: list[bytes] = []
    for node in ("one", "two"):
        stream = StateStream(store.gateway(GATEWAY), Connection(GATEWAY, node), seen)
        stream.receive(StateRequest(type=CLUSTER))
        frames += stream.responses()
    assert frames[0] is frames[1]


async def test_a_change_meanwhile_does_not_wait_for_all_chunks(
    store: ResourceStore, seen: Remembering
) -> None:
    client = Client(store, seen, "one")
    client.step()
    first = set(client.names)
    last = max(NAMES - first)
    store.apply([entry("CDS", last, "changed"), entry("CDS", max(NAMES - first - {last}), "")])
    client.step()
    client.step()
    assert last in client.names
    client.finish()
    assert client.names.count(last) == 1
    assert set(client.names) == NAMES - {max(NAMES - first - {last})}


async def test_a_resource_that_is_not_acknowledged_yet_is_lacking(
    store: ResourceStore, seen: Remembering
) -> None:
    store.apply([entry("CDS", "c/49", "with a deployment", deployment="deployment-1")])
    client = Client(store, seen, "one")
    client.step()
    assert [lack.deployment for lack in client.stream.progress().unacknowledged] == ["deployment-1"]
    client.finish()
    assert client.stream.progress().unacknowledged == ()
