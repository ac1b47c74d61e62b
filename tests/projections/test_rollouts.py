"""Many reports become one state of a deployment."""

from dataclasses import replace
from typing import Any

import pytest

from projections.deliveries.connected_nodes import connected_nodes
from projections.deliveries.deployment_facts import ObservedDeployment
from projections.deliveries.model import Deliveries
from projections.deliveries.rows import ApiOnGateway, Delivery, Node, Report
from projections.derived.liveness import LivenessOfGateways
from projections.derived.rollouts import (
    Rollouts,
    differs,
    in_force,
    last_reported,
    outdated,
    rollout,
    unsettled,
)
from projections.derived.windows import lags_between, minute_of
from projections.pages import Row
from projections.resources.model import Resources
from projections.store import Store
from schemas.message import Message
from schemas.status import LivenessReported, RolloutReported, RolloutState
from streams.log import Record
from streams.projection.writer import Writer
from tests.projections.events import at, delivery, placed, started, stopped
from tests.projections.projecting import apply

EVER = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:00Z")


def deployment(*gateways: str, state: str = "active") -> Row:
    document: dict[str, Any] = {"gateways": list(gateways), "state": state, "requested_at": at(0)}
    return Row("d1", 1, 1, at(1), document, at(1))


def known(*connected: str, **reported: str) -> ObservedDeployment:
    """On gateway `a`, published; what each node answered."""
    delivery = Delivery("acme", "d1", "a", "orders", 1, 1, published_at=at(2))
    states = set(reported.values())
    if "acknowledged" in states:
        delivery = delivery._replace(acknowledged_at=at(3), acknowledged_last=at(5), taken=True)
    if "refused" in states:
        delivery = delivery._replace(refused_at=at(4), refused_last=at(4))
    nodes = [Node("acme", "a", n, True, "", "", 0, 1, at(0), at(0), "") for n in connected]
    reports = {
        name: Report("acme", "a", name, "orders", "d1", 1, state, at(4), at(4), "", "no such cluster", None)
        for name, state in reported.items()
    }
    carried = ApiOnGateway("acme", "a", "orders", "d1", 1)
    return ObservedDeployment({"a": delivery}, {"a": carried}, connected_nodes(nodes), {"a": reports})


def test_it_rolls_out_node_by_node():
    seen: list[tuple[str, int, int]] = []
    for answered in ((), ("n1",), ("n1", "n2"), ("n1", "n2", "n3")):
        now = rollout(deployment("a"), known("n1", "n2", "n3", **dict.fromkeys(answered, "acknowledged")))
        seen.append((now["state"], now["reached"], now["nodes"]))
    assert seen == [
        ("pending", 0, 3),
        ("rolling-out", 1, 3),
        ("rolling-out", 2, 3),
        ("acknowledged", 3, 3),
    ]


def test_it_serves_once_a_request_was_answered_by_it():
    there = known("n1", n1="acknowledged")
    there = replace(there, deliveries={"a": there.deliveries["a"]._replace(serving_at=at(6))})
    now = rollout(deployment("a"), there)
    assert (now["state"], now["serving_at"]) == ("serving", at(6))


@pytest.mark.parametrize(
    ("first", "state", "reached"),
    [("refused", "refused", 0), ("acknowledged", "partly-refused", 1), ("pending", "pending", 0)],
)
def test_it_is_refused_once_all_nodes_refuse_it(first: str, state: str, reached: int):
    now = rollout(deployment("a"), known("n1", "n2", n1=first, n2="refused"))
    assert (now["state"], now["reached"], now["nodes"]) == (state, reached, 2)
    assert now["reason"] == ("" if state == "pending" else "no such cluster")


def test_without_a_connected_node_it_is_offline():
    now = rollout(deployment("a"), known(n1="acknowledged"))
    assert (now["state"], now["reached"], now["nodes"]) == ("offline", 0, 0)


def test_a_deployment_without_reports_is_pending():
    assert not differs(None, rollout(deployment("a"), known("n1")))
    assert differs(None, rollout(deployment("a", state="stopped"), known("n1")))


