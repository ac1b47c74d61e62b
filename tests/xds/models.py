"""Proxies as models: they apply what they are sent, refuse what is marked bad, and can come back."""

from abc import ABC, abstractmethod
from collections import deque

from envoy_data_plane.envoy.service.discovery.v3 import DeltaDiscoveryResponse, DiscoveryResponse

from tests.xds.proxies import GATEWAY
from xds.server.observer import Connection, Observer, Progress
from xds.server.streams.delta import DeltaStream
from xds.server.streams.order import WHOLE_STATE
from xds.server.streams.state_of_the_world import StateStream
from xds.server.streams.stream import Stream
from xds.server.wire import DeltaRequest, ErrorDetail, StateRequest
from xds.store import ResourceStore
from xds.types import CLUSTER, ROUTES

TYPES = (CLUSTER, ROUTES)
Held = dict[str, dict[str, str]]


class Dangling(AssertionError):
    """A route is in force without its cluster."""


class Proxy(ABC):
    """Bodies look like `good 3`, `bad 3` or, for proxies that are `picky`, `odd 3`: these are rejected. A
    route's body ends with the cluster it uses."""

    def __init__(
        self, store: ResourceStore, node: str, observer: Observer, *, names_bad: bool, picky: bool = False
    ) -> None:
        self.store = store
        self.node = node
        self.observer = observer
        self.names_bad = names_bad
        self.picky = picky
        self.held: Held = {type: {} for type in TYPES}
        self.versions: Held = {type: {} for type in TYPES}
        self.outbox: deque[DeltaRequest | StateRequest] = deque()
        self.inbox: deque[bytes] = deque()
        self.refusals = 0
        self.connections = self.changes = 0
        self.connect()

    def connect(self) -> None:
        """Opens a stream, with what is held; what was on its way is lost."""
        self.leave()
        self.connections += 1
        self.outbox.clear()
        self.inbox.clear()
        self.store.gateway(GATEWAY).watch(self.woken, self.open())

    @property
    def connection(self) -> Connection:
        return Connection(GATEWAY, self.node, str(self.connections))

    def leave(self) -> None:
        """Ends the stream."""
        self.store.gateway(GATEWAY).unwatch(self.woken)

    def woken(self) -> None:
        """Something changed: the next steps are others than they would have been."""
        self.changes += 1

    def restart(self) -> None:
        """Comes back with nothing."""
        self.held = {type: {} for type in TYPES}
        self.versions = {type: {} for type in TYPES}
        self.connect()

    def step(self) -> bool:
        """One message in one direction; False when there was none."""
        if self.inbox:
            self.take(self.inbox.popleft())
        elif self.outbox:
            self.deliver()
        else:
            before = self.changes
            self.inbox.extend(self.pull())
            return bool(self.inbox) or self.changes != before
        return True

    def send(self) -> None:
        """The server sends what it has to say, while other messages are still on their way."""
        self.inbox.extend(self.pull())

    def rejects(self, body: str) -> bool:
        return body.startswith("bad") or (self.picky and body.startswith("odd"))

    def refusal(self, bad: list[str]) -> ErrorDetail:
        self.refusals += 1
        return ErrorDetail(13, f"cannot take {', '.join(bad)}: no" if self.names_bad else "no")

    def check(self) -> None:
        for name, body in self.held[ROUTES].items():
            cluster = body.rsplit(" ", 1)[1]
            if cluster not in self.held[CLUSTER]:
                raise Dangling(f"{self.node}: {name} uses {cluster}, which is not there")

    @abstractmethod
    def progress(self) -> Progress: ...

    @abstractmethod
    def open(self) -> Stream: ...

    @abstractmethod
    def pull(self) -> list[bytes]: ...

    @abstractmethod
    def deliver(self) -> None: ...

    @abstractmethod
    def take(self, data: bytes) -> None: ...


class DeltaModel(Proxy):
    def open(self) -> Stream:
        self.stream = DeltaStream(self.store.gateway(GATEWAY), self.connection, self.observer)
        for type in TYPES:
            self.outbox.append(DeltaRequest(type=type, initial_versions=dict(self.versions[type])))
        return self.stream

    def progress(self) -> Progress:
        return self.stream.progress()

    def pull(self) -> list[bytes]:
        return self.stream.responses()

    def deliver(self) -> None:
        request = self.outbox.popleft()
        assert isinstance(request, DeltaRequest)
        self.stream.receive(request)

    def take(self, data: bytes) -> None:
        response = DeltaDiscoveryResponse.parse(data)
        bodies = {r.name: (r.resource.value if r.resource else b"").decode() for r in response.resources}
        bad = [name for name, body in bodies.items() if self.rejects(body)]
        answer = DeltaRequest(type=response.type_url, nonce=response.nonce)
        if bad:
            answer.error_detail = self.refusal(bad)
        else:
            self.held[response.type_url].update(bodies)
            self.versions[response.type_url].update({r.name: r.version for r in response.resources})
            for name in response.removed_resources:
                self.held[response.type_url].pop(name, None)
                self.versions[response.type_url].pop(name, None)
        self.outbox.append(answer)
        self.check()


class StateModel(Proxy):
    """Names are in the bodies: `good 3 name` for clusters, `good 3 name cluster` for routes.

    This variant does not send its resources when it reconnects, so its routes are not protected until it
    has accepted both types again.
    """

    def open(self) -> Stream:
        self.accepted: set[str] = set()
        self.stream = StateStream(self.store.gateway(GATEWAY), self.connection, self.observer)
        for type in TYPES:
            self.outbox.append(StateRequest(type=type))
        return self.stream

    def progress(self) -> Progress:
        return self.stream.progress()

    def pull(self) -> list[bytes]:
        return self.stream.responses()

    def deliver(self) -> None:
        request = self.outbox.popleft()
        assert isinstance(request, StateRequest)
        self.stream.receive(request)

    def take(self, data: bytes) -> None:
        response = DiscoveryResponse.parse(data)
        bodies = {body.split(" ")[2]: body for r in response.resources if (body := r.value.decode())}
        bad = [name for name, body in bodies.items() if self.rejects(body)]
        answer = StateRequest(type=response.type_url, nonce=response.nonce)
        if bad:
            answer.error_detail = self.refusal(bad)
        else:
            assert response.type_url in (*WHOLE_STATE, ROUTES)
            self.held[response.type_url] = bodies
            self.accepted.add(response.type_url)
        self.outbox.append(answer)
        if self.accepted == {*TYPES}:
            self.check()
