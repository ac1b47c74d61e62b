"""What is kept of nodes is bounded by those that are there, and what a batch looks up is found by index."""

import pytest
from sqlalchemy import func, select, text

from projections.databases.dialect import dialect_of
from projections.deliveries.rows import MOST_DISCONNECTED_NODES
from projections.deliveries.storage import lookup
from projections.deliveries.tables import tables
from projections.store import Store
from schemas.message import Message
from streams.projection.writer import Writer
from tests.projections.conftest import Happen
from tests.projections.events import delivery, node

DEPLOYMENTS = 50
NODES = 300


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_short_lived_nodes_leave_a_bounded_number_of_rows(happen: Happen, store: Store, writer: Writer):
    happen(
        *(delivery(f"d{i}", "published", 1, api=f"a{i}", position=i + 1) for i in range(DEPLOYMENTS)),
        topic="status",
    )
    for batch in range(0, NODES, 100):
        life: list[Message] = []
        for n in range(batch, batch + 100):
            life.append(node(f"n{n}", True, n, connection=f"c{n}"))
            life += [of_deployment(i, "acknowledged", n) for i in range(DEPLOYMENTS)]
            life.append(node(f"n{n}", False, n, connection=f"c{n}"))
        happen(*life, topic="status")

    assert rows(store, writer) == {
        "deliveries": DEPLOYMENTS,
        "apis": DEPLOYMENTS,
        "live": DEPLOYMENTS,
        "nodes": MOST_DISCONNECTED_NODES,
        "reports": 0,
    }

    happen(node("last", True, 2 * 3600 + NODES, connection="c"), topic="status")

    assert rows(store, writer)["nodes"] == 1


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_reports_of_single_deployments_are_removed_when_the_nodes_have_caught_up(
    happen: Happen, store: Store, writer: Writer
):
    happen(
        *(node(f"n{n}", True, 1, connection=f"c{n}") for n in range(20)),
        *(
            delivery(
                f"d{i}", "acknowledged", 2, api=f"a{i}", position=i + 1, node=f"n{n}", connection=f"c{n}"
            )
            for n in range(20)
            for i in range(DEPLOYMENTS)
        ),
        topic="status",
    )
    assert rows(store, writer)["reports"] == 20 * DEPLOYMENTS

    happen(
        *(node(f"n{n}", True, 3, connection=f"c{n}", acknowledged=DEPLOYMENTS) for n in range(20)),
        topic="status",
    )

    assert rows(store, writer)["reports"] == 0


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_batch_finds_its_rows_by_index(store: Store, writer: Writer):
    of = tables(writer.progress["deliveries"].generation.prefix)
    with store.reader.begin() as connection:
        statement, parameters = lookup(of, dialect_of(connection))
        plan = connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"), parameters)
        steps = [row.detail for row in plan]
    looked_up = [step for step in steps if step.startswith(("SEARCH", "SCAN")) and " k" not in step]
    assert len(looked_up) > len(of.metadata.tables)
    assert [step for step in looked_up if not step.startswith("SEARCH")] == []


def of_deployment(i: int, fact: str, n: int | None = None) -> Message:
    who = {} if n is None else {"node": f"n{n}", "connection": f"c{n}"}
    return delivery(f"d{i}", fact, n or 0, api=f"a{i}", position=i + 1, **who)


def rows(store: Store, writer: Writer) -> dict[str, int]:
    of = tables(writer.progress["deliveries"].generation.prefix)
    named = {"deliveries": of.deliveries, "apis": of.apis, "live": of.live}
    named |= {"nodes": of.nodes, "reports": of.reports}
    with store.reader.begin() as connection:
        return {
            name: connection.execute(select(func.count()).select_from(t)).scalar_one()
            for name, t in named.items()
        }
