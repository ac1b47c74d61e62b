"""Gateway sync that ends at any moment: what was acknowledged, and what was rejected, is not forgotten."""

import asyncio
from contextlib import suppress

from schemas.status import DeliveryReported
from streams.log import LogUnavailable
from tests.commands.shop import deploy, publish, spec
from tests.streams.test_gateway_status import Apart, acknowledged, apart, node, refused
from tests.streams.test_gateway_sync import EAST

__all__ = ["apart"]
OTHER = spec(url="http://127.0.0.1:9001")
THIRD = spec(url="http://127.0.0.1:9002")


async def test_a_rejection_that_comes_after_a_restart_takes_the_deployment_back(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    await apart.say(acknowledged(apart.routes("orders"), "d1"))
    await apart.do(publish(of=OTHER), deploy(), ids=("p2", "d2"))
    bad = apart.routes("orders")
    await apart.start()
    await apart.say(refused(bad, "d2"))
    assert apart.deployments("orders") == [("orders", 1)]


async def test_a_rejection_while_gateway_sync_was_stopped_withdraws_the_deployment(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    await apart.say(acknowledged(apart.routes("orders"), "d1"))
    await apart.do(publish(of=OTHER), deploy(), ids=("p2", "d2"))
    await apart.report(refused(apart.routes("orders"), "d2"))
    await apart.start()
    await apart.read()
    assert apart.deployments("orders") == [("orders", 1)]


async def test_an_acknowledgement_while_gateway_sync_was_stopped_counts(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    await apart.report(acknowledged(apart.routes("orders"), "d1"))
    await apart.start()
    await apart.read()
    await apart.do(publish(of=OTHER), deploy(), ids=("p2", "d2"))
    await apart.say(refused(apart.routes("orders"), "d2"))
    assert apart.deployments("orders") == [("orders", 1)]


async def test_an_acknowledgement_counts_whose_entry_was_superseded_before_a_restart(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    first = apart.routes("orders")
    await apart.do(publish(of=OTHER), deploy(), ids=("p2", "d2"))
    await apart.start()
    await apart.say(acknowledged(first, "d1"))
    await apart.do(publish(of=THIRD), deploy(), ids=("p3", "d3"))
    await apart.say(refused(apart.routes("orders"), "d3"))
    await apart.say(refused(apart.routes("orders"), "d2"))
    assert apart.deployments("orders") == [("orders", 1)]


async def test_a_restart_does_not_take_an_unacknowledged_entry_for_acknowledged(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    await apart.start()
    await apart.say(refused(apart.routes("orders"), "d1"))
    assert apart.deployments("orders") == []


async def test_suspects_that_were_not_tried_yet_are_tried_after_a_restart(apart: Apart):
    await apart.do(*(publish(n, spec(f"/shop/{n}")) for n in "abc"))
    await apart.do(*(deploy(n) for n in "abc"), ids=("da", "db", "dc"))
    await apart.say(refused(apart.routes("shop"), "da"))
    assert apart.deployments("shop") == [("a", 1)]
    await apart.start()
    await apart.say(acknowledged(apart.routes("shop"), "da"))
    await apart.start()
    await apart.say(refused(apart.routes("shop"), "db"))
    assert apart.deployments("shop") == [("a", 1), ("c", 1)]


async def test_a_late_acknowledgement_of_an_older_revision_is_not_gone_back_to(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    first = apart.routes("orders")
    await apart.do(publish(of=OTHER), deploy(), ids=("p2", "d2"))
    await apart.say(acknowledged(apart.routes("orders"), "d2"), acknowledged(first, "d1"))
    await apart.do(publish(of=THIRD), deploy(), ids=("p3", "d3"))
    await apart.say(acknowledged(first, "d1"), refused(apart.routes("orders"), "d3"))
    assert apart.deployments("orders") == [("orders", 2)]


async def test_an_unanswered_revision_is_tried_before_the_last_good_one(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    await apart.say(acknowledged(apart.routes("orders"), "d1"))
    await apart.do(publish(of=OTHER), deploy(), ids=("p2", "d2"))
    await apart.do(publish(of=THIRD), deploy(), ids=("p3", "d3"))
    await apart.say(refused(apart.routes("orders"), "d3"))
    assert apart.deployments("orders") == [("orders", 2)]
    await apart.say(refused(apart.routes("orders"), "d2"))
    assert apart.deployments("orders") == [("orders", 1)]


async def test_an_api_that_moved_and_is_rejected_comes_back_where_it_was(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    await apart.say(acknowledged(apart.routes("orders"), "d1"))
    await apart.do(publish(of=spec("/sales")), deploy(), ids=("p2", "d2"))
    await apart.say(refused(apart.routes("sales"), "d2"))
    assert apart.deployments("sales") == []
    assert apart.deployments("orders") == [("orders", 1)]


async def test_a_node_acknowledges_all_up_to_a_position_but_for_its_exceptions(apart: Apart):
    await apart.do(*(publish(n, spec(f"/{n}")) for n in "abc"))
    await apart.do(*(deploy(n) for n in "abc"), ids=("da", "db", "dc"))
    await apart.say(node(apart.routes("b").position, "da"))
    await apart.say(*(refused(apart.routes(n), f"d{n}") for n in "abc"))
    assert [apart.deployments(n) for n in "abc"] == [[], [("b", 1)], []]


async def test_a_node_that_had_not_seen_the_trial_of_a_suspect_says_nothing_of_it(apart: Apart):
    await apart.do(*(publish(n, spec(f"/shop/{n}")) for n in "ab"))
    await apart.do(*(deploy(n) for n in "ab"), ids=("da", "db"))
    both = apart.routes("shop")
    await apart.say(refused(both, "da"), node(both.position))
    await apart.start()
    await apart.say(node(both.position), refused(apart.routes("shop"), "da"))
    assert apart.deployments("shop") == [("b", 1)]


async def test_a_node_that_says_so_again_after_the_trial_of_a_suspect_acknowledged_it(apart: Apart):
    await apart.do(*(publish(n, spec(f"/shop/{n}")) for n in "ab"))
    await apart.do(*(deploy(n) for n in "ab"), ids=("da", "db"))
    both = apart.routes("shop")
    await apart.say(refused(both, "da"), node(both.position), node(both.position))
    assert apart.deployments("shop") == [("a", 1)]
    await apart.start()
    await apart.say(node(both.position, "da"), node(both.position, "da"))
    assert apart.deployments("shop") == [("a", 1)]
    await apart.say(node(both.position))
    assert apart.deployments("shop") == [("a", 1)]
    await apart.say(node(both.position))
    assert apart.deployments("shop") == [("a", 1), ("b", 1)]


async def test_a_deployment_that_gateway_sync_withdraws_is_reported_refused_for_the_gateway(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    await apart.say(acknowledged(apart.routes("orders"), "d1"))
    await apart.do(publish(of=OTHER), deploy(), ids=("p2", "d2"))
    bad = apart.routes("orders")
    apart.reports.clear()
    await apart.say(refused(bad, "d2"))
    first, second = apart.reports
    assert (first.deployment, first.node, first.fact, first.reason) == ("d2", "*", "refused", "no")
    assert (first.api, first.revision, first.position) == ("orders", 2, bad.position)
    assert (second.deployment, second.fact, second.revision) == ("d1", "published", 1)


async def test_the_status_topic_is_read_on_from_where_it_was_read_to(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    await apart.say(acknowledged(apart.routes("orders"), "d1"))
    await apart.do(publish(of=OTHER), deploy(), ids=("p2", "d2"))
    followed = apart.sync.changes.followed
    await apart.start()
    assert apart.sync.changes.followed == followed == 1


async def test_the_position_on_the_status_topic_is_kept_even_when_nothing_is_deployed(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    await apart.say(acknowledged(apart.routes("orders"), "d1"))
    for _ in range(4):
        await apart.say(*[node(0)] * 500)
    await apart.start()
    assert apart.sync.changes.followed == 2001


async def test_a_status_topic_that_lost_its_end_is_followed_from_where_it_ends(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    apart.sync.changes.followed = 50
    await apart.do(publish(of=OTHER), deploy(), ids=("p2", "d2"))
    await apart.start()
    await apart.say(refused(apart.routes("orders"), "d2"), refused(apart.routes("orders"), "d2"))
    assert apart.deployments("orders") == [("orders", 1)]


async def test_a_put_not_reported_before_a_kill_is_reported_as_published(apart: Apart):
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    await apart.say(acknowledged(apart.routes("orders"), "d1"))
    await apart.do(publish(of=OTHER), deploy(), ids=("p2", "d2"))
    position = apart.routes("orders").position
    reports = await reported_at_start(apart)
    assert [(r.deployment, r.fact, r.revision, r.position) for r in reports] == [
        ("d2", "published", 2, position)
    ]


async def test_an_unreported_deployment_that_was_acknowledged_is_reported_after_a_kill(apart: Apart):
    apart.sync.changes.reported = refused_by_the_log
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    apart.sync.acknowledged(EAST, "c1", [apart.routes("orders")])
    with suppress(LogUnavailable):
        await apart.sync.drain_responses()
    await apart.do(publish("carts", spec("/carts")), deploy("carts"), ids=("p2", "d2"))
    assert [r.deployment for r in await reported_at_start(apart)] == ["d1", "d2"]


async def test_deployments_that_were_reported_are_not_reported_at_each_start(apart: Apart):
    await apart.do(*(publish(f"a{n}", spec(f"/a{n}")) for n in range(60)))
    await apart.do(*(deploy(f"a{n}") for n in range(60)))
    assert len(await reported_at_start(apart)) == 60
    await apart.sync.reconcile()
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    assert [r.deployment for r in await reported_at_start(apart)] == ["d1"]


async def refused_by_the_log() -> None:
    raise LogUnavailable("no space left")


async def reported_at_start(apart: Apart) -> list[DeliveryReported]:
    """What gateway sync reports when it starts again."""
    await apart.start()
    apart.reports.clear()
    following = asyncio.create_task(apart.sync.run())
    await asyncio.wait([following], timeout=0)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    return list(apart.reports)
