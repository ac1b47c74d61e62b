"""Liveness of a gateway's nodes."""

import pytest

from projections.deliveries.model import Deliveries
from projections.derived.liveness import (
    Change,
    Liveness,
    LivenessOfGateways,
    changed_liveness,
    last_reported,
    liveness,
    present_liveness,
)
from projections.store import Store
from schemas.message import Message
from schemas.status import LivenessReported, LivenessState
from streams.log import Record
from streams.projection.writer import Writer
from tests.projections.events import START, at, node, placed
from tests.projections.projecting import apply

LOCAL = ("acme", "local")


@pytest.fixture
def harness(store: Store) -> "Harness":
    return Harness(store)


class Harness:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.writer = Writer(store, [Deliveries(), LivenessOfGateways()], 1)
        self.writer.open()
        self.end = 0

    def happen(self, *messages: Message) -> None:
        records = [Record("status", 0, p.position, p.envelope) for p in placed(*messages, first=self.end + 1)]
        self.end += len(records)
        apply(self.writer, "status", records)

    def changed(self, seconds: float) -> dict[tuple[str, str], tuple[Liveness, Liveness | None]]:
        return {key: (change.now, change.reported) for key, change in self.changes(seconds).items()}

    def changes(self, seconds: float, *, heartbeats: bool = True) -> dict[tuple[str, str], Change]:
        with self.store.reader.begin() as connection:
            return changed_liveness(
                connection,
                self._prefix("liveness"),
                self._prefix("deliveries"),
                START + seconds,
                heartbeats=heartbeats,
            )

    def shown(self, seconds: float, *, heartbeats: bool = True) -> dict[str, object] | None:
        with self.store.reader.begin() as connection:
            return present_liveness(
                connection,
                self._prefix("liveness"),
                self._prefix("deliveries"),
                LOCAL,
                START + seconds,
                heartbeats=heartbeats,
            )

    def reported(self) -> dict[str, object] | None:
        with self.store.reader.begin() as connection:
            return last_reported(connection, self._prefix("liveness"), *LOCAL)

    def _prefix(self, name: str) -> str:
        return self.writer.progress[name].generation.prefix


def reported(state: LivenessState, nodes: int, heard: int, seconds: float) -> LivenessReported:
    return LivenessReported(
        organization="acme", name="local", at=at(seconds), state=state, nodes=nodes, heard=heard
    )


def test_a_gateway_is_healthy_while_all_its_nodes_send_heartbeats(harness: Harness):
    harness.happen(node("n1", True, 0), node("n2", True, 5))
    assert harness.changed(29) == {LOCAL: (Liveness("healthy", 2, 2), None)}


def test_a_silent_node_degrades_it_and_no_node_is_offline(harness: Harness):
    harness.happen(node("n1", True, 0), node("n2", True, 20), reported("healthy", 2, 2, 20))
    healthy = Liveness("healthy", 2, 2)
    assert harness.changed(25) == {}
    assert harness.changed(40) == {LOCAL: (Liveness("degraded", 2, 1), healthy)}
    assert harness.changed(51) == {LOCAL: (Liveness("offline", 2, 0), healthy)}


def test_a_node_that_left_counts_for_ten_minutes(harness: Harness):
    harness.happen(node("n1", True, 0), node("n2", True, 0), node("n2", False, 10))
    assert harness.changed(11)[LOCAL][0] == Liveness("degraded", 2, 1)
    harness.happen(node("n1", True, 611))
    assert harness.changed(611)[LOCAL][0] == Liveness("healthy", 1, 1)


def test_a_gateway_without_heartbeats_is_reported_offline_once(harness: Harness):
    harness.happen(node("n1", True, 0), reported("healthy", 1, 1, 0))
    assert harness.changed(700) == {LOCAL: (Liveness("offline", 0, 0), Liveness("healthy", 1, 1))}
    harness.happen(reported("offline", 0, 0, 700))
    assert harness.changed(710) == {}


def test_since_is_when_the_state_began(harness: Harness):
    harness.happen(
        reported("healthy", 1, 1, 1),
        reported("healthy", 2, 2, 2),
        reported("degraded", 2, 1, 3),
        reported("degraded", 3, 1, 4),
    )
    assert harness.reported() == {"state": "degraded", "nodes": 3, "heard": 1, "since": at(3)}


def test_no_nodes_is_offline():
    assert liveness(0, 0).state == "offline"


def test_a_change_has_the_time_of_the_node_that_caused_it(harness: Harness):
    harness.happen(node("n1", True, 0), node("n2", True, 5))
    assert harness.changes(6)[LOCAL].at == at(5)
    harness.happen(reported("healthy", 2, 2, 5), node("n2", False, 10))
    assert harness.changes(12)[LOCAL].at == at(10), "it left"
    harness.happen(reported("degraded", 2, 1, 10))
    assert harness.changes(100)[LOCAL].at == at(30), "n1 was silent"


def test_what_is_shown_follows_from_the_nodes_and_the_report_says_since_when(harness: Harness):
    assert harness.shown(0) is None
    harness.happen(node("n1", True, 1))
    assert harness.shown(2) == {"state": "healthy", "nodes": 1, "heard": 1, "since": at(1)}
    harness.happen(reported("healthy", 1, 1, 1), node("n1", True, 10))
    assert harness.shown(11) == {"state": "healthy", "nodes": 1, "heard": 1, "since": at(1)}


def test_a_gateway_whose_nodes_are_awaited_is_neither_healthy_nor_offline(harness: Harness):
    harness.happen(node("n1", True, 1), reported("healthy", 1, 1, 1), node("n1", False, 100))
    assert harness.shown(101) is None
    harness.happen(node("n1", True, 102))
    assert harness.shown(103) == {"state": "healthy", "nodes": 1, "heard": 1, "since": at(1)}
    harness.happen(node("n1", False, 110), reported("offline", 1, 0, 110))
    assert harness.shown(111) == {"state": "offline", "nodes": 1, "heard": 0, "since": at(110)}
