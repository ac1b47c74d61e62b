"""A client that rejects everything is answered ever more rarely; what is new still comes at once."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import grpc.aio
import pytest
from envoy_data_plane.envoy.service.discovery.v3 import DeltaDiscoveryResponse, DiscoveryResponse

from tests.xds.proxies import GATEWAY, StateProxy, entry
from xds.server.discovery import DiscoveryServer
from xds.server.observer import Connection, NullObserver
from xds.server.streams.delta import DeltaStream
from xds.server.streams.state_of_the_world import StateStream
from xds.server.streams.stream import back_off
from xds.server.wire import DeltaRequest, ErrorDetail, StateRequest
from xds.store import ResourceStore
from xds.types import CLUSTER

A, B, C, D = (entry("CDS", name, "1") for name in "abcd")
NO = ErrorDetail(13, "no")
MANY = 200


class Rejecting(ABC):
    """A client that answers each response with a rejection, and asks for everything again."""

    def __init__(self, store: ResourceStore) -> None:
        self.stream = self.open(store)
        self.responses = 0
        self.bodies: list[str] = []

    @abstractmethod
    def open(self, store: ResourceStore) -> DeltaStream | StateStream: ...

    @abstractmethod
    def reject(self, frame: bytes) -> list[str]: ...

    def go_on(self) -> int:
        """Until nothing more comes, at most MANY responses; how many came."""
        before = self.responses
        while self.responses - before < MANY:
            frames = self.stream.responses()
            if not frames:
                break
            for frame in frames:
                self.responses += 1
                self.bodies += self.reject(frame)
        return self.responses - before

    def waits(self) -> list[float]:
        """The seconds it is to wait; it is as if they had passed."""
        held = self.stream.held_back()
        for type, _ in held:
            self.stream.release(type)
        return [seconds for _, seconds in held]


class State(Rejecting):
    def open(self, store: ResourceStore) -> StateStream:
        stream = StateStream(store.gateway(GATEWAY), Connection(GATEWAY, "node-1"), NullObserver())
        stream.receive(StateRequest(type=CLUSTER))
        return stream

    def reject(self, frame: bytes) -> list[str]:
        response = DiscoveryResponse.parse(frame)
        assert isinstance(self.stream, StateStream)
        self.stream.receive(StateRequest(type=CLUSTER, nonce=response.nonce, error_detail=NO))
        return [resource.value.decode() for resource in response.resources]


class Delta(Rejecting):
    def open(self, store: ResourceStore) -> DeltaStream:
        stream = DeltaStream(store.gateway(GATEWAY), Connection(GATEWAY, "node-1"), NullObserver())
        stream.receive(DeltaRequest(type=CLUSTER, subscribe=["a"]))
        return stream

    def reject(self, frame: bytes) -> list[str]:
        response = DeltaDiscoveryResponse.parse(frame)
        assert isinstance(self.stream, DeltaStream)
        self.stream.receive(
            DeltaRequest(type=CLUSTER, nonce=response.nonce, error_detail=NO, subscribe=["a"]),
        )
        return [r.resource.value.decode() for r in response.resources if r.resource]


KINDS = pytest.mark.parametrize("kind", [State, Delta])


@KINDS
def test_a_proxy_that_rejects_everything_is_answered_a_few_times_and_then_has_to_wait(
    kind: Callable[[ResourceStore], Rejecting],
) -> None:
    store = ResourceStore()
    store.apply([A, B, C, D])
    client = kind(store)
    assert client.go_on() < 20
    assert client.waits() == [back_off(4)]
    assert client.go_on() == 1
    assert client.waits() == [back_off(5)]


@KINDS
def test_a_new_resource_is_sent_at_once_to_a_proxy_that_has_to_wait(
    kind: Callable[[ResourceStore], Rejecting],
) -> None:
    store = ResourceStore()
    store.apply([A])
    client = kind(store)
    client.go_on()
    client.bodies.clear()
    store.apply([entry("CDS", "a", "2")])
    client.go_on()
    assert "2" in client.bodies


def test_after_an_acceptance_it_is_counted_from_the_beginning() -> None:
    store = ResourceStore()
    store.apply([A])
    client = Delta(store)
    client.go_on()
    assert client.waits() == [back_off(4)]
    (frame,) = client.stream.responses()
    assert isinstance(client.stream, DeltaStream)
    nonce = DeltaDiscoveryResponse.parse(frame).nonce
    client.stream.receive(DeltaRequest(type=CLUSTER, nonce=nonce, subscribe=["a"]))
    client.go_on()
    assert client.waits() == [back_off(4)]


def test_the_wait_doubles_up_to_half_a_minute() -> None:
    assert [back_off(n) for n in range(1, 8)] == [0, 0, 0, 0.1, 0.2, 0.4, 0.8]
    assert back_off(20) == back_off(1_000) == 30


async def test_the_server_answers_a_proxy_that_waited() -> None:
    store = ResourceStore()
    server = DiscoveryServer(store, lambda gateway, token: True)
    port = await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        proxy = StateProxy(channel, "node-1")
        await proxy.ask("CDS")
        for _ in range(5):
            response = await proxy.next()
            await proxy.ask("CDS", nonce=response.nonce, error="no")
        await proxy.close()
    await server.stop(0)
