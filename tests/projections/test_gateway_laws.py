"""Laws: whatever gateways report and however it is batched, the rows are what a naive replay says."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from projections.deliveries.connected_nodes import ConnectedNodes, Reports, connected_nodes
from projections.deliveries.deployment_facts import ObservedDeployment, facts
from projections.deliveries.model import Deliveries
from projections.deliveries.rows import ApiOnGateway, Delivery, Node
from projections.deliveries.tables import tables
from projections.pages import Row
from projections.store import Store
from schemas.message import Message
from streams.log import Record
from streams.projection.generation_builder import GenerationBuilder
from streams.projection.writer import Writer
from tests.projections.events import delivery, node, placed
from tests.projections.naive_gateways import NaiveGateway, replay
from tests.projections.test_laws import StoreMaker, a_store, contents
from tests.streams.batches import batch
from tests.support.laws import SHARED_FIXTURE, examples

__all__ = ["a_store"]

DEPLOYMENTS = {"d1": ("orders", 1), "d2": ("orders", 2), "d3": ("carts", 3), "d4": ("orders", 4)}
NODES = st.sampled_from(["n1", "n2"])
CONNECTIONS = st.sampled_from(["c1", "c1", "c1", "", "c2"])
EXCEPTION = st.fixed_dictionaries(
    {"deployment": st.sampled_from(sorted(DEPLOYMENTS)), "state": st.sampled_from(["pending", "refused"])}
)


def of_deployment(
    name: str, fact: str, where: str, connection: str, later: bool, version: str = "v"
) -> Message:
    api, position = DEPLOYMENTS[name]
    # What a gateway goes back to is published again, at a later position.
    position = 5 if later and fact == "published" else position
    # Gateway sync reports without a version what it finds published when it starts.
    statements = {"node": "*", "version": version}
    who = statements if fact == "published" else {"node": where, "connection": connection}
    return delivery(name, fact, position, api=api, position=position, **who)


OF_DEPLOYMENT = st.builds(
    of_deployment,
    st.sampled_from(sorted(DEPLOYMENTS)),
    st.sampled_from(["published", *["acknowledged"] * 4, "refused", "serving", "withdrawn"]),
    st.one_of(NODES, NODES, st.just("*")),
    CONNECTIONS,
    st.booleans(),
    st.sampled_from(["", "v"]),
)
OF_NODE = st.builds(
    lambda name, connected, connection, acknowledged, exceptions: node(
        name,
        connected,
        1,
        connection=connection,
        acknowledged=acknowledged,
        exceptions=list({e["deployment"]: e for e in exceptions}.values()),
    ),
    NODES,
    st.sampled_from([True, True, True, False]),
    CONNECTIONS,
    st.one_of(st.none(), st.integers(0, 6)),
    st.lists(EXCEPTION, max_size=2),
)
REPORT = st.one_of(OF_DEPLOYMENT, OF_DEPLOYMENT, OF_NODE)
HISTORY = st.lists(REPORT, min_size=15, max_size=40)


def known_before(history: Sequence[Message]) -> list[Message]:
    """The nodes are there, and all deployments are published, before anything else is reported of them."""
    nodes = [node(name, True, 0, connection="c1") for name in ("n1", "n2")]
    known = [of_deployment(name, "published", "*", "", False) for name in sorted(DEPLOYMENTS)]
    return [*nodes, *known, *history]


@examples(60, SHARED_FIXTURE)
@given(HISTORY, st.integers(1, 8))
def test_the_rows_equal_a_naive_replay_with_any_batches(
    a_store: StoreMaker, history: list[Message], size: int
):
    everything = known_before(history)
    with a_store() as store:
        writer = filled(store, everything, size)
        generation = writer.progress["deliveries"].generation
        expected = replay((p.position, m) for p, m in zip(placed(*everything), everything, strict=True))
        assert shown(store, generation.prefix) == statements(expected)


@examples(15, SHARED_FIXTURE)
@given(HISTORY, st.integers(1, 8), st.integers(1, 8))
def test_a_rebuild_equals_the_live_read_model(
    a_store: StoreMaker, history: list[Message], live: int, rebuilt: int
):
    everything = known_before(history)
    with a_store() as store:
        writer = filled(store, everything, live)
        building = GenerationBuilder(store, Deliveries(), 1)
        assert building.begin()
        records = recorded(everything)
        for i in range(0, len(records), rebuilt):
            building.take(0, batch(records[i : i + rebuilt])[0])
        building.index()
        before = contents(store, writer.progress["deliveries"].generation)
        after = contents(store, building.progress.generation)
        assert after == before


def recorded(history: Sequence[Message]) -> list[Record]:
    return [Record("status", 0, p.position, p.envelope) for p in placed(*history)]


def filled(store: Store, history: Sequence[Message], size: int) -> Writer:
    writer = Writer(store, [Deliveries()], 1)
    writer.open()
    records = recorded(history)
    for i in range(0, len(records), size):
        writer.apply({"status": batch(records[i : i + size])})
    return writer


def shown(store: Store, prefix: str) -> dict[str, Any]:
    of = tables(prefix)
    with store.reader.begin() as connection:
        nodes = [Node(*row) for row in connection.execute(select(of.nodes))]
        reports = {(r.node, r.deployment): r.state for r in connection.execute(select(of.reports))}
        deliveries = {d.deployment: d for d in connection.execute(select(of.deliveries))}
        apis = {a.api: a for a in connection.execute(select(of.apis))}
        live = connection.execute(select(of.live).order_by(of.live.c.valid_from)).all()
    intervals: dict[str, list[tuple[str, int, int | None]]] = {}
    for interval in live:
        intervals.setdefault(interval.api, []).append(
            (interval.deployment, interval.valid_from, interval.valid_to)
        )
    there = connected_nodes(n for n in nodes if n.connected)
    return {
        "nodes": {n.node: (bool(n.connected), n.connection, n.acknowledged) for n in nodes},
        "reports": reports,
        "rejected": {name for name, d in deliveries.items() if d.rejected},
        "configured": {name: a.configured for name, a in apis.items() if a.configured},
        "waiting": {name for name, a in apis.items() if a.waiting},
        "live": {name: a.live for name, a in apis.items() if a.live},
        "intervals": intervals,
        "having": {
            name: sum(p.count_having(d.position, _of(nodes, reports, name, d)) for p in there.values())
            for name, d in deliveries.items()
        },
        "states": {
            name: _state(d, apis.get(d.api), there.get("local"), _of(nodes, reports, name, d))
            for name, d in deliveries.items()
        },
    }


def _state(delivery: Any, api: Any, there: ConnectedNodes | None, reports: Reports) -> str:
    """What its refusals make of a deployment that is in force."""
    name = delivery.deployment
    row = Row(name, 1, 1, "", {"state": "active", "gateways": ["local"]}, "")
    known = ObservedDeployment(
        {"local": Delivery(*delivery)},
        {"local": ApiOnGateway(*api)} if api is not None else {},
        {"local": there} if there is not None else {},
        {"local": reports},
    )
    state: str = facts(row, known)["state"]
    return state if state in ("refused", "partly-refused") else ""


def _of(nodes: list[Node], reports: dict[tuple[str, str], str], name: str, d: Any) -> dict[str, Any]:
    from projections.deliveries.rows import Report

    return {
        n.node: Report("", "", n.node, d.api, name, 0, reports[n.node, name], "", "", "", "", None)
        for n in nodes
        if (n.node, name) in reports
    }


def statements(gateway: NaiveGateway) -> dict[str, Any]:
    there = [p for p in gateway.proxies.values() if p.connected]
    return {
        "nodes": {name: (p.connected, p.connection, p.acknowledged) for name, p in gateway.proxies.items()},
        "reports": {(n, d): state for n, p in gateway.proxies.items() for d, state in p.statements.items()},
        "rejected": {name for name, known in gateway.known.items() if known.rejected},
        "configured": gateway.configured,
        "waiting": gateway.waiting,
        "live": {api: live for api in gateway.live if (live := gateway.live_now(api))},
        "intervals": gateway.live,
        "having": {d: sum(gateway.has(p, d) for p in there) for d in gateway.known},
        "states": {d: gateway.state(d) for d in gateway.known},
    }
