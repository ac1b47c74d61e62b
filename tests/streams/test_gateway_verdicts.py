"""Several nodes on one gateway: what single nodes reject, and when that is the verdict of the gateway."""

import asyncio
from pathlib import Path

import pytest

from streams.gateway_sync.verdicts import NODE_TIMEOUT_SECONDS, VERDICT_SECONDS
from tests.commands.shop import deploy, publish, spec
from tests.streams.test_gateway_status import Apart, acknowledged, apart, connection, node, refused
from tests.streams.test_gateway_sync import DEFAULT_RESOURCES, EAST, Harness, harness

__all__ = ["apart"]
OTHER = spec(url="http://127.0.0.1:9001")
THIRD = spec(url="http://127.0.0.1:9002")


async def second_revision(at: Harness) -> None:
    """Revision 1 is acknowledged, revision 2 in force; the nodes `good` and `rogue` are connected."""
    at.sync.connected(EAST, "good")
    at.sync.connected(EAST, "rogue")
    await at.do(*DEFAULT_RESOURCES, publish(), deploy())
    at.sync.acknowledged(EAST, "good", [at.routes("orders")])
    await at.do(publish(of=OTHER), deploy())


# -- nodes that are connected to the process of gateway sync


async def test_given_a_rejection_when_another_node_acknowledges_then_the_deployment_stays(tmp_path: Path):
    async with harness(tmp_path) as at:
        await second_revision(at)
        at.sync.rejected(EAST, "rogue", [at.routes("orders")])
        await at.sync.drain_responses()
        assert at.deployments("orders") == [("orders", 2)]
        at.sync.acknowledged(EAST, "good", [at.routes("orders")])
        await at.sync.drain_responses()
        at.sync.rejected(EAST, "rogue", [at.routes("orders")])
        await at.sync.drain_responses()
        assert at.deployments("orders") == [("orders", 2)]
        assert at.sync.changes.seconds_left() is None


async def test_given_two_nodes_when_both_reject_then_the_last_good_revision_is_back(tmp_path: Path):
    async with harness(tmp_path) as at:
        await second_revision(at)
        bad = at.routes("orders")
        at.sync.rejected(EAST, "rogue", [bad], "first")
        at.sync.rejected(EAST, "good", [bad], "second")
        at.reports.clear()
        await at.sync.drain_responses()
        assert at.deployments("orders") == [("orders", 1)]
        assert [(r.fact, r.node, r.reason) for r in at.reports if r.fact == "refused"] == [
            ("refused", "*", "first")
        ]


async def test_given_a_rejection_when_the_only_other_node_leaves_then_it_is_taken_back(tmp_path: Path):
    async with harness(tmp_path) as at:
        await second_revision(at)
        at.sync.rejected(EAST, "rogue", [at.routes("orders")])
        await at.sync.drain_responses()
        at.sync.disconnected(EAST, "good")
        await at.sync.drain_responses()
        assert at.deployments("orders") == [("orders", 1)]


async def test_given_a_rejection_when_no_other_node_answers_in_time_then_it_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("streams.gateway_sync.verdicts.VERDICT_SECONDS", 0.0)
    async with harness(tmp_path) as at:
        await second_revision(at)
        back = asyncio.Event()
        at.config.subscribe(lambda entries: back.set())
        settling = asyncio.create_task(at.sync.run_verdict_deadlines())
        at.sync.changes.verdicts.clock = iter(range(100)).__next__
        at.sync.rejected(EAST, "rogue", [at.routes("orders")])
        await at.sync.drain_responses()
        await back.wait()
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
        assert at.deployments("orders") == [("orders", 1)]


async def test_a_node_that_rejects_everything_stops_no_change(tmp_path: Path):
    async with harness(tmp_path) as at:
        at.sync.connected(EAST, "good")
        at.sync.connected(EAST, "rogue")
        await at.do(*DEFAULT_RESOURCES, *(publish(n, spec(f"/shop/{n}")) for n in "abc"))
        for name in "abc":
            await at.do(deploy(name))
            at.sync.rejected(EAST, "rogue", [at.routes("shop")])
            at.sync.acknowledged(EAST, "good", [at.routes("shop")])
            await at.sync.drain_responses()
        assert at.deployments("shop") == [("a", 1), ("b", 1), ("c", 1)]
        assert "refused" not in {report.fact for report in at.reports}


