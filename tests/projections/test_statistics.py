"""What is derived, as it is asked for."""

from datetime import UTC, datetime

import pytest

from projections.derived.liveness import LivenessOfGateways
from projections.derived.rollouts import Rollouts
from projections.derived.statistics import last_minutes, statistics_in
from projections.derived.windows import Windows, minute_of
from projections.queries import ReadModels
from projections.store import Store
from schemas.message import Message
from schemas.status import RolloutReported
from streams.log import Record, Topic
from streams.projection.writer import Writer
from tests.projections.events import at, outcome, placed
from tests.projections.projecting import apply

EVER = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:00Z")


@pytest.fixture
def derived(store: Store) -> Writer:
    writer = Writer(store, [Windows(), Rollouts(), LivenessOfGateways()], 1)
    writer.open()
    return writer


def _happen(writer: Writer, topic: Topic, *messages: Message) -> None:
    records = [Record(topic, 0, p.position, p.envelope) for p in placed(*messages)]
    apply(writer, topic, records)


async def test_minutes_hold_changes_and_the_lag_of_every_stage(derived: Writer, ask: ReadModels):
    _happen(derived, "outcomes", outcome("c1", events=3), outcome("c2", accepted=False))
    _happen(
        derived,
        "status",
        RolloutReported(
            organization="acme",
            name="d1",
            at=at(3),
            state="acknowledged",
            decided_at=at(1),
            published_at=at(2),
            acknowledged_at=at(62),
        ),
    )

    found = await ask.ask(lambda s: statistics_in(s, "acme", *EVER))

    first, second = found
    assert (first["minute"], first["accepted"], first["rejected"], first["events"]) == (
        minute_of(at(0)),
        1,
        1,
        3,
    )
    assert {stage: lag["count"] for stage, lag in first["lags"].items()} == {"decided": 2, "published": 1}
    assert second["lags"]["acknowledged"]["mean"] == 60
    assert 60 <= second["lags"]["acknowledged"]["p99"] < 72
    assert await ask.ask(lambda s: statistics_in(s, "other", *EVER)) == []


async def test_before_anything_is_reported_the_answer_is_empty(derived: Writer, ask: ReadModels):
    assert await ask.ask(lambda s: statistics_in(s, "acme", *EVER)) == []


def test_the_last_minute_is_the_one_under_way():
    until = datetime(2026, 1, 31, 9, 0, 59, tzinfo=UTC)
    assert last_minutes(1, until) == ("2026-01-31T09:00:00Z", "2026-01-31T09:00:00Z")
    assert last_minutes(3, until) == ("2026-01-31T08:58:00Z", "2026-01-31T09:00:00Z")
