"""Bad luck on Kafka: every role a process of its own, on a real broker, database and Envoy."""

import random
import signal
import time

import pytest

from schemas.envelope import GENESIS, from_structured
from tests.support.calls import Calls, specification, until
from tests.support.kafka_kill_rounds import crashes, unharmed
from tests.support.kill_rounds import Report
from tests.support.multi_process import MultiProcessSignalbox

pytestmark = pytest.mark.chaos


@pytest.fixture
def harness(roles_on_kafka: MultiProcessSignalbox) -> MultiProcessSignalbox:
    roles_on_kafka.up()
    return roles_on_kafka


def chain_is_whole(calls: Calls) -> bool:
    previous = GENESIS
    for event in calls.events():
        envelope = from_structured(event)
        if envelope.previoushash != previous:
            return False
        previous = envelope.hash()
    return True


def defined(calls: Calls, name: str) -> bool:
    return calls.command("project.command.define", {"name": name}).status == 200


def test_a_decider_that_stood_still_is_fenced_and_writes_nothing(harness: MultiProcessSignalbox):
    calls = harness.calls()
    first = harness.processes["decider"]
    _, position = calls.events_on(0)
    assert defined(calls, "before")
    first.deliver(signal.SIGSTOP)
    second = harness.start("decider", "decider-2")
    second.until_ready()
    names = [f"meanwhile-{n}" for n in range(20)]
    assert all(defined(calls, name) for name in names)
    first.deliver(signal.SIGCONT)
    until(lambda: "another process" in first.log_file.read_text(), "the first one is fenced")
    assert defined(calls, "after")
    first.until_ready()
    second.end()
    assert defined(calls, "when the first one has it again".replace(" ", "-"))
    subjects = [event["subject"] for event in calls.events(position)]
    assert len(subjects) == len(set(subjects))
    assert {f"organizations/default/projects/{name}" for name in names} <= set(subjects)
    assert chain_is_whole(calls)
    calls.close()
    del harness.processes["decider-2"]


def test_without_postgresql_changes_go_live_and_queries_say_that_they_cannot(
    harness: MultiProcessSignalbox, upstream: str
):
    calls = harness.calls()
    revision = calls.publish("orders", specification("/orders", upstream))
    calls.deploy("orders", revision)
    harness.answered("/orders/items", f"orders@{revision}")
    newer = calls.publish("orders", specification("/orders", upstream, display_name="Orders"))
    harness.postgres.kill()
    reply = calls.ask("POST", "/deployments", {"api": "orders", "revision": newer, "gateway": "local"})
    assert reply.status == 202, reply
    harness.answered("/orders/items", f"orders@{newer}")
    query = calls.ask("GET", "/apis/orders")
    assert (query.status, query.headers["content-type"]) == (503, "application/problem+json")
    harness.postgres.start()
    deployment = reply.headers["location"].rpartition("/")[2]
    until(lambda: calls.ask("GET", "/apis/orders").status == 200, "queries are answered")
    operation = until(lambda: _operation(calls, deployment), "the outcome is in the read models")
    assert operation["state"] == "accepted"
    harness.until_quiet()
    calls.close()


def _operation(calls: Calls, id: str) -> dict[str, str] | None:
    reply = calls.send("GET", f"/api/v1/operations/{id}")
    return reply.json if reply.status == 200 else None


def test_a_broker_that_is_killed_and_comes_back_loses_and_doubles_nothing(
    harness: MultiProcessSignalbox, upstream: str
):
    def kill_the_broker(harness: MultiProcessSignalbox, moments: random.Random, report: Report) -> None:
        for _ in range(2):
            time.sleep(moments.uniform(0.3, 1.0))
            harness.kafka.kill()
            report.kills += 1
            time.sleep(moments.uniform(0.0, 2.0))
            harness.kafka.start()
            harness.until_ready()

    report = unharmed(harness, upstream, kill_the_broker, seed=7)
    assert report.faults == []
    assert report.kills == 2


def test_kill_9_of_any_role_under_load_loses_nothing_and_ends_in_sync(
    harness: MultiProcessSignalbox, upstream: str
):
    report = crashes(harness, upstream, rounds=10, seed=3)
    assert report.faults == []
    assert report.kills == 10
    assert report.acknowledged > 50
    assert report.unanswered > 0, "kills came while commands were under way"
