"""From a command to an answer through Envoy."""

import pytest

from tests.support.calls import Calls, Reply, event, specification, until
from tests.support.rejected import matching, rejected_by_envoy
from tests.support.running_signalbox import RunningSignalbox

FACTS = ("requested", "decided", "published", "acknowledged", "serving")


def test_an_api_is_deployed_changed_and_undeployed(running: RunningSignalbox, calls: Calls, upstream: str):
    calls.publish("life", specification("/life", upstream))
    running.answered("/life/items", status=404)

    first = calls.deploy("life")
    running.answered("/life/items", "life@1")
    assert running.through("/life/items")[2] == b"ok"

    calls.publish("life", specification("/life", upstream, display_name="Changed"))
    assert running.through("/life/items")[1] == "life@1", "publishing deploys nothing"
    second = calls.deploy("life")
    running.answered("/life/items", "life@2")
    assert calls.status(first)["state"] == "stopped"

    calls.publish("life", specification("/life-moved", upstream))
    third = calls.deploy("life")
    running.answered("/life-moved/items", "life@3")
    running.answered("/life/items", status=404)

    assert calls.undeploy(third).status == 200
    running.answered("/life-moved/items", status=404)
    until(lambda: calls.status(third)["state"] == "stopped", "the gateway's node withdrew it")
    assert calls.undeploy(second).status == 404


def test_an_older_revision_can_be_deployed_again(running: RunningSignalbox, calls: Calls, upstream: str):
    for name in ("first", "second"):
        calls.publish("back", specification("/back", upstream, display_name=name))
    calls.deploy("back", 2)
    running.answered("/back/items", "back@2")
    calls.deploy("back", 1)
    running.answered("/back/items", "back@1")


def test_the_five_facts_are_reported_in_their_order(calls: Calls, upstream: str):
    calls.publish("facts", specification("/facts", upstream))
    status = calls.settled(calls.deploy("facts"))
    assert status["state"] == "serving"
    times = [status["facts"][fact] for fact in FACTS]
    assert all(times)
    assert times == sorted(times)
    assert status["facts"]["refused"] is None
    node = status["gateways"]["local"]["nodes"]["envoy-1"]
    assert set(node) == {"acknowledged", "serving"}


def test_rollout_liveness_and_statistics_are_derived(calls: Calls, upstream: str):
    # Given a deployment that the gateway serves
    calls.publish("derived", specification("/derived", upstream))
    deployment = calls.deploy("derived")
    calls.settled(deployment)

    # Then its state, that of the gateway and the counts of the minute are published
    def rollout() -> bool:
        shown = calls.ask("GET", f"/deployments/{deployment}").json.get("rollout", {})
        return (shown.get("state"), shown.get("reached"), shown.get("nodes")) == ("serving", 1, 1)

    def liveness() -> bool:
        shown = calls.ask("GET", "/gateways/local").json.get("liveness", {})
        return (shown.get("state"), shown.get("heard")) == ("healthy", 1)

    def served() -> bool:
        minutes = calls.ask("GET", "/statistics?minutes=60").json["items"]
        return any("serving" in minute["lags"] for minute in minutes)

    until(rollout, "one of one node serves the deployment")
    until(liveness, "the gateway is healthy")
    until(served, "the time to serving is counted")


def test_redeploying_a_running_revision_changes_nothing(
    running: RunningSignalbox, calls: Calls, upstream: str
):
    calls.publish("again", specification("/again", upstream))
    deployment = calls.deploy("again")
    before = calls.settled(deployment)
    end, updates = calls.end(), running.envoy_stats("(update_success|config_reload)$")

    reply = calls.ask("POST", "/deployments", {"api": "again", "gateway": "local"}, prefer="wait=60")

    assert reply.status == 200
    assert reply.json["name"] == deployment
    assert calls.end() == end
    # A node's report of its progress may give the time of its ACK more exactly meanwhile.
    after = calls.status(deployment)
    assert (after["state"], after["facts"], after["live"]) == (
        before["state"],
        before["facts"],
        before["live"],
    )
    assert running.envoy_stats("(update_success|config_reload)$") == updates


def test_two_apis_share_their_first_path_segment(running: RunningSignalbox, calls: Calls, upstream: str):
    for name in ("orders", "carts"):
        calls.publish(name, specification(f"/shop/{name}", upstream))
        calls.deploy(name)
    running.answered("/shop/orders/items", "orders@1")
    running.answered("/shop/carts/items/7", "carts@1")
    assert running.through("/shop/items")[0] == 404

    calls.publish("orders", specification("/shop/orders", upstream, display_name="Changed"))
    changed = calls.deploy("orders")
    running.answered("/shop/orders/items", "orders@2")
    assert running.through("/shop/carts/items")[1] == "carts@1"

    calls.undeploy(changed)
    running.answered("/shop/orders/items", status=404)
    assert running.through("/shop/carts/items")[1] == "carts@1"