async def test_of_several_new_deployments_only_the_one_that_all_nodes_reject_is_taken_back(tmp_path: Path):
    async with harness(tmp_path) as at:
        at.sync.connected(EAST, "good")
        at.sync.connected(EAST, "rogue")
        await at.do(*DEFAULT_RESOURCES, *(publish(n, spec(f"/shop/{n}")) for n in "abc"), deploy("a"))
        at.sync.acknowledged(EAST, "good", [at.routes("shop")])
        await at.sync.drain_responses()
        await at.do(deploy("b"), deploy("c"))
        both = at.routes("shop")
        for name in ("rogue", "good"):
            at.sync.rejected(EAST, name, [both])
        await at.sync.drain_responses()
        assert at.deployments("shop") == [("a", 1), ("b", 1)]
        at.sync.rejected(EAST, "rogue", [at.routes("shop")])
        at.sync.acknowledged(EAST, "good", [at.routes("shop")])
        await at.sync.drain_responses()
        assert at.deployments("shop") == [("a", 1), ("b", 1), ("c", 1)]
        for name in ("rogue", "good"):
            at.sync.rejected(EAST, name, [at.routes("shop")])
        await at.sync.drain_responses()
        assert at.deployments("shop") == [("a", 1), ("b", 1)]


# -- nodes that are known from the status topic


async def deployed_twice(apart: Apart) -> None:
    """Revision 1 is acknowledged, revision 2 in force; the nodes `n` and `m` are connected."""
    await apart.say(connection("n"), connection("m"))
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    await apart.say(acknowledged(apart.routes("orders"), "d1"))
    await apart.do(publish(of=OTHER), deploy(), ids=("p2", "d2"))


async def test_a_rejection_that_is_followed_by_an_acknowledgement_changes_nothing(apart: Apart):
    await deployed_twice(apart)
    new = apart.routes("orders")
    await apart.say(refused(new, "d2"))
    assert apart.deployments("orders") == [("orders", 2)]
    await apart.say(acknowledged(new, "d2", "m"), refused(new, "d2"))
    await apart.wait(VERDICT_SECONDS)
    assert apart.deployments("orders") == [("orders", 2)]


async def test_a_node_that_says_how_far_it_came_may_decide_for_a_deployment(apart: Apart):
    await deployed_twice(apart)
    new = apart.routes("orders")
    await apart.say(refused(new, "d2"), node(new.position))
    await apart.wait(VERDICT_SECONDS)
    assert apart.deployments("orders") == [("orders", 2)]


async def test_a_version_that_all_connected_nodes_rejected_is_withdrawn_at_once(apart: Apart):
    await deployed_twice(apart)
    bad = apart.routes("orders")
    await apart.say(refused(bad, "d2"), refused(bad, "d2", "m"))
    assert apart.deployments("orders") == [("orders", 1)]


@pytest.mark.parametrize("id", ["c", "d"])
async def test_a_node_that_left_on_its_latest_connection_is_not_waited_for(apart: Apart, id: str):
    await deployed_twice(apart)
    await apart.say(refused(apart.routes("orders"), "d2"), connection("m", connected=False, id=id))
    assert apart.deployments("orders") == [("orders", 1)]


async def test_a_node_that_left_on_an_earlier_connection_is_waited_for(apart: Apart):
    await deployed_twice(apart)
    await apart.say(connection("m", id="d"), connection("m", connected=False, id="c"))
    await apart.say(refused(apart.routes("orders"), "d2"))
    assert apart.deployments("orders") == [("orders", 2)]


