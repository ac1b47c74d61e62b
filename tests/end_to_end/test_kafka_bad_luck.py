"""Bad luck on Kafka: every role a process of its own, on a real broker, database and Envoy."""

import random
import signal
import time
from collections.abc import Iterator

import pytest

from bench.crash import Report
from bench.kafka_crash import crashes, unharmed
from schemas.envelope import GENESIS, from_structured
from tests.support.calls import Calls, specification, until
from tests.support.multi_process import Scattered, scattered

pytestmark = pytest.mark.usefixtures("envoy", "kafka_files", "postgres_made")


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Scattered, str]]:
    with scattered(session_timeout_ms=3_000) as made:
        yield made


@pytest.fixture
def house(running: tuple[Scattered, str]) -> Scattered:
    running[0].up()
    return running[0]


@pytest.fixture
def upstream(running: tuple[Scattered, str]) -> str:
    return running[1]


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


def test_a_decider_that_stood_still_is_fenced_and_writes_nothing(house: Scattered):
    calls = house.calls()
    first = house.processes["decider"]
    _, position = calls.events_on(0)
    assert defined(calls, "before")
    first.tell(signal.SIGSTOP)
    second = house.start("decider", "decider-2")
    second.until_ready()
    names = [f"meanwhile-{n}" for n in range(20)]
    assert all(defined(calls, name) for name in names)
    first.tell(signal.SIGCONT)
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
    del house.processes["decider-2"]


def test_without_postgresql_changes_go_live_and_queries_say_that_they_cannot(house: Scattered, upstream: str):
    calls = house.calls()
    revision = calls.publish("orders", specification("/orders", upstream))
    calls.deploy("orders", revision)
    house.answered("/orders/items", f"orders@{revision}")
    newer = calls.publish("orders", specification("/orders", upstream, display_name="Orders"))
    house.postgres.kill()
    reply = calls.ask("POST", "/deployments", {"api": "orders", "revision": newer, "gateway": "local"})
    assert reply.status == 202, reply
    house.answered("/orders/items", f"orders@{newer}")
    query = calls.ask("GET", "/apis/orders")
    assert (query.status, query.headers["content-type"]) == (503, "application/problem+json")
    house.postgres.start()
    deployment = reply.headers["location"].rpartition("/")[2]
    until(lambda: calls.ask("GET", "/apis/orders").status == 200, "queries are answered")
    operation = until(lambda: _operation(calls, deployment), "the outcome is in the read models")
    assert operation["state"] == "accepted"
    house.until_quiet()
    calls.close()


def _operation(calls: Calls, id: str) -> dict[str, str] | None:
    reply = calls.send("GET", f"/api/v1/operations/{id}")
    return reply.json if reply.status == 200 else None


def test_a_broker_that_is_killed_and_comes_back_loses_and_doubles_nothing(house: Scattered, upstream: str):
    def kill_the_broker(house: Scattered, moments: random.Random, report: Report) -> None:
        for _ in range(2):
            time.sleep(moments.uniform(0.3, 1.0))
            house.kafka.kill()
            report.kills += 1
            time.sleep(moments.uniform(0.0, 2.0))
            house.kafka.start()
            house.until_ready()
        time.sleep(0.5)

    report = unharmed(house, upstream, kill_the_broker, seed=7)
    assert report.faults == []
    assert report.kills == 2
    assert report.acknowledged > 20


@pytest.mark.chaos
def test_kill_9_of_any_role_under_load_loses_nothing_and_ends_in_sync(house: Scattered, upstream: str):
    report = crashes(house, upstream, rounds=10, seed=3)
    assert report.faults == []
    assert report.kills == 10
    assert report.acknowledged > 50
    assert report.unanswered > 0, "kills came while commands were under way"
