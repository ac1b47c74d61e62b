"""What gateways report becomes the facts of deployments."""

from typing import Any

from projections.queries import ReadModels
from schemas.status import LivenessReported, LivenessState
from tests.projections.conftest import Happen
from tests.projections.events import at, delivery, node, outcome, started, stopped, superseded


async def test_the_facts_come_one_after_the_other(happen: Happen, ask: ReadModels):
    happen(started("d1"))
    happen(node("n1", True, 0.6), topic="status")

    async def facts() -> tuple[str, dict[str, str | None]]:
        found = await ask.deployment_facts("acme", "d1")
        assert found is not None
        return found["state"], {k: v for k, v in found["facts"].items() if v is not None}

    expected: dict[str, str | None] = {"requested": at(0.5), "decided": at(1)}
    assert await facts() == ("pending", expected)
    for fact, node_name, state in (
        ("published", "*", "pending"),
        ("acknowledged", "n1", "acknowledged"),
        ("serving", "n1", "serving"),
    ):
        seconds = len(expected)
        happen(delivery("d1", fact, seconds, node=node_name), topic="status")
        expected[fact] = at(seconds)
        assert await facts() == (state, expected)


async def test_acknowledged_means_by_every_connected_node_of_every_gateway(happen: Happen, ask: ReadModels):
    happen(started("d1", ("a", "b")))
    happen(
        node("n1", True, 1, gateway="a"),
        node("n2", True, 1, gateway="a"),
        node("n9", True, 1, gateway="b"),
        delivery("d1", "acknowledged", 2, gateway="a", node="n1"),
        delivery("d1", "acknowledged", 3, gateway="b", node="n9"),
        topic="status",
    )
    assert await state_of(ask, "d1") == "pending"

    happen(delivery("d1", "acknowledged", 4, gateway="a", node="n2"), topic="status")

    found = await ask.deployment_facts("acme", "d1")
    assert found is not None
    assert (found["state"], found["facts"]["acknowledged"]) == ("acknowledged", at(4))


async def test_a_node_that_left_is_not_waited_for(happen: Happen, ask: ReadModels):
    happen(started("d1"))
    happen(
        node("n1", True, 1), node("n2", True, 1), delivery("d1", "acknowledged", 2, node="n1"), topic="status"
    )
    assert await state_of(ask, "d1") == "pending"

    happen(node("n2", False, 3), topic="status")

    assert await state_of(ask, "d1") == "acknowledged"