async def test_two_processes_under_one_node_id_are_asked_both(apart: Apart):
    await apart.say(connection("n"))
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    await apart.say(acknowledged(apart.routes("orders"), "d1"))
    await apart.say(connection("n", id="d", connections=2))
    await apart.do(publish(of=OTHER), deploy(), ids=("p2", "d2"))
    await apart.say(refused(apart.routes("orders"), "d2"))
    assert apart.deployments("orders") == [("orders", 2)]
    await apart.wait(VERDICT_SECONDS)
    assert apart.deployments("orders") == [("orders", 1)]


async def test_a_process_that_rejects_under_the_id_of_another_node_and_leaves_decides_nothing(apart: Apart):
    await apart.say(connection("n"))
    await apart.do(publish(), deploy(), ids=("p1", "d1"))
    await apart.say(acknowledged(apart.routes("orders"), "d1"))
    await apart.say(connection("n", id="d", connections=2))
    await apart.do(publish(of=OTHER), deploy(), ids=("p2", "d2"))
    bad = apart.routes("orders")
    await apart.say(refused(bad, "d2"))
    await apart.say(connection("n", id="c"))
    assert apart.deployments("orders") == [("orders", 2)]
    await apart.say(refused(bad, "d2"))
    assert apart.deployments("orders") == [("orders", 1)]


async def test_a_node_that_does_not_answer_is_not_waited_for_long(apart: Apart):
    await deployed_twice(apart)
    await apart.say(refused(apart.routes("orders"), "d2"))
    await apart.wait(VERDICT_SECONDS - 1)
    assert apart.deployments("orders") == [("orders", 2)]
    await apart.wait(1)
    assert apart.deployments("orders") == [("orders", 1)]


async def test_a_node_without_heartbeats_is_not_waited_for(apart: Apart):
    await deployed_twice(apart)
    await apart.wait(NODE_TIMEOUT_SECONDS + 1)
    await apart.say(refused(apart.routes("orders"), "d2"))
    assert apart.deployments("orders") == [("orders", 1)]


async def test_changes_that_follow_each_other_do_not_put_a_verdict_off(apart: Apart):
    await apart.say(connection("n"), connection("m"))
    await apart.do(*(publish(n, spec(f"/shop/{n}")) for n in "abc"))
    await apart.do(deploy("a"), ids=("da",))
    await apart.say(refused(apart.routes("shop"), "da"))
    await apart.wait(VERDICT_SECONDS - 1)
    await apart.do(deploy("b"), ids=("db",))
    await apart.say(refused(apart.routes("shop"), "db"))
    await apart.wait(1)
    assert apart.deployments("shop") == [("a", 1)]


async def test_given_a_restart_before_all_nodes_are_known_a_rejection_waits_for_their_answers(apart: Apart):
    await deployed_twice(apart)
    new = apart.routes("orders")
    await apart.start(learned=False)
    await apart.say(refused(new, "d2"))
    assert apart.deployments("orders") == [("orders", 2)]
    await apart.say(acknowledged(new, "d2", "m"))
    await apart.wait(VERDICT_SECONDS)
    assert apart.deployments("orders") == [("orders", 2)]


async def test_a_rejection_that_was_not_decided_before_a_restart_is_decided_after_it(apart: Apart):
    await deployed_twice(apart)
    await apart.do(publish("carts", spec("/carts")), ids=("p3",))
    await apart.say(refused(apart.routes("orders"), "d2"), node(0))
    await apart.do(deploy("carts"), ids=("d3",))  # puts how far the status topic was read
    await apart.start(learned=False)
    await apart.read()
    assert apart.deployments("orders") == [("orders", 2)]
    await apart.wait(VERDICT_SECONDS)
    assert apart.deployments("orders") == [("orders", 1)]
    assert apart.deployments("carts") == [("carts", 1)]


async def test_a_decided_rejection_does_not_hold_back_how_far_the_status_topic_was_read(apart: Apart):
    await deployed_twice(apart)
    await apart.say(refused(apart.routes("orders"), "d2"), acknowledged(apart.routes("orders"), "d2", "m"))
    read_to = apart.sync.changes.followed
    await apart.do(publish(of=THIRD), deploy(), ids=("p3", "d3"))
    await apart.start()
    assert apart.sync.changes.followed == read_to
