"""Which revision of each API is live on each gateway, whatever was asked for later."""

from typing import Any

from projections.queries import ReadModels
from tests.projections.conftest import Happen
from tests.projections.events import at, delivery, node, project, started, stopped, superseded


async def live(ask: ReadModels, **asked: Any) -> list[tuple[str, str, int, str]]:
    found = await ask.live("acme", **asked)
    return [(e["gateway"], e["api"], e["revision"], e["deployment"]) for e in found]


async def test_the_last_acknowledged_revision_is_live_although_its_successor_is_refused(
    happen: Happen, ask: ReadModels
):
    happen(started("d4", revision=4), superseded("d4", "d5"), started("d5", revision=5))
    happen(
        node("n1", True, 1, connection="c1"),
        delivery("d4", "published", 2, revision=4, position=1),
        delivery("d4", "acknowledged", 3, revision=4, position=1, node="n1"),
        delivery("d5", "published", 4, revision=5, position=3),
        delivery("d5", "refused", 5, revision=5, position=3, node="n1", reason="bad regex"),
        delivery("d4", "published", 6, revision=4, position=3),
        topic="status",
    )

    assert await ask.live("acme") == [
        {
            "gateway": "local",
            "api": "orders",
            "revision": 4,
            "deployment": "d4",
            "since": at(3),
            "nodes": {"connected": 1, "acknowledged": 1},
        }
    ]
    found = await ask.facts_of("acme", ["d4", "d5"])
    assert (found["d4"]["state"], found["d4"]["live"]) == ("stopped", ["local"])
    assert (found["d5"]["state"], found["d5"]["live"]) == ("refused", [])
    assert found["d5"]["gateways"]["local"]["live"] == {"deployment": "d4", "revision": 4, "since": at(3)}


async def test_a_later_deployment_is_live_once_a_node_has_it(happen: Happen, ask: ReadModels):
    happen(started("d1"), superseded("d1", "d2"), started("d2", revision=2))
    happen(
        node("n1", True, 1, connection="c1"),
        node("n2", True, 1, connection="c2"),
        delivery("d1", "published", 2, position=1),
        delivery("d1", "acknowledged", 2, position=1, node="n1"),
        delivery("d1", "acknowledged", 2, position=1, node="n2"),
        delivery("d2", "published", 3, revision=2, position=3),
        topic="status",
    )
    assert await live(ask) == [("local", "orders", 1, "d1")]

    happen(delivery("d2", "acknowledged", 4, revision=2, position=3, node="n1"), topic="status")

    assert await live(ask) == [("local", "orders", 2, "d2")]
    assert (await ask.live("acme"))[0]["nodes"] == {"connected": 2, "acknowledged": 1}