async def test_a_gateway_without_a_connected_node_is_offline(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2", api="carts"))
    happen(
        node("n1", True, 1),
        delivery("d1", "acknowledged", 2, node="n1"),
        node("n1", False, 3),
        topic="status",
    )

    found = await ask.facts_of("acme", ["d1", "d2"])

    assert (found["d1"]["state"], found["d1"]["offline"]) == ("offline", ["local"])
    assert found["d1"]["facts"]["acknowledged"] == at(2)
    assert (found["d2"]["state"], found["d2"]["offline"]) == ("pending", ["local"])


async def test_a_node_that_caught_up_needs_no_report_of_each_deployment(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2", api="carts"), started("d3", api="bills"))
    happen(
        delivery("d1", "published", 2, position=1),
        delivery("d2", "published", 2, api="carts", position=2),
        delivery("d3", "published", 2, api="bills", position=3),
        node(
            "n1",
            True,
            3,
            connection="c1",
            acknowledged=2,
            exceptions=[{"deployment": "d2", "state": "refused", "reason": "bad regex"}],
        ),
        topic="status",
    )
    assert [await state_of(ask, d) for d in ("d1", "d2", "d3")] == ["acknowledged", "refused", "pending"]

    happen(
        delivery("d2", "refused", 4, api="carts", reason="bad regex"),
        node("n1", True, 4, connection="c1", acknowledged=3),
        topic="status",
    )

    # The gateway took d2 back: that the node has acknowledged everything else does not make it run d2.
    assert [await state_of(ask, d) for d in ("d1", "d2", "d3")] == ["acknowledged", "refused", "acknowledged"]


async def test_a_new_connection_voids_the_reports_of_the_one_before(happen: Happen, ask: ReadModels):
    happen(started("d1"))
    happen(
        node("n1", True, 1, connection="c1"),
        delivery("d1", "published", 2, position=1),
        delivery("d1", "acknowledged", 3, node="n1", connection="c1", position=1),
        topic="status",
    )
    assert await state_of(ask, "d1") == "acknowledged"

    happen(node("n1", True, 4, connection="c2", acknowledged=0), topic="status")
    assert await state_of(ask, "d1") == "pending"

    happen(delivery("d1", "acknowledged", 5, node="n1", connection="c1", position=1), topic="status")
    assert await state_of(ask, "d1") == "pending"

    happen(node("n1", False, 5, connection="c1"), topic="status")
    happen(delivery("d1", "refused", 6, node="n1", connection="c2", reason="no memory"), topic="status")
    assert await state_of(ask, "d1") == "refused"


async def test_it_is_stopping_until_every_node_withdrew_it(happen: Happen, ask: ReadModels):
    happen(started("d1"))
    happen(node("n1", True, 1, connection="c1"), node("n2", True, 1, connection="c2"), topic="status")
    for name in ("n1", "n2"):
        happen(delivery("d1", "acknowledged", 2, node=name, position=1), topic="status")

    happen(stopped("d1"))
    assert await state_of(ask, "d1") == "stopping"

    happen(delivery("d1", "withdrawn", 3, node="n1", position=1), topic="status")
    assert await state_of(ask, "d1") == "stopping"

    happen(delivery("d1", "withdrawn", 4, node="n2", position=1), topic="status")
    assert await state_of(ask, "d1") == "stopped"
    assert await ask.live("acme") == []


async def test_a_node_that_caught_up_with_the_stop_has_withdrawn_it(happen: Happen, ask: ReadModels):
    happen(started("d1"), stopped("d1"))
    happen(
        delivery("d1", "published", 1, position=1),
        node("n1", True, 2, connection="c1", acknowledged=1),
        topic="status",
    )
    assert await state_of(ask, "d1") == "stopping"

    happen(node("n1", True, 3, connection="c1", acknowledged=2), topic="status")
    assert await state_of(ask, "d1") == "stopped"
    assert await ask.live("acme") == []


async def test_nothing_has_to_be_withdrawn_where_no_node_is_connected(happen: Happen, ask: ReadModels):
    happen(started("d1"))
    happen(
        node("n1", True, 1),
        delivery("d1", "acknowledged", 2, node="n1"),
        node("n1", False, 3),
        topic="status",
    )
    happen(stopped("d1"))

    assert await state_of(ask, "d1") == "stopped"
    assert await ask.live("acme") == []


async def test_superseded_is_stopped(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2"), superseded("d1", "d2"))
    assert await state_of(ask, "d1") == "stopped"


async def test_facts_of_many_equal_those_of_each_but_for_the_nodes(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2", api="carts"))
    happen(
        node("n1", True, 1, agent="envoy 1.40.0"),
        delivery("d1", "acknowledged", 2, node="n1"),
        delivery("d2", "refused", 2, api="carts", node="n1", reason="no"),
        topic="status",
    )

    many = await ask.facts_of("acme", ["d1", "d2", "nobody"])

    each = {d: await ask.deployment_facts("acme", d) for d in ("d1", "d2")}
    for found in each.values():
        assert found is not None
        del found["gateways"]["local"]["nodes"]
    assert many == each
    assert await ask.deployment_facts("acme", "nobody") is None


async def test_facts_as_of_then(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2", api="carts"))
    happen(
        node("n1", True, 1),
        delivery("d1", "published", 1.5),
        delivery("d1", "acknowledged", 1.8, node="n1"),
        delivery("d1", "serving", 2.5, node="n1"),
        delivery("d1", "refused", 4, node="n1", reason="no memory"),
        delivery("d1", "acknowledged", 7, node="n1"),
        topic="status",
    )

    async def state(as_of: int | str) -> str:
        found = await ask.deployment_facts("acme", "d1", as_of=as_of)
        assert found is not None
        assert (await ask.facts_of("acme", ["d1"], as_of))["d1"]["state"] == found["state"]
        return found["state"]

    assert [await state(at(s)) for s in (1, 1.6, 1.9, 2.5, 5, 8)] == [
        "pending",
        "pending",
        "acknowledged",
        "serving",
        "refused",
        "serving",
    ]
    assert [await state(p) for p in (1, 2)] == ["pending", "acknowledged"]


async def test_stopping_is_known_as_of_then_too(happen: Happen, ask: ReadModels):
    happen(started("d1"), stopped("d1"))
    happen(
        node("n1", True, 1),
        delivery("d1", "acknowledged", 1.5, node="n1"),
        delivery("d1", "withdrawn", 3, node="n1"),
        topic="status",
    )

    states = [await ask.facts_of("acme", ["d1"], at(s)) for s in (1.8, 2.5, 3.5)]

    assert [s["d1"]["state"] for s in states] == ["acknowledged", "stopping", "stopped"]
    assert [s["d1"]["live"] for s in states] == [["local"], ["local"], []]


async def test_the_gateways_of_ended_deployments_are_known_as_of_then(happen: Happen, ask: ReadModels):
    happen(started("d1", ("a", "b")), superseded("d1", by="d2"))
    happen(
        delivery("d1", "published", 1.2, gateway="a"),
        delivery("d1", "acknowledged", 1.5, gateway="a", node="n1"),
        delivery("d1", "published", 1.6, gateway="b"),
        delivery("d2", "acknowledged", 4, gateway="a", node="n1", revision=2, position=2),
        topic="status",
    )

    async def gateways(seconds: float) -> dict[str, Any]:
        found = (await ask.facts_of("acme", ["d1"], at(seconds)))["d1"]["gateways"]
        return {name: there["live"] and there["live"]["deployment"] for name, there in found.items()}

    assert await gateways(1.3) == {"a": None, "b": None}
    assert await gateways(3) == {"a": "d1", "b": None}
    assert await gateways(5) == {"a": "d2", "b": None}


async def test_nodes_of_a_gateway(happen: Happen, ask: ReadModels):
    happen(
        node("n2", True, 1, listener_refused="address in use"),
        node("n1", True, 2, agent="envoy 1.40.0", connection="c1"),
        topic="status",
    )
    happen(node("n1", False, 5), topic="status")

    assert await ask.nodes("acme", "local") == [
        {
            "node": "n1",
            "connected": False,
            "agent": "envoy 1.40.0",
            "connection": "c1",
            "first_seen": at(2),
            "last_seen": at(5),
            "listener_refused": "",
        },
        {
            "node": "n2",
            "connected": True,
            "agent": "",
            "connection": "",
            "first_seen": at(1),
            "last_seen": at(1),
            "listener_refused": "address in use",
        },
    ]
    assert await ask.nodes("acme", "elsewhere") == []
    assert await ask.connected("acme", ["local", "elsewhere"]) == {"local": 1, "elsewhere": 0}


async def test_the_first_outcome_of_a_command_stands(happen: Happen, ask: ReadModels):
    first = outcome("c1", accepted=False, rule="not-found", message="There is none.")
    happen(first, topic="outcomes")
    happen(outcome("c1"), outcome("c2"), topic="outcomes")

    assert await ask.operation("c1") == first.data()
    assert await ask.operation("c2", organization="other") is None
    assert await ask.operation("c3") is None


async def test_other_outcomes_of_an_id_give_way_to_its_decision(happen: Happen, ask: ReadModels):
    happen(outcome("c1", accepted=False, rule="unauthorized", message="Expired."), topic="outcomes")
    reports = await ask.operation("c1")
    assert reports is not None
    assert reports["rule"] == "unauthorized"
    happen(outcome("c1"), topic="outcomes")
    happen(outcome("c1", accepted=False, rule="command-id-reused", message="Again."), topic="outcomes")
    assert await ask.operation("c1") == outcome("c1").data()


async def state_of(ask: ReadModels, deployment: str) -> str:
    found = await ask.deployment_facts("acme", deployment)
    assert found is not None
    return found["state"]


async def test_reports_of_before_there_were_connections_count_as_well_as_they_can(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"), started("d2", api="carts"))
    old = {"api": "", "revision": 0}
    happen(
        node("n1", True, 1),
        delivery("d1", "published", 2, **old),
        delivery("d1", "acknowledged", 3, node="n1", **old),
        delivery("d1", "serving", 4, node="n1", **old),
        delivery("d2", "refused", 4, reason="unsupported", **old),
        topic="status",
    )
    assert [await state_of(ask, d) for d in ("d1", "d2")] == ["serving", "refused"]

    happen(
        node("n1", False, 5),
        node("n1", True, 6, connection="c1", acknowledged=0),
        node("n1", True, 7, connection="c1", acknowledged=2),
        topic="status",
    )
    assert [await state_of(ask, d) for d in ("d1", "d2")] == ["serving", "refused"]


async def test_a_state_has_the_time_when_it_began(happen: Happen, ask: ReadModels):
    async def state() -> tuple[str, str]:
        found = await ask.deployment_facts("acme", "d1")
        assert found is not None
        return found["state"], found["since"]

    happen(started("d1"))
    happen(node("n1", True, 1), delivery("d1", "published", 2), topic="status")
    assert await state() == ("pending", at(2))
    happen(delivery("d1", "acknowledged", 3, node="n1"), topic="status")
    assert await state() == ("acknowledged", at(3))
    happen(delivery("d1", "serving", 4, node="n1"), topic="status")
    assert await state() == ("serving", at(4))
    happen(node("n1", False, 9), topic="status")
    assert await state() == ("offline", at(9))


async def test_a_deployment_whose_nodes_are_awaited_is_not_offline(happen: Happen, ask: ReadModels):
    async def state() -> tuple[str, str | None]:
        found = await ask.deployment_facts("acme", "d1")
        assert found is not None
        return found["state"], found["facts"]["acknowledged"]

    def lives(state: LivenessState, heard: int, seconds: float) -> LivenessReported:
        return LivenessReported(
            organization="acme", name="local", at=at(seconds), state=state, nodes=1, heard=heard
        )

    happen(started("d1"))
    happen(node("n1", True, 1), delivery("d1", "acknowledged", 3, node="n1"), topic="status")
    happen(lives("healthy", 1, 4), node("n1", False, 9), topic="status")
    assert await state() == ("pending", at(3))
    happen(lives("offline", 0, 40), topic="status")
    assert await state() == ("offline", at(3))
