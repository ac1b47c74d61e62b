"""What gateways report becomes the facts of deployments."""

from projections.queries import ReadModels
from tests.projections.conftest import Happen
from tests.projections.events import at, delivery, node, outcome, started, stopped, superseded


async def test_the_facts_come_one_after_the_other(happen: Happen, ask: ReadModels):
    happen(started("d1"))

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


async def test_acknowledged_means_by_every_target(happen: Happen, ask: ReadModels):
    happen(started("d1", ("a", "b")))
    happen(
        node("n1", True, 1, gateway="a"),
        node("n2", True, 1, gateway="a"),
        delivery("d1", "acknowledged", 2, gateway="a", node="n1"),
        delivery("d1", "acknowledged", 3, gateway="b", node="n9"),
        topic="status",
    )
    assert await _state(ask, "d1") == "pending"

    happen(delivery("d1", "acknowledged", 4, gateway="a", node="n2"), topic="status")

    found = await ask.deployment_facts("acme", "d1")
    assert found is not None
    assert (found["state"], found["facts"]["acknowledged"]) == ("acknowledged", at(4))


async def test_a_node_that_left_is_not_waited_for(happen: Happen, ask: ReadModels):
    happen(started("d1"))
    happen(
        node("n1", True, 1), node("n2", True, 1), delivery("d1", "acknowledged", 2, node="n1"), topic="status"
    )
    assert await _state(ask, "d1") == "pending"

    happen(node("n2", False, 3), topic="status")

    assert await _state(ask, "d1") == "acknowledged"


async def test_first_and_last_occurrence_are_kept(happen: Happen, ask: ReadModels):
    happen(started("d1"))
    happen(
        delivery("d1", "acknowledged", 2, node="n1", version="aa"),
        delivery("d1", "acknowledged", 3, node="n1", version="bb"),
        topic="status",
    )
    happen(delivery("d1", "acknowledged", 9, node="n1", version="cc"), topic="status")

    found = await ask.deployment_facts("acme", "d1")

    assert found is not None
    assert found["gateways"]["local"]["nodes"]["n1"] == {
        "acknowledged": {"first_at": at(2), "last_at": at(9), "version": "cc", "reason": ""}
    }


async def test_a_refusal_shows_its_reason_until_it_is_taken(happen: Happen, ask: ReadModels):
    happen(started("d1"))
    happen(delivery("d1", "refused", 2, node="n1", reason="bad regex"), topic="status")

    found = await ask.deployment_facts("acme", "d1")
    assert found is not None
    assert (found["state"], found["facts"]["refused"]) == ("refused", at(2))
    assert found["refusals"] == [{"gateway": "local", "node": "n1", "at": at(2), "reason": "bad regex"}]

    happen(delivery("d1", "acknowledged", 3, node="n1"), topic="status")
    found = await ask.deployment_facts("acme", "d1")
    assert found is not None
    assert (found["state"], found["refusals"]) == ("acknowledged", [])


async def test_a_refusal_for_the_whole_gateway_counts_beside_none_of_a_node(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2"))
    happen(
        delivery("d1", "refused", 2, node="n1", reason="bad regex"),
        delivery("d1", "refused", 3, reason="bad regex"),
        delivery("d2", "refused", 3, reason="too large"),
        topic="status",
    )

    found = await ask.facts_of("acme", ["d1", "d2"])

    assert [f["state"] for f in found.values()] == ["refused", "refused"]
    assert [[r["node"] for r in f["refusals"]] for f in found.values()] == [["n1"], ["*"]]


async def test_stopped_and_superseded_are_stopped(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2"), superseded("d1", "d2"), stopped("d2"))
    happen(delivery("d2", "acknowledged", 2, node="n1"), topic="status")

    assert await _state(ask, "d1") == "stopped"
    found = await ask.deployment_facts("acme", "d2")
    assert found is not None
    assert (found["state"], found["facts"]["acknowledged"]) == ("stopped", at(2))


async def test_facts_of_many_equal_those_of_each(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2"))
    happen(
        node("n1", True, 1, agent="envoy 1.40.0"),
        delivery("d1", "acknowledged", 2, node="n1"),
        delivery("d2", "refused", 2, node="n1", reason="no"),
        topic="status",
    )

    many = await ask.facts_of("acme", ["d1", "d2", "nobody"])

    assert many == {d: await ask.deployment_facts("acme", d) for d in ("d1", "d2")}
    assert await ask.deployment_facts("acme", "nobody") is None


async def test_facts_as_of_then(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2"))
    happen(
        delivery("d1", "published", 1.5),
        delivery("d1", "acknowledged", 1.8, node="n1"),
        delivery("d1", "serving", 2.5, node="n1"),
        delivery("d1", "acknowledged", 7, node="n1"),
        topic="status",
    )

    async def state(as_of: int | str) -> str:
        found = await ask.deployment_facts("acme", "d1", as_of=as_of)
        assert found is not None
        return found["state"]

    assert [await state(at(s)) for s in (1, 1.6, 1.9, 2.5)] == [
        "pending",
        "pending",
        "acknowledged",
        "serving",
    ]
    assert [await state(p) for p in (1, 2)] == ["pending", "acknowledged"]


async def test_nodes_of_a_gateway(happen: Happen, ask: ReadModels):
    happen(node("n2", True, 1), node("n1", True, 2, agent="envoy 1.40.0"), topic="status")
    happen(node("n1", False, 5), topic="status")

    assert await ask.nodes("acme", "local") == [
        {"node": "n1", "connected": False, "agent": "envoy 1.40.0", "first_seen": at(2), "last_seen": at(5)},
        {"node": "n2", "connected": True, "agent": "", "first_seen": at(1), "last_seen": at(1)},
    ]
    assert await ask.nodes("acme", "elsewhere") == []


async def test_the_first_outcome_of_a_command_stands(happen: Happen, ask: ReadModels):
    first = outcome("c1", accepted=False, rule="not-found", message="There is none.")
    happen(first, topic="outcomes")
    happen(outcome("c1"), outcome("c2"), topic="outcomes")

    assert await ask.operation("c1") == first.data()
    assert await ask.operation("c2", organization="other") is None
    assert await ask.operation("c3") is None


async def test_what_was_said_of_an_id_besides_gives_way_to_its_decision(happen: Happen, ask: ReadModels):
    happen(outcome("c1", accepted=False, rule="unauthorized", message="Expired."), topic="outcomes")
    said = await ask.operation("c1")
    assert said is not None
    assert said["rule"] == "unauthorized"
    happen(outcome("c1"), topic="outcomes")
    happen(outcome("c1", accepted=False, rule="command-id-reused", message="Again."), topic="outcomes")
    assert await ask.operation("c1") == outcome("c1").data()


async def _state(ask: ReadModels, deployment: str) -> str:
    found = await ask.deployment_facts("acme", deployment)
    assert found is not None
    return found["state"]