async def test_a_late_answer_to_an_older_deployment_changes_nothing(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2", revision=2))
    happen(
        node("n1", True, 1, connection="c1"),
        node("slow", True, 1, connection="c2"),
        delivery("d1", "published", 2, position=1),
        delivery("d2", "published", 3, revision=2, position=2),
        delivery("d2", "acknowledged", 4, revision=2, position=2, node="n1"),
        delivery("d1", "acknowledged", 5, position=1, node="slow"),
        topic="status",
    )
    assert await live(ask) == [("local", "orders", 2, "d2")]


async def test_the_revision_that_the_gateway_goes_back_to_is_live_again(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2", revision=2))
    happen(
        node("n1", True, 1, connection="c1"),
        delivery("d1", "published", 2, position=1),
        delivery("d1", "acknowledged", 2, position=1, node="n1"),
        delivery("d2", "published", 3, revision=2, position=2),
        delivery("d2", "acknowledged", 4, revision=2, position=2, node="n1"),
        delivery("d2", "refused", 5, revision=2, position=2, node="n2", reason="no memory"),
        delivery("d1", "published", 6, position=3),
        delivery("d1", "acknowledged", 7, position=3, node="n1"),
        topic="status",
    )
    assert await live(ask) == [("local", "orders", 1, "d1")]
    assert [await live(ask, as_of=at(s)) for s in (1, 2, 4, 6, 7)] == [
        [],
        [("local", "orders", 1, "d1")],
        [("local", "orders", 2, "d2")],
        [("local", "orders", 2, "d2")],
        [("local", "orders", 1, "d1")],
    ]


async def test_going_back_to_a_deployment_does_not_move_the_times_of_its_facts(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"), project("other"), superseded("d1", "d2"), started("d2", revision=2))
    happen(
        node("n1", True, 1, connection="c1"),
        delivery("d1", "published", 1.5, position=1),
        delivery("d1", "acknowledged", 2, position=1, node="n1"),
        delivery("d1", "serving", 2.5, position=1, node="n1"),
        topic="status",
    )
    before = (await ask.facts_of("acme", ["d1"]))["d1"]["facts"]

    happen(
        delivery("d2", "published", 5, revision=2, position=4),
        delivery("d2", "refused", 6, revision=2, position=4, node="n1", reason="bad regex"),
        delivery("d1", "published", 7, position=4),
        delivery("d1", "acknowledged", 8, position=4, node="n1"),
        topic="status",
    )

    assert (before["acknowledged"], before["serving"]) == (at(2), at(2.5))
    assert (await ask.facts_of("acme", ["d1"]))["d1"]["facts"] == before
    assert (await ask.facts_of("acme", ["d1"], at(9)))["d1"]["facts"]["acknowledged"] == at(2)


async def test_a_node_that_catches_up_makes_its_acknowledged_revisions_live(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2", api="carts"))
    happen(
        delivery("d1", "published", 2, position=1),
        delivery("d2", "published", 2, api="carts", position=2),
        node("n1", True, 3, connection="c1", acknowledged=0),
        topic="status",
    )
    assert await live(ask) == []

    pending = [{"deployment": "d1", "state": "pending"}]
    happen(node("n1", True, 4, connection="c1", acknowledged=2, exceptions=pending), topic="status")
    assert await live(ask) == [("local", "carts", 1, "d2")]

    happen(node("n1", True, 5, connection="c1", acknowledged=2), topic="status")
    assert await live(ask) == [("local", "carts", 1, "d2"), ("local", "orders", 1, "d1")]


async def test_a_live_revision_stays_live_when_the_last_node_leaves(happen: Happen, ask: ReadModels):
    happen(started("d1"))
    happen(node("n1", True, 1), delivery("d1", "acknowledged", 2, node="n1"), topic="status")
    happen(node("n1", False, 3), topic="status")

    (entry,) = await ask.live("acme")

    assert (entry["deployment"], entry["nodes"]) == ("d1", {"connected": 0, "acknowledged": 0})


async def test_an_earlier_live_revision_is_answered_without_nodes(happen: Happen, ask: ReadModels):
    happen(started("d1"), stopped("d1"))
    happen(
        node("n1", True, 0.5),
        delivery("d1", "acknowledged", 1.5, node="n1"),
        delivery("d1", "withdrawn", 2.5, node="n1"),
        topic="status",
    )

    assert await ask.live("acme", as_of=at(1.4)) == []
    (entry,) = await ask.live("acme", as_of=at(2.4))
    assert (entry["deployment"], entry["since"], entry["nodes"]) == ("d1", at(1.5), None)
    assert await live(ask, as_of=2) == [("local", "orders", 1, "d1")]
    assert await ask.live("acme", as_of=at(2.5)) == []


async def test_a_deployment_stopped_while_no_node_was_connected_is_over_since_then(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"), started("d2", api="carts"), stopped("d1"))
    happen(
        node("n1", True, 0.5),
        delivery("d1", "acknowledged", 1.5, node="n1"),
        node("n1", False, 2),
        topic="status",
    )

    assert [await live(ask, as_of=at(s)) for s in (2.5, 3.5)] == [[("local", "orders", 1, "d1")], []]


async def test_it_is_asked_by_gateway_and_api_and_in_pages(happen: Happen, ask: ReadModels):
    apis = [f"api-{i}" for i in range(5)]
    happen(*(started(f"d-{api}", ("a", "b"), api=api) for api in apis))
    happen(
        *(
            delivery(f"d-{api}", "acknowledged", 2, api=api, gateway=gateway, node="n1")
            for api in apis
            for gateway in ("a", "b")
        ),
        topic="status",
    )

    everything = await live(ask)
    first = await live(ask, limit=3)

    assert [entry[:2] for entry in everything] == [(g, api) for g in ("a", "b") for api in apis]
    assert first == everything[:3]
    assert await live(ask, after=(first[-1][0], first[-1][1])) == everything[3:]
    assert await live(ask, gateways=["b"]) == everything[5:]
    assert [entry[0] for entry in await live(ask, apis=["api-1"])] == ["a", "b"]
    assert await live(ask, gateways=["b"], apis=["api-1"], as_of=at(5)) == [everything[6]]


async def test_a_node_that_never_connected_does_not_count(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2", revision=2))
    happen(
        node("n1", True, 1, connection="c1"),
        delivery("d1", "published", 1, position=1),
        delivery("d1", "acknowledged", 1, node="n1", position=1),
        delivery("d2", "published", 2, revision=2, position=2),
        delivery("d2", "acknowledged", 2, revision=2, node="n2", position=2),
        topic="status",
    )
    (entry,) = await ask.live("acme")
    assert (entry["deployment"], entry["nodes"]) == ("d2", {"connected": 1, "acknowledged": 0})


async def test_an_earlier_revision_is_over_when_its_successor_is_stopped_while_no_node_is_connected(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"), superseded("d1", "d2"), started("d2", revision=2))
    happen(
        node("n1", True, 0.5),
        delivery("d1", "acknowledged", 1.5, node="n1", position=1),
        delivery("d2", "refused", 3.5, node="n1", position=3, reason="bad regex"),
        node("n1", False, 3.6),
        topic="status",
    )
    assert await live(ask) == [("local", "orders", 1, "d1")]

    happen(stopped("d2"))

    assert await live(ask) == []
    assert (await ask.facts_of("acme", ["d1"]))["d1"]["live"] == []
    assert [await live(ask, as_of=at(s)) for s in (3.9, 4)] == [[("local", "orders", 1, "d1")], []]


async def test_a_late_acknowledgement_does_not_bring_back_a_withdrawn_deployment(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"))
    happen(
        node("n0", True, 1, connection="c0"),
        node("n1", True, 1, connection="c1"),
        delivery("d1", "published", 2, position=1),
        delivery("d1", "refused", 3, position=1, node="n0", reason="bad regex"),
        delivery("d1", "refused", 3, position=1, reason="bad regex"),
        delivery("d1", "acknowledged", 4, position=1, node="n1", connection="c1"),
        delivery("d1", "withdrawn", 5, position=1, node="n0", connection="c0"),
        delivery("d1", "withdrawn", 5, position=1, node="n1", connection="c1"),
        node("n0", True, 6, connection="c0", acknowledged=9),
        node("n1", True, 6, connection="c1", acknowledged=9),
        topic="status",
    )
    assert await live(ask) == []
    found = (await ask.facts_of("acme", ["d1"]))["d1"]
    assert (found["state"], [r["reason"] for r in found["refusals"]]) == ("refused", ["bad regex"])


async def test_a_second_report_of_publication_for_the_same_event_changes_nothing(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"))
    happen(
        node("n1", True, 1, connection="c1"),
        delivery("d1", "published", 2, position=1, version="v"),
        delivery("d1", "acknowledged", 3, position=1, node="n1", connection="c1"),
        topic="status",
    )
    before = await ask.facts_of("acme", ["d1"])
    happen(delivery("d1", "published", 9, position=1), topic="status")
    assert await ask.facts_of("acme", ["d1"]) == before
