"""What the store promises its callers: by key and by cursor, at the cost of what changed."""

import sys
from dataclasses import dataclass, field, replace

from gateways.config_resource import ConfigResource
from tests.xds.proxies import GATEWAY, entry
from xds.server.observer import Connection, NullObserver
from xds.server.streams.delta import DeltaStream
from xds.server.wire import DeltaRequest
from xds.store import ResourceStore
from xds.store.table import TOMBSTONES
from xds.types import CLUSTER, ROUTES, ResourceKey


@dataclass
class Viewing:
    """A stream that has seen all changes of every type up to one, and subscribes to nothing."""

    seen: int = 0
    connection: Connection = field(default_factory=lambda: Connection(GATEWAY, "node-1"))

    def cursor(self, type: str) -> int:
        return self.seen

    def may_take(self, key: ResourceKey, version: str) -> None:
        return None


def filled(count: int) -> ResourceStore:
    store = ResourceStore()
    store.apply([entry("CDS", f"c/{index}", "1") for index in range(count)])
    return store


def test_an_applied_change_can_be_read() -> None:
    store = ResourceStore()
    a, b, route = entry("CDS", "a", "1"), entry("CDS", "b", "1"), entry("RDS", "r", "1")
    store.apply([a, b, route])
    store.apply([entry("CDS", "b", "")])
    assert store.entry(GATEWAY, CLUSTER, "a") == a
    assert store.entry(GATEWAY, CLUSTER, "b") is None
    assert store.entry("organizations/acme/gateways/other", CLUSTER, "a") is None
    assert store.names(GATEWAY, CLUSTER) == ["a"]
    assert store.names(GATEWAY, ROUTES) == ["r"]
    assert store.entries(GATEWAY) == [a, route]
    assert store.quarantined(GATEWAY) == []


def test_a_cursor_finds_later_changes_in_order() -> None:
    store = filled(1000)
    table = store.gateway(GATEWAY).table(CLUSTER)
    cursor = table.last
    assert table.since(cursor) == []
    store.apply([entry("CDS", "c/7", "2"), entry("CDS", "c/3", "2"), entry("CDS", "c/7", "3")])
    store.apply([entry("CDS", "c/5", "")])
    assert [stored.name for stored in table.since(cursor)] == ["c/3", "c/7", "c/5"]


def calls_of(store: ResourceStore, change: list[ConfigResource], stream: DeltaStream) -> int:
    """Function calls made to take `change` and to say what is to be sent."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        store.apply(change)
        sent = stream.responses()
    finally:
        sys.setprofile(None)
    assert len(sent) == 1
    return calls


def test_a_change_costs_the_same_with_few_and_many_resources() -> None:
    costs: list[int] = []
    for count in (10, 10_000):
        store = filled(count)
        stream = DeltaStream(store.gateway(GATEWAY), Connection(GATEWAY, "node"), NullObserver())
        stream.receive(DeltaRequest(type=CLUSTER))
        nonce = 0
        while stream.responses():
            nonce += 1
            stream.receive(DeltaRequest(type=CLUSTER, nonce=str(nonce)))
        costs.append(calls_of(store, [entry("CDS", "c/5", "2")], stream))
    assert costs[0] == costs[1]


def test_the_same_version_changes_nothing_but_deployments() -> None:
    store = filled(3)
    gateway = store.gateway(GATEWAY)
    before = gateway.seq
    store.apply([entry("CDS", "c/1", "1")])
    assert gateway.seq == before
    caused = entry("CDS", "c/1", "1", deployment="deployment-2")
    store.apply([caused])
    assert store.entry(GATEWAY, CLUSTER, "c/1") == caused


def test_streams_are_woken_once_per_call_and_only_of_the_gateway() -> None:
    store = ResourceStore()
    woken: list[str] = []
    other = "organizations/acme/gateways/other"
    for subject in (GATEWAY, other):
        store.gateway(subject).watch(lambda subject=subject: woken.append(subject), Viewing())
    store.apply([entry("CDS", "a", "1"), entry("RDS", "b", "1")])
    assert woken == [GATEWAY]
    store.apply([replace(entry("CDS", "a", "1"), gateway=other)])
    assert woken == [GATEWAY, other]


def test_removed_names_are_remembered_until_every_stream_has_seen_them() -> None:
    store = filled(3 * TOMBSTONES)
    gateway = store.gateway(GATEWAY)
    viewing = Viewing(gateway.seq)
    gateway.watch(lambda: None, viewing)
    removals = [entry("CDS", f"c/{index}", "") for index in range(3 * TOMBSTONES)]
    store.apply(removals[:-1])
    table = gateway.table(CLUSTER)
    assert len(table.since(viewing.seen)) == 3 * TOMBSTONES - 1
    viewing.seen = gateway.seq
    store.apply(removals[-1:])
    assert len(table.stored_resources) <= TOMBSTONES


def test_a_removal_has_the_deployments_of_the_removed_resource() -> None:
    store = ResourceStore()
    store.apply([entry("CDS", "a", "1", deployment="deployment-1")])
    store.apply([entry("CDS", "a", "")])
    removal = store.gateway(GATEWAY).table(CLUSTER).stored_resources["a"].removal
    assert removal is not None
    assert [ref.deployment for ref in removal.deployments] == ["deployment-1"]
