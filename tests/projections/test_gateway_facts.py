"""What the nodes of a gateway run, compared with what is to run there."""

from typing import Any

from projections.deliveries.gateway_facts import MOST_REFUSALS
from projections.queries import ReadModels
from schemas.message import Message
from schemas.status import NodeReported
from tests.projections.conftest import Happen
from tests.projections.events import at, delivery, node, started, stopped, superseded


def connected(*names: str) -> list[NodeReported]:
    return [node(name, True, 0) for name in names]


async def test_a_node_is_compared_with_the_deployments_in_force(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2"), started("d3"), started("elsewhere", ("other", "localx")))
    happen(
        *connected("n1", "n2", "n3"),
        delivery("d1", "published", 1),
        delivery("d1", "acknowledged", 2, node="n1"),
        delivery("d2", "acknowledged", 2, api="carts", node="n1"),
        delivery("d1", "acknowledged", 3, node="n2"),
        delivery("elsewhere", "acknowledged", 3, gateway="other", node="n9"),
        node("n4", False, 4),
        topic="status",
    )

    found = (await ask.gateway_page("acme", "local")).facts

    assert found.desired == 3
    assert found.nodes == {
        "n1": {"acknowledged": 2, "refused": 0, "pending": 1, "withheld": 0},
        "n2": {"acknowledged": 1, "refused": 0, "pending": 2, "withheld": 0},
        "n3": {"acknowledged": 0, "refused": 0, "pending": 3, "withheld": 0},
    }
    assert (found.refused, found.refusals) == (0, [])


async def test_a_deployment_no_longer_in_force_does_not_count(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2"), started("d3", ("local", "other")))
    reported = [delivery(d, "refused", 2, node="n1", reason="bad") for d in ("d1", "d2", "d3")]
    happen(*connected("n1"), *reported, topic="status")
    happen(superseded("d1", "d2", ()), stopped("d2"), superseded("d3", "d4", ("other",)))

    found = (await ask.gateway_page("acme", "local")).facts

    assert (found.desired, found.refused, found.refusals) == (0, 0, [])
    assert found.nodes == {"n1": {"acknowledged": 0, "refused": 0, "pending": 0, "withheld": 0}}


async def test_all_deployments_that_a_node_caught_up_with_count_except_the_reported_ones(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"), started("d2", api="carts"), started("d3", api="bills"))
    happen(
        delivery("d1", "published", 1, position=1),
        delivery("d2", "published", 1, api="carts", position=2),
        delivery("d3", "published", 1, api="bills", position=3),
        node("n0", True, 1, connection="c0", acknowledged=3),
        node(
            "n1",
            True,
            2,
            connection="c1",
            acknowledged=2,
            exceptions=[{"deployment": "d2", "state": "refused", "reason": "bad regex"}],
        ),
        topic="status",
    )

    found = (await ask.gateway_page("acme", "local")).facts

    assert found.nodes == {
        "n0": {"acknowledged": 3, "refused": 0, "pending": 0, "withheld": 0},
        "n1": {"acknowledged": 1, "refused": 1, "pending": 1, "withheld": 0},
    }
    assert (found.desired, found.withheld, found.refused) == (3, 0, 1)


async def test_a_refusal_stands_until_the_node_takes_it(happen: Happen, ask: ReadModels):
    happen(started("d1"), started("d2"))
    happen(
        *connected("n1", "n2"),
        delivery("d1", "acknowledged", 2, node="n1"),
        delivery("d1", "refused", 3, node="n1", reason="bad regex"),
        delivery("d1", "refused", 4, node="n2", reason="bad regex"),
        delivery("d2", "refused", 5, api="carts", reason="unsupported"),
        topic="status",
    )

    found = (await ask.gateway_page("acme", "local")).facts

    assert found.nodes == {
        "n1": {"acknowledged": 0, "refused": 1, "pending": 0, "withheld": 1},
        "n2": {"acknowledged": 0, "refused": 1, "pending": 0, "withheld": 1},
    }
    known = {"api": "orders", "revision": 1}
    assert (found.refused, found.withheld) == (2, 1)
    assert found.refusals == [
        {
            "deployment": "d2",
            **known,
            "reason": "unsupported",
            "at": at(5),
            "nodes": 0,
            "refused_by": "*",
            "withheld": True,
        },
        {
            "deployment": "d1",
            **known,
            "reason": "bad regex",
            "at": at(4),
            "nodes": 2,
            "refused_by": "n2",
            "withheld": False,
        },
    ]

    happen(delivery("d1", "acknowledged", 6, node="n1"), topic="status")
    happen(delivery("d1", "acknowledged", 7, node="n2"), topic="status")

    found = (await ask.gateway_page("acme", "local")).facts
    assert found.nodes["n1"] == {"acknowledged": 1, "refused": 0, "pending": 0, "withheld": 1}
    assert [r["deployment"] for r in found.refusals] == ["d2"]


async def test_a_withdrawn_deployment_that_a_node_refused_is_withheld(happen: Happen, ask: ReadModels):
    happen(started("d1"), superseded("d1", "d2"), started("d2", revision=2), started("d3", api="carts"))
    happen(
        *connected("n1"),
        delivery("d1", "acknowledged", 2, position=1, node="n1"),
        delivery("d3", "acknowledged", 2, api="carts", position=1, node="n1"),
        delivery("d2", "published", 3, revision=2, position=3),
        delivery("d2", "refused", 4, revision=2, position=3, node="n1", reason="bad regex"),
        delivery("d2", "refused", 5, revision=2, position=3, reason="a node refused it"),
        delivery("d1", "published", 5, position=3),
        delivery("d1", "acknowledged", 6, position=3, node="n1"),
        topic="status",
    )

    found = (await ask.gateway_page("acme", "local")).facts

    (refusal,) = found.refusals
    assert (refusal["nodes"], refusal["refused_by"], refusal["reason"]) == (0, "n1", "bad regex")
    assert (found.desired, found.withheld) == (2, 1)
    assert found.nodes == {"n1": {"acknowledged": 1, "refused": 0, "pending": 0, "withheld": 1}}


async def test_a_node_that_was_never_sent_a_rejected_deployment_has_not_refused_it(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"))
    withheld = [{"deployment": "d1", "state": "pending", "reason": ""}]
    happen(
        node("n1", True, 1, connection="c1", acknowledged=0),
        node("n2", True, 1, connection="c2", acknowledged=0),
        delivery("d1", "published", 2, position=3),
        delivery("d1", "refused", 3, position=3, node="n1", connection="c1", reason="bad regex"),
        node("n2", True, 4, connection="c2", acknowledged=3, exceptions=withheld),
        topic="status",
    )

    found = (await ask.gateway_page("acme", "local")).facts

    (refusal,) = found.refusals
    assert (refusal["nodes"], refusal["refused_by"], refusal["reason"]) == (1, "n1", "bad regex")
    assert found.nodes == {
        "n1": {"acknowledged": 0, "refused": 1, "pending": 0, "withheld": 0},
        "n2": {"acknowledged": 0, "refused": 0, "pending": 1, "withheld": 0},
    }
    facts = await ask.deployment_facts("acme", "d1")
    assert facts is not None
    assert (facts["state"], [r["node"] for r in facts["refusals"]]) == ("pending", ["n1"])

    happen(delivery("d1", "refused", 5, position=3, reason="bad regex"), topic="status")

    assert (await ask.gateway_page("acme", "local")).facts.nodes["n2"]["withheld"] == 1
    facts = await ask.deployment_facts("acme", "d1")
    assert facts is not None
    assert (facts["state"], [r["node"] for r in facts["refusals"]]) == ("refused", ["n1"])


def rejected_once() -> list[Message]:
    """`d1` serves; `d2`, published because of the event at 3, is rejected by the only node."""
    return [
        node("n1", True, 1, connection="c1"),
        delivery("d1", "published", 1, position=1),
        delivery("d1", "acknowledged", 1, position=1, node="n1", connection="c1"),
        delivery("d2", "published", 2, revision=2, position=3, version="v2"),
        delivery("d2", "refused", 3, revision=2, position=3, node="n1", connection="c1", reason="bad regex"),
    ]


async def refusal_and_state(ask: ReadModels) -> tuple[dict[str, Any], str]:
    """The only refusal of the gateway, and the state of its deployment, which shows the same one."""
    found = (await ask.gateway_page("acme", "local")).facts
    facts = await ask.deployment_facts("acme", "d2")
    assert facts is not None
    assert [r["deployment"] for r in found.refusals] == ["d2"]
    (shown,) = found.refusals
    assert [(r["node"], r["reason"], r["at"]) for r in facts["refusals"]] == [
        (shown["refused_by"], shown["reason"], shown["at"])
    ]
    assert found.refused == 1
    return dict(shown), facts["state"]


async def test_given_a_rejection_without_a_verdict_when_the_node_leaves_then_it_is_still_shown(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"), superseded("d1", "d2"), started("d2", revision=2))
    happen(*rejected_once(), topic="status")
    shown, state = await refusal_and_state(ask)
    assert (shown["nodes"], shown["withheld"], state) == (1, False, "refused")

    happen(node("n1", False, 4, connection="c1"), topic="status")

    shown, state = await refusal_and_state(ask)
    assert (shown["nodes"], shown["withheld"], state) == (0, False, "refused")

    pending = [{"deployment": "d2", "state": "pending", "reason": ""}]
    again = node("n1", True, 5, connection="c2", acknowledged=3, exceptions=pending)
    happen(again, topic="status")

    shown, state = await refusal_and_state(ask)
    assert (shown["nodes"], shown["withheld"], state) == (0, False, "pending")
    found = (await ask.gateway_page("acme", "local")).facts
    assert found.withheld == 0
    assert found.nodes == {"n1": {"acknowledged": 0, "refused": 0, "pending": 1, "withheld": 0}}

    happen(
        delivery("d2", "refused", 6, revision=2, position=3, reason="bad regex"),
        delivery("d1", "published", 6, position=3, version="v1"),
        topic="status",
    )

    shown, state = await refusal_and_state(ask)
    assert (shown["nodes"], shown["withheld"], shown["refused_by"], state) == (0, True, "n1", "refused")
    assert (await ask.gateway_page("acme", "local")).facts.withheld == 1


async def test_a_rejection_by_a_connected_node_is_shown_before_one_by_a_node_that_left(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"), superseded("d1", "d2"), started("d2", revision=2))
    happen(
        *rejected_once(),
        node("n2", True, 4, connection="c3"),
        delivery("d2", "refused", 5, revision=2, position=3, node="n2", connection="c3", reason="no memory"),
        node("n2", False, 6, connection="c3"),
        topic="status",
    )

    shown, _ = await refusal_and_state(ask)
    assert (shown["nodes"], shown["refused_by"], shown["reason"]) == (1, "n1", "bad regex")


async def test_a_rejection_that_was_reported_before_the_publication_is_still_shown_when_the_node_leaves(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"), superseded("d1", "d2"), started("d2", revision=2))
    *before, published, rejected = rejected_once()
    happen(*before, rejected, published, topic="status")
    shown, state = await refusal_and_state(ask)
    assert (shown["nodes"], state) == (1, "refused")

    happen(node("n1", False, 4, connection="c1"), topic="status")

    shown, state = await refusal_and_state(ask)
    assert (shown["nodes"], shown["withheld"], shown["refused_by"], state) == (0, False, "n1", "refused")


async def test_a_deployment_acknowledged_before_its_publication_was_reported_is_not_rejected(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"))
    happen(
        node("n1", True, 1, connection="c1"),
        node("n2", True, 1, connection="c2"),
        delivery("d1", "acknowledged", 2, position=1, node="n1", connection="c1"),
        delivery("d1", "published", 2, position=1, version="v1"),
        delivery("d1", "refused", 3, position=1, node="n2", connection="c2", reason="no memory"),
        topic="status",
    )
    facts = await ask.deployment_facts("acme", "d1")
    assert facts is not None
    assert facts["state"] == "partly-refused"

    happen(node("n2", False, 4, connection="c2"), topic="status")

    assert (await ask.gateway_page("acme", "local")).facts.refusals == []
    facts = await ask.deployment_facts("acme", "d1")
    assert facts is not None
    assert (facts["state"], facts["refusals"]) == ("acknowledged", [])


async def test_a_deployment_refused_for_the_gateway_and_published_later_is_pending(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"))
    happen(
        node("n1", True, 1, connection="c1"),
        delivery("d1", "refused", 2, position=1, reason="not supported"),
        delivery("d1", "published", 3, position=1, version="v1"),
        topic="status",
    )

    assert (await ask.gateway_page("acme", "local")).facts.refusals == []
    facts = await ask.deployment_facts("acme", "d1")
    assert facts is not None
    assert (facts["state"], facts["refusals"]) == ("pending", [])


async def test_given_a_rejection_when_gateway_sync_reports_it_as_published_again_then_it_is_still_shown(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"), superseded("d1", "d2"), started("d2", revision=2))
    again = delivery("d2", "published", 5, revision=2, position=3)  # what a start reports has no version
    happen(*rejected_once(), node("n1", False, 4, connection="c1"), again, topic="status")

    shown, state = await refusal_and_state(ask)
    assert (shown["nodes"], shown["refused_by"], state) == (0, "n1", "refused")

    happen(delivery("d2", "refused", 6, revision=2, position=3, reason="bad regex"), topic="status")

    shown, state = await refusal_and_state(ask)
    assert (shown["withheld"], shown["refused_by"], state) == (True, "n1", "refused")


async def test_given_a_gateway_that_went_back_when_an_acknowledgement_comes_late_then_it_is_still_refused(
    happen: Happen, ask: ReadModels
):
    happen(started("d1"), superseded("d1", "d2"), started("d2", revision=2))
    happen(
        *rejected_once(),
        node("n2", True, 3, connection="c3"),
        delivery("d2", "refused", 4, revision=2, position=3, reason="bad regex"),
        delivery("d1", "published", 4, position=3, version="v1"),
        delivery("d2", "acknowledged", 5, revision=2, position=3, node="n2", connection="c3"),
        delivery("d1", "acknowledged", 6, position=3, node="n1", connection="c1"),
        delivery("d1", "acknowledged", 6, position=3, node="n2", connection="c3"),
        topic="status",
    )

    shown, state = await refusal_and_state(ask)
    assert (shown["nodes"], shown["withheld"], shown["refused_by"], state) == (0, True, "n1", "refused")
    withheld = {"acknowledged": 0, "refused": 0, "pending": 0, "withheld": 1}
    assert (await ask.gateway_page("acme", "local")).facts.nodes == {"n1": withheld, "n2": withheld}


async def test_refusals_are_bounded_and_counted(happen: Happen, ask: ReadModels):
    names = [f"d{i}" for i in range(MOST_REFUSALS + 5)]
    happen(*map(started, names))
    happen(
        *connected("n1"),
        *(delivery(d, "refused", 2 + i, api=d, node="n1", reason="bad") for i, d in enumerate(names)),
        topic="status",
    )

    found = (await ask.gateway_page("acme", "local")).facts

    assert found.refused == len(names)
    assert [r["deployment"] for r in found.refusals] == names[:4:-1]