def test_a_rejection_by_envoy_is_reported_with_its_reason_and_affects_no_other_api(
    running: RunningSignalbox, calls: Calls, upstream: str
):
    calls.publish("pride", specification("/pride", upstream))
    good = calls.deploy("pride")
    running.answered("/pride/items", "pride@1")
    before = calls.settled(good)["facts"]

    calls.publish("pride", rejected_by_envoy("/pride", upstream))
    calls.publish("modesty", specification("/modesty", upstream))
    bad = calls.deploy("pride")
    other = calls.deploy("modesty")

    status = calls.settled(bad)
    assert status["state"] == "refused"
    (refusal,) = status["refusals"]
    assert (refusal["gateway"], refusal["node"]) == ("local", "envoy-1")
    assert "invalid" in refusal["reason"]
    assert status["facts"]["acknowledged"] is None
    assert running.through("/pride/items")[1] == "pride@1", "the last good revision goes on serving"
    assert calls.settled(good)["facts"] == before, "going back to it does not change when it was there first"
    gateway = calls.ask("GET", "/gateways/local").json
    (refused,) = [r for r in gateway["refusals"] if r["deployment"] == bad]
    assert refused["refused_by"] == "envoy-1"
    (node,) = gateway["nodes"]
    counts = dict(node["deployments"])
    assert counts.pop("desired") == sum(counts.values())
    assert calls.settled(other)["state"] == "serving"
    running.answered("/modesty/items", "modesty@1")

    calls.publish("pride", specification("/pride", upstream, display_name="Mended"))
    assert calls.settled(calls.deploy("pride"))["state"] == "serving"
    running.answered("/pride/items", "pride@3")


def test_a_refused_api_does_not_hold_up_one_under_the_same_first_segment(
    running: RunningSignalbox, calls: Calls, upstream: str
):
    calls.publish("quiet", specification("/street/quiet", upstream))
    calls.settled(calls.deploy("quiet"))
    calls.publish("loud", rejected_by_envoy("/street/loud", upstream))
    assert calls.settled(calls.deploy("loud"))["state"] == "refused"
    assert running.through("/street/quiet/items")[1] == "quiet@1"

    calls.publish("quiet", specification("/street/quiet", upstream, display_name="Changed"))
    changed = calls.settled(calls.deploy("quiet"))

    assert changed["state"] == "serving"
    running.answered("/street/quiet/items", "quiet@2")


def test_a_policy_that_the_gateway_cannot_enforce_is_refused_as_unsupported(
    running: RunningSignalbox, calls: Calls, upstream: str
):
    calls.publish("keys", specification("/keys", upstream))
    calls.settled(calls.deploy("keys"))
    policies = [{"name": "api-key-auth"}]
    for spec, why in (
        (specification("/keys", upstream, policies=policies), "api-key-auth"),
        (matching("(", "/keys", upstream), "x-kind"),
    ):
        calls.publish("keys", spec)
        status = calls.settled(calls.deploy("keys"))
        assert status["state"] == "refused"
        (refusal,) = status["refusals"]
        assert refusal["reason"].startswith("unsupported: ")
        assert why in refusal["reason"]
        assert status["facts"]["published"] is None
        assert running.through("/keys/items")[1] == "keys@1"


def test_a_context_in_use_is_refused_with_the_api_that_has_it(
    running: RunningSignalbox, calls: Calls, upstream: str
):
    calls.publish("owner", specification("/taken", upstream))
    calls.settled(calls.deploy("owner"))
    calls.publish("squatter", specification("/taken", upstream))
    reply = calls.ask("POST", "/deployments", {"api": "squatter", "gateway": "local"}, prefer="wait=60")
    assert reply.status == 409
    assert reply.json["type"].endswith("/context-taken")
    assert "'owner'" in reply.json["detail"]
    assert running.through("/taken/items")[1] == "owner@1"


@pytest.fixture
def a_thousand(calls: Calls, upstream: str) -> list[str]:
    """Published, and none of them deployed; the one in the middle is refused by Envoy."""
    names = [f"many-{i}" for i in range(1000)]
    specs = {name: specification(f"/{name}", upstream) for name in names}
    specs[names[500]] = rejected_by_envoy(f"/{names[500]}", upstream)
    published = calls.batch([event("api.command.publish", {"name": n, "spec": s}) for n, s in specs.items()])
    assert published.status == 200, published
    return names


def test_a_thousand_at_once_of_which_one_is_refused(
    running: RunningSignalbox, calls: Calls, a_thousand: list[str]
):
    bad, good = a_thousand[500], [n for n in a_thousand if n != a_thousand[500]]
    deployed: Reply = calls.batch(
        [event("deployment.command.start", {"name": n, "api": n, "gateway": "local"}) for n in a_thousand]
    )
    assert deployed.status == 200, deployed
    answering = running.listener()
    for name in good:
        until(lambda name=name: answering.ask("GET", f"/{name}/items")[0] == 200, name, pause=0.001)
    answering.close()

    status = calls.settled(bad)
    assert status["state"] == "refused"
    assert "invalid" in status["refusals"][0]["reason"]
    settled = {name: calls.settled(name) for name in good}
    assert {s["state"] for s in settled.values()} == {"serving"}
