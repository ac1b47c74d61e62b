"""For any changes of a unit that is split: a proxy has the parts to which the unit takes requests."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from envoy_data_plane.envoy.service.discovery.v3 import DeltaDiscoveryResponse
from hypothesis import given
from hypothesis import strategies as st

from gateways.config_resource import ConfigResource, DeploymentRef, content_version
from tests.support.laws import examples
from tests.xds.proxies import GATEWAY, Remembering
from xds.scopes import part_resources, route_name, scope_name
from xds.server.observer import Connection
from xds.server.streams.delta import DeltaStream
from xds.server.wire import DeltaRequest
from xds.store import ResourceStore
from xds.translate.scopes import scope_body
from xds.types import ROUTES, SCOPED_ROUTES, ResourceKey

UNIT = "api"


def unit_entries(
    unit: str, body: str, requires: Sequence[ResourceKey], refs: Sequence[DeploymentRef]
) -> list[ConfigResource]:
    """The scope and the routes of a unit or a part; an empty body removes."""
    scope = scope_body(GATEWAY, unit) if body else b""

    def made(type: str, name: str, body: bytes) -> ConfigResource:
        return ConfigResource(GATEWAY, "envoy", type, name, content_version(body) if body else "", 1, body)

    routes = made(ROUTES, route_name(GATEWAY, unit), body.encode())
    return [
        made(SCOPED_ROUTES, scope_name(GATEWAY, unit), scope),
        replace(routes, requires=tuple(requires), deployments=tuple(refs)),
    ]


@dataclass
class Envoy:
    """Has all scopes, and asks for the routes that these name, as soon as it has them."""

    store: ResourceStore
    seen: Remembering = field(default_factory=Remembering)
    scopes: dict[str, str] = field(default_factory=dict[str, str])
    routes: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    inbox: deque[bytes] = field(default_factory=deque[bytes])
    outbox: deque[DeltaRequest] = field(default_factory=deque[DeltaRequest])

    def __post_init__(self) -> None:
        self.connect()

    def connect(self) -> None:
        self.inbox.clear()
        self.outbox.clear()
        self.stream = DeltaStream(self.store.gateway(GATEWAY), Connection(GATEWAY, "n"), self.seen)
        self.outbox.append(DeltaRequest(type=SCOPED_ROUTES, initial_versions=dict(self.scopes)))
        wanted = [route_name(GATEWAY, name.rpartition("/")[2]) for name in self.scopes]
        versions = {name: version for name, (version, _) in self.routes.items()}
        if wanted:
            self.outbox.append(DeltaRequest(type=ROUTES, subscribe=wanted, initial_versions=versions))

    def send(self) -> None:
        """The server sends what it has to say, while other messages are still on their way."""
        self.inbox.extend(self.stream.responses())

    def step(self) -> bool:
        """One message in one direction; False when there was none."""
        if self.inbox:
            self.take(DeltaDiscoveryResponse.parse(self.inbox.popleft()))
        elif self.outbox:
            self.stream.receive(self.outbox.popleft())
        else:
            self.inbox.extend(self.stream.responses())
            for type, _ in self.stream.held_back():
                self.stream.release(type)
                self.inbox.extend(self.stream.responses())
            return bool(self.inbox)
        return True

    def take(self, response: DeltaDiscoveryResponse) -> None:
        # Envoy acknowledges before it asks for more.
        self.outbox.append(DeltaRequest(type=response.type_url, nonce=response.nonce))
        if response.type_url == SCOPED_ROUTES:
            new = [r.name for r in response.resources if r.name not in self.scopes]
            self.scopes.update({r.name: r.version for r in response.resources})
            for name in response.removed_resources:
                self.scopes.pop(name, None)
                self.routes.pop(route_of(name), None)
            gone = [route_of(name) for name in response.removed_resources]
            wanted = [route_of(name) for name in new]
            if wanted or gone:
                self.outbox.append(DeltaRequest(type=ROUTES, subscribe=wanted, unsubscribe=gone))
        else:
            for r in response.resources:
                if r.resource is not None:
                    self.routes[r.name] = (r.version, r.resource.value.decode())
            for name in response.removed_resources:
                self.routes.pop(name, None)
        self.check()

    def check(self, taken_from: str = UNIT) -> None:
        """All that requests are taken to is there: parts, or groups of them and their parts."""
        _, body = self.routes.get(route_name(GATEWAY, taken_from), ("", ""))
        for taken_to in body.split()[2:] if body.startswith("to ") else ():
            for type, name in part_resources(GATEWAY, taken_to):
                assert name in (self.scopes if type == SCOPED_ROUTES else self.routes), f"{body} lacks {name}"
            self.check(taken_to)

    def rest(self) -> None:
        for _ in range(10_000):
            if not self.step():
                return
        raise AssertionError("no end")


def route_of(scope: str) -> str:
    return route_name(GATEWAY, scope.rpartition("/")[2])


PARTS = ("|a", "|b", "|c", "|d")
GROUPS = ("", "||1", "||2")
"""Without a name: the unit takes requests to the part itself."""
Groups = frozenset[tuple[str, str]]
"""Groups and parts in them."""


def together(*parts: str) -> Groups:
    return frozenset(("", part) for part in parts)


def resources(groups: Groups) -> set[str]:
    return {name for pair in groups for name in pair if name} | ({UNIT} if groups else set())


def changed(before: Groups, now: Groups, number: int) -> list[ConfigResource]:
    """The entries with which the parts of the unit, or their groups, become others."""
    entries: list[ConfigResource] = []
    for part in sorted({part for _, part in now}):
        entries += unit_entries(part, f"part {number}", [], [DeploymentRef(f"d{part}", part, 1, "/api")])
    for gone in sorted(resources(before) - resources(now) - {UNIT}):
        entries += unit_entries(gone, "", [], [])
    named = sorted({group for group, _ in now if group})
    for group in named:
        entries += dispatching(group, [part for of, part in now if of == group], number)
    return entries + dispatching(UNIT, [*named, *(part for of, part in now if not of)], number)


def dispatching(name: str, taken_to: Sequence[str], number: int) -> list[ConfigResource]:
    required = [key for each in sorted(taken_to) for key in part_resources(GATEWAY, each)]
    body = " ".join(("to", f"{number}", *sorted(taken_to))) if taken_to else ""
    return unit_entries(name, body, required, [])


@given(st.data())
@examples(300)
def test_no_request_is_taken_to_a_part_that_a_proxy_lacks(data: st.DataObject):
    store, groups = ResourceStore(), Groups()
    envoy = Envoy(store)
    for number in range(data.draw(st.integers(1, 30))):
        match data.draw(st.sampled_from(("change", "steps", "steps", "rest", "reconnect"))):
            case "change":
                before = groups
                groups = data.draw(
                    st.frozensets(st.tuples(st.sampled_from(GROUPS), st.sampled_from(PARTS)), max_size=6)
                )
                store.apply(data.draw(st.permutations(changed(before, groups, number))))
            case "steps":
                for server_first in data.draw(st.lists(st.booleans(), max_size=6)):
                    if server_first:
                        envoy.send()
                    envoy.step()
            case "rest":
                envoy.rest()
            case _:
                envoy.connect()
    envoy.rest()
    wanted = {scope_name(GATEWAY, name) for name in resources(groups)}
    assert envoy.scopes.keys() == wanted
    assert envoy.routes.keys() == {route_of(scope) for scope in wanted}


def test_a_deployment_that_moves_to_a_part_is_not_withdrawn():
    # Given a unit as a whole on a proxy
    store = ResourceStore()
    refs = [DeploymentRef(f"d{part}", part, 1, "/api") for part in PARTS]
    store.apply(unit_entries(UNIT, "whole", [], refs))
    envoy = Envoy(store)
    envoy.rest()
    # When it is split
    store.apply(changed(Groups(), together(*PARTS), 1))
    envoy.rest()
    # Then nothing is withdrawn, and what was acknowledged before the connection is not reported as new
    assert envoy.seen.deployments == []
    # When an API is stopped
    store.apply(changed(together(*PARTS), together(*PARTS[1:]), 2))
    envoy.rest()
    assert {*envoy.seen.deployments} == {("gone", "n", "d|a")}
