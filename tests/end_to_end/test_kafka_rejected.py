"""Revisions that Envoy rejects, on Kafka: the last good ones answer, whatever is killed meanwhile."""

import signal
from typing import Any

import pytest

from tests.support.calls import Calls, specification, until
from tests.support.kafka_kill_rounds import crashes
from tests.support.multi_process import MultiProcessSignalbox
from tests.support.rejected import rejected_by_envoy

pytestmark = pytest.mark.chaos


@pytest.fixture
def harness(roles_on_kafka: MultiProcessSignalbox) -> MultiProcessSignalbox:
    roles_on_kafka.up()
    return roles_on_kafka


def deployed(calls: Calls, api: str, upstream: str, **fields: str) -> tuple[str, int]:
    """A good revision, once it serves."""
    revision = calls.publish(api, specification(f"/{api}", upstream, **fields))
    deployment = calls.deploy(api, revision)
    assert calls.settled(deployment)["state"] == "serving"
    return deployment, revision


def rejected(calls: Calls, api: str, upstream: str) -> str:
    """The deployment of a revision that passes all our checks and that Envoy rejects."""
    return calls.deploy(api, calls.publish(api, rejected_by_envoy(f"/{api}", upstream)))


def logging(harness: MultiProcessSignalbox, message: str, deployment: str) -> list[str]:
    """The processes whose log has the message of a deployment."""
    return [
        name
        for name, process in harness.processes.items()
        if any(message in line and deployment in line for line in process.log_file.read_text().splitlines())
    ]


def test_gateway_sync_is_killed_between_the_put_and_the_rejection(
    harness: MultiProcessSignalbox, upstream: str
):
    calls = harness.calls()
    _, revision = deployed(calls, "between", upstream)
    harness.processes["xds"].deliver(signal.SIGSTOP)  # no node is sent anything, so none rejects
    bad = rejected(calls, "between", upstream)
    until(lambda: calls.status(bad)["facts"]["published"], "the bad revision is on the config topic")
    harness.processes["gateway-sync"].end(signal.SIGKILL)
    harness.processes["xds"].deliver(signal.SIGCONT)
    until(lambda: calls.status(bad)["state"] == "refused", "a node rejected it")
    harness.start("gateway-sync").until_ready()
    harness.renew_proxies()
    harness.answered("/between/items", f"between@{revision}")
    assert until(lambda: calls.status(bad)["state"] == "refused", "it stays refused")
    calls.close()


def test_a_late_start_after_the_rejection_keeps_the_acknowledged_version(
    harness: MultiProcessSignalbox, upstream: str
):
    calls = harness.calls()
    deployed(calls, "later", upstream)
    _, newer = deployed(calls, "later", upstream, display_name="Newer")
    harness.processes["gateway-sync"].end(signal.SIGKILL)
    harness.start("gateway-sync").until_ready()
    bad = rejected(calls, "later", upstream)
    until(lambda: calls.status(bad)["state"] == "refused", "a node rejected it")
    assert {refusal["node"] for refusal in calls.status(bad)["refusals"]} == {"envoy-1"}

    def gateway() -> dict[str, Any]:
        shown: dict[str, Any] = calls.ask("GET", "/gateways/local").json
        return shown

    def refused() -> dict[str, Any]:
        shown = [refusal for refusal in gateway()["refusals"] if refusal["deployment"] == bad]
        assert len(shown) == 1, "it is shown from the rejection on, with any connected nodes"
        return shown[0]

    # Gateway sync has just started, so it waits for the answers of nodes that it may not know: the proxies
    # may be gone, and there again, before it takes the revision back.
    harness.processes["envoy"].end()
    until(lambda: gateway()["connected"] == 0, "the node has left")
    assert refused()["refused_by"] == "envoy-1"
    harness.renew_proxies()
    until(lambda: refused()["withheld"], "no node is sent it any more")
    assert (refused()["nodes"], refused()["refused_by"]) == (0, "envoy-1")
    assert logging(harness, "deployment refused", bad) == ["xds"], "it is logged and counted once"
    harness.answered("/later/items", f"later@{newer}")
    calls.close()


def test_kill_9_of_any_role_while_revisions_are_rejected_ends_with_every_good_one(
    harness: MultiProcessSignalbox, upstream: str
):
    roles = ("gateway-sync", "xds", "envoy", "decider", "projector")
    report = crashes(harness, upstream, rounds=12, seed=11, roles=roles, rejected=0.4)
    assert report.faults == []
    assert report.kills == 12
    assert report.acknowledged > 50
