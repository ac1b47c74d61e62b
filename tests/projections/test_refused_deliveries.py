"""What deployments that nodes refuse are shown as."""

from projections.queries import ReadModels
from tests.projections.conftest import Happen
from tests.projections.events import at, delivery, node, started
from tests.projections.test_deliveries import state_of


async def test_the_refusal_of_a_node_that_left_does_not_count(happen: Happen, ask: ReadModels):
    happen(started("d1"))
    happen(node("n1", True, 1), node("n2", True, 1), topic="status")
    happen(
        delivery("d1", "acknowledged", 2, node="n1"),
        delivery("d1", "refused", 3, node="n2", reason="too old"),
        topic="status",
    )
    assert await state_of(ask, "d1") == "partly-refused"

    happen(node("n2", False, 4), topic="status")

    assert await state_of(ask, "d1") == "acknowledged"


async def test_a_deployment_that_one_node_refused_is_pending_until_the_others_answered(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"))
    happen(
        node("n1", True, 1, connection="c1", acknowledged=0),
        node("n2", True, 1, connection="c2", acknowledged=0),
        delivery("d1", "published", 2, position=1),
        delivery("d1", "refused", 3, node="n1", connection="c1", position=1, reason="too old"),
        topic="status",
    )
    found = await ask.deployment_facts("acme", "d1")
    assert found is not None
    assert (found["state"], found["live"]) == ("pending", [])
    assert found["refusals"] == [{"gateway": "local", "node": "n1", "at": at(3), "reason": "too old"}]
    gateway = (await ask.gateway_page("acme", "local")).facts
    assert gateway.nodes["n2"] == {"acknowledged": 0, "refused": 0, "pending": 1, "withheld": 0}

    happen(node("n2", True, 4, connection="c2", acknowledged=1), topic="status")
    found = await ask.deployment_facts("acme", "d1")
    assert found is not None
    assert (found["state"], found["live"]) == ("partly-refused", ["local"])
    counts = found["gateways"]["local"]
    assert (counts["connected"], counts["acknowledged"]) == (2, 1)
    gateway = (await ask.gateway_page("acme", "local")).facts
    assert gateway.nodes["n1"] == {"acknowledged": 0, "refused": 1, "pending": 0, "withheld": 0}
    assert gateway.nodes["n2"] == {"acknowledged": 1, "refused": 0, "pending": 0, "withheld": 0}

    happen(delivery("d1", "acknowledged", 5, node="n1", connection="c1", position=1), topic="status")
    assert await state_of(ask, "d1") == "acknowledged"


async def test_a_deployment_that_all_connected_nodes_refused_is_refused(happen: Happen, ask: ReadModels):
    happen(started("d1"))
    happen(
        node("n1", True, 1, connection="c1", acknowledged=0),
        node("n2", True, 1, connection="c2", acknowledged=0),
        delivery("d1", "published", 2, position=1),
        delivery("d1", "refused", 3, node="n1", connection="c1", position=1, reason="too old"),
        delivery("d1", "refused", 4, node="n2", connection="c2", position=1, reason="too old"),
        topic="status",
    )
    assert await state_of(ask, "d1") == "refused"


async def test_a_deployment_that_no_node_ever_took_stays_refused_when_nodes_leave(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"))
    happen(
        node("n1", True, 1),
        delivery("d1", "published", 2, position=1),
        delivery("d1", "refused", 3, node="n1", reason="bad regex"),
        delivery("d1", "refused", 3, reason="rejected by a node"),
        node("n1", False, 4),
        node("n2", True, 5, connection="c2", acknowledged=9),
        topic="status",
    )

    found = await ask.deployment_facts("acme", "d1")

    assert found is not None
    assert (found["state"], found["live"]) == ("refused", [])
    assert found["refusals"] == [{"gateway": "local", "node": "n1", "at": at(3), "reason": "bad regex"}]


async def test_a_refusal_shows_its_reason_until_it_is_taken(happen: Happen, ask: ReadModels):
    happen(started("d1"))
    happen(node("n1", True, 1), delivery("d1", "refused", 2, node="n1", reason="bad regex"), topic="status")

    found = await ask.deployment_facts("acme", "d1")
    assert found is not None
    assert (found["state"], found["facts"]["refused"]) == ("refused", at(2))
    assert found["refusals"] == [{"gateway": "local", "node": "n1", "at": at(2), "reason": "bad regex"}]

    happen(delivery("d1", "acknowledged", 3, node="n1"), topic="status")
    found = await ask.deployment_facts("acme", "d1")
    assert found is not None
    assert (found["state"], found["refusals"]) == ("acknowledged", [])
    assert found["gateways"]["local"]["nodes"]["n1"] == {
        "acknowledged": {"first_at": at(3), "last_at": at(3), "version": "", "reason": ""}
    }


async def test_a_refusal_for_the_whole_gateway_counts_beside_none_of_a_node(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2", api="carts"))
    happen(
        delivery("d1", "refused", 2, node="n1", reason="bad regex"),
        delivery("d1", "refused", 3, reason="bad regex"),
        delivery("d2", "refused", 3, api="carts", reason="too large"),
        topic="status",
    )

    found = await ask.facts_of("acme", ["d1", "d2"])

    assert [f["state"] for f in found.values()] == ["refused", "refused"]
    assert [[r["node"] for r in f["refusals"]] for f in found.values()] == [["n1"], ["*"]]