class TestReportedStates:
    @pytest.fixture(autouse=True)
    def _harness(self, store: Store) -> None:
        self.store = store
        self.writer = Writer(store, [Resources(), Deliveries(), Rollouts(), LivenessOfGateways()], 1)
        self.writer.open()
        self.end = 0

    def report(self, name: str, state: RolloutState, seconds: float, **more: Any) -> None:
        self.happen(RolloutReported(organization="acme", name=name, at=at(seconds), state=state, **more))

    def happen(self, *messages: Message) -> None:
        """On the status topic."""
        records = [Record("status", 0, p.position, p.envelope) for p in placed(*messages, first=self.end + 1)]
        self.end += len(records)
        apply(self.writer, "status", records)

    @property
    def prefix(self) -> str:
        return self.writer.progress["rollouts"].generation.prefix

    def test_each_stage_is_counted_once_by_when_it_was_first_reached(self):
        self.report("d1", "rolling-out", 3, decided_at=at(1), published_at=at(2), reached=1, nodes=2)
        self.report("d1", "acknowledged", 4, decided_at=at(1), published_at=at(2), acknowledged_at=at(4))
        self.report("d1", "pending", 5, decided_at=at(1), published_at=at(2))
        self.report("d1", "acknowledged", 6, decided_at=at(1), published_at=at(2), acknowledged_at=at(5.5))
        with self.store.reader.begin() as connection:
            lags = lags_between(connection, self.prefix, "acme", *EVER)
            row = last_reported(connection, self.prefix, "acme", ["d1"])["d1"]
        minute = minute_of(at(2))
        assert {key: (lag.count, lag.mean) for key, lag in lags.items()} == {
            (minute, "published"): (1, 1.0),
            (minute, "acknowledged"): (1, 2.0),
        }
        assert (row["state"], row["since"], row["acknowledged_at"]) == ("acknowledged", at(6), at(4))

    def test_an_ended_deployment_is_not_in_force(self):
        self.report("d1", "serving", 1)
        self.report("d2", "rolling-out", 1)
        self.report("d3", "serving", 1)
        self.report("d3", "stopped", 2)
        with self.store.reader.begin() as connection:
            assert sorted(in_force(connection, self.prefix)) == [("acme", "d1"), ("acme", "d2")]

    def test_a_report_of_a_whole_node_concerns_the_deployments_in_progress(self):
        names = ["new", "rolling", "offline", "serving", "ended"]
        records = [Record("events", 0, p.position, p.envelope) for p in placed(*map(started, names))]
        apply(self.writer, "events", records)
        self.report("rolling", "rolling-out", 1)
        self.report("offline", "offline", 1)
        self.report("serving", "serving", 1)
        self.report("ended", "stopped", 1)
        resources = self.writer.progress["resources"].generation.prefix
        with self.store.reader.begin() as connection:
            found = unsettled(connection, self.prefix, resources, ["acme"])
            assert sorted(name for _, name in found) == ["new", "offline", "rolling"]
            assert unsettled(connection, self.prefix, resources, ["other"]) == []

    def outdated(self) -> list[str]:
        prefixes = (
            self.writer.progress[name].generation.prefix
            for name in ("rollouts", "resources", "deliveries", "liveness")
        )
        with self.store.reader.begin() as connection:
            return sorted(name for _, name in outdated(connection, *prefixes))

    def test_states_that_a_crash_left_unpublished_are_found(self):
        names = ["new", "rolling", "settled", "served", "joined", "refused", "stopped", "ended"]
        happened = [*map(started, names), stopped("stopped"), stopped("ended")]
        records = [Record("events", 0, p.position, p.envelope) for p in placed(*happened)]
        apply(self.writer, "events", records)
        for name in names[1:]:
            self.happen(
                delivery(name, "published", 2, position=1),
                delivery(name, "acknowledged", 3, position=1, node="n1"),
            )
            known = {"published_at": at(2), "acknowledged_at": at(3)}
            self.report(name, "rolling-out" if name == "rolling" else "acknowledged", 3, **known)
        self.report("ended", "stopped", 4)
        assert self.outdated() == ["new", "rolling", "stopped"]
        self.happen(
            delivery("served", "serving", 4, position=1, node="n1"),
            delivery("joined", "acknowledged", 5, position=1, node="n2"),
            delivery("refused", "refused", 5, position=1, node="n2"),
        )
        assert self.outdated() == ["joined", "new", "refused", "rolling", "served", "stopped"]
        self.report("served", "serving", 6, published_at=at(2), acknowledged_at=at(3), serving_at=at(4))
        assert "served" not in self.outdated()
        offline = LivenessReported(organization="acme", name="local", at=at(7), state="offline")
        self.happen(offline.model_copy(update={"name": "other"}))
        assert "settled" not in self.outdated()
        self.happen(offline)
        assert self.outdated() == sorted({*names} - {"ended"})
