"""Many reports become one state of a deployment."""

from typing import Any

import pytest

from projections.asking import Row
from projections.rollouts import Rollouts, differs, in_force, rollout, told_of
from projections.store import Store
from projections.windows import lags_between, minute_of
from schemas.status import RolloutReported, RolloutState
from streams.log import Record
from streams.projecting.writing import Writer
from tests.projections.applying import apply
from tests.projections.events import at, placed

EVER = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:00Z")


def deployment(*gateways: str, state: str = "active") -> Row:
    document: dict[str, Any] = {"gateways": list(gateways), "state": state, "requested_at": at(0)}
    return Row("d1", 1, 1, at(1), document, at(1))


def said(node: str, fact: str, seconds: float, gateway: str = "a", reason: str = "") -> dict[str, Any]:
    return {
        "deployment": "d1",
        "gateway": gateway,
        "node": node,
        "fact": fact,
        "first_at": at(seconds),
        "last_at": at(seconds),
        "position": int(seconds * 10),
        "version": "",
        "reason": reason,
    }


def nodes(*names: str, gateway: str = "a") -> list[dict[str, Any]]:
    return [{"gateway": gateway, "node": name, "connected": True} for name in names]


def test_it_rolls_out_node_by_node():
    there = nodes("n1", "n2", "n3")
    reports = [said("*", "published", 2)]
    seen: list[tuple[str, int, int]] = []
    for report in (None, ("n1", 3), ("n2", 4), ("n3", 5)):
        if report is not None:
            reports.append(said(report[0], "acknowledged", report[1]))
        now = rollout(deployment("a"), reports, there)
        seen.append((now["state"], now["reached"], now["nodes"]))
    assert seen == [
        ("pending", 0, 3),
        ("rolling-out", 1, 3),
        ("rolling-out", 2, 3),
        ("acknowledged", 3, 3),
    ]
    reports += [said(n, "serving", 6) for n in ("n1", "n2", "n3")]
    now = rollout(deployment("a"), reports, there)
    assert (now["state"], now["serving_at"]) == ("serving", at(6))


def test_one_refusal_is_the_state_of_all_with_its_reason():
    reports = [said("n1", "acknowledged", 3), said("n2", "refused", 4, reason="no such cluster")]
    now = rollout(deployment("a"), reports, nodes("n1", "n2"))
    assert (now["state"], now["reached"], now["nodes"], now["reason"]) == ("refused", 1, 2, "no such cluster")


def test_a_deployment_of_which_nothing_was_told_is_pending():
    assert not differs(None, rollout(deployment("a"), [], nodes("n1")))
    assert differs(None, rollout(deployment("a", state="stopped"), [], []))


class TestWhatWasTold:
    @pytest.fixture(autouse=True)
    def _house(self, store: Store) -> None:
        self.store = store
        self.writer = Writer(store, [Rollouts()], 1)
        self.writer.open()
        self.end = 0

    def told(self, name: str, state: RolloutState, seconds: float, **more: Any) -> None:
        message = RolloutReported(organization="acme", name=name, at=at(seconds), state=state, **more)
        (p,) = placed(message, first=self.end + 1)
        self.end += 1
        apply(self.writer, "status", [Record("status", 0, p.position, p.envelope)])

    @property
    def prefix(self) -> str:
        return self.writer.slots["rollouts"].generation.prefix

    def test_each_stage_is_counted_once_by_when_it_was_first_reached(self):
        self.told("d1", "rolling-out", 3, decided_at=at(1), published_at=at(2), reached=1, nodes=2)
        self.told("d1", "acknowledged", 4, decided_at=at(1), published_at=at(2), acknowledged_at=at(4))
        self.told("d1", "pending", 5, decided_at=at(1), published_at=at(2))
        self.told("d1", "acknowledged", 6, decided_at=at(1), published_at=at(2), acknowledged_at=at(5.5))
        with self.store.reader.begin() as connection:
            lags = lags_between(connection, self.prefix, "acme", *EVER)
            row = told_of(connection, self.prefix, "acme", ["d1"])["d1"]
        minute = minute_of(at(2))
        assert {key: (lag.count, lag.mean) for key, lag in lags.items()} == {
            (minute, "published"): (1, 1.0),
            (minute, "acknowledged"): (1, 2.0),
        }
        assert (row["state"], row["since"], row["acknowledged_at"]) == ("acknowledged", at(6), at(4))

    def test_what_has_ended_is_not_in_force(self):
        self.told("d1", "serving", 1)
        self.told("d2", "rolling-out", 1)
        self.told("d3", "serving", 1)
        self.told("d3", "stopped", 2)
        with self.store.reader.begin() as connection:
            assert sorted(in_force(connection, self.prefix)) == [("acme", "d1"), ("acme", "d2")]
            assert in_force(connection, self.prefix, serving=False) == [("acme", "d2")]
