"""What is counted per minute, and how long things took."""

import random

import pytest

from projections.derived.windows import (
    Windows,
    bound_of,
    bucket_of,
    changes_between,
    lags_between,
    minute_of,
    percentile,
)
from projections.readmodel import Unprojectable
from projections.store import Store
from streams.log import Record
from streams.projection.writer import Writer
from tests.projections.events import at, outcome, placed
from tests.projections.projecting import apply

EVER = ("0001-01-01T00:00:00Z", "9999-12-31T23:59:00Z")


@pytest.fixture
def writer(store: Store) -> Writer:
    writer = Writer(store, [Windows()], 1)
    writer.open()
    return writer


def _records(first: int, *decided: float, accepted: bool = True) -> list[Record]:
    outcomes = [
        outcome(f"c{first + i}", accepted=accepted, decided_at=at(seconds))
        for i, seconds in enumerate(decided)
    ]
    return [Record("outcomes", 0, p.position, p.envelope) for p in placed(*outcomes, first=first)]


def test_commands_are_counted_in_the_minute_they_were_decided_in_also_when_they_come_late(
    store: Store, writer: Writer
):
    apply(writer, "outcomes", [*_records(1, 1.0, 2.0), *_records(3, 61.0)])
    apply(writer, "outcomes", _records(4, 3.0, accepted=False))

    with store.reader.begin() as connection:
        prefix = writer.progress["windows"].generation.prefix
        found = changes_between(connection, prefix, "acme", *EVER)
        lags = lags_between(connection, prefix, "acme", *EVER)

    first, second = minute_of(at(1)), minute_of(at(61))
    assert [(w["minute"], w["accepted"], w["rejected"]) for w in found] == [(first, 2, 1), (second, 1, 0)]
    assert {key: lag.count for key, lag in lags.items()} == {(first, "decided"): 3, (second, "decided"): 1}


def test_a_repeated_event_is_not_counted_again(store: Store, writer: Writer):
    records = _records(1, 1.0, 2.0)
    apply(writer, "outcomes", records[:1])
    apply(writer, "outcomes", records)

    with store.reader.begin() as connection:
        found = changes_between(connection, writer.progress["windows"].generation.prefix, "acme", *EVER)
    assert [w["accepted"] for w in found] == [2]


def test_a_percentile_is_right_to_one_bucket():
    chance = random.Random(4)
    durations = sorted(chance.lognormvariate(-4, 1.5) for _ in range(2_000))
    counts: dict[int, int] = {}
    for seconds in durations:
        counts[bucket_of(seconds)] = counts.get(bucket_of(seconds), 0) + 1

    for share in (0.5, 0.99):
        exact = durations[int(share * len(durations)) - 1]
        found = percentile(counts, share)
        assert found is not None
        assert exact <= found <= exact * 2**0.25 * 1.001


def test_no_duration_falls_out_of_the_buckets():
    assert bucket_of(0.0) == 0
    assert bound_of(bucket_of(0.02)) >= 0.02 > bound_of(bucket_of(0.02) - 1)
    assert bucket_of(10.0**9) == bucket_of(10.0**8)
    assert percentile({}, 0.5) is None


def test_minutes_are_those_of_utc():
    assert minute_of("2026-01-31T11:00:59.9+02:00") == "2026-01-31T09:00:00Z"
    with pytest.raises(Unprojectable):
        minute_of("2026-01-31T11:00:00")


@pytest.mark.parametrize("requested", ["", "yesterday"])
def test_a_command_that_does_not_say_when_it_was_requested_is_counted_without_a_duration(
    store: Store, writer: Writer, requested: str
):
    (recorded,) = placed(outcome("c1", decided_at=at(1.0), requested_at=requested))
    apply(writer, "outcomes", [Record("outcomes", 0, recorded.position, recorded.envelope)])
    with store.reader.begin() as connection:
        prefix = writer.progress["windows"].generation.prefix
        assert [w["accepted"] for w in changes_between(connection, prefix, "acme", *EVER)] == [1]
        assert lags_between(connection, prefix, "acme", *EVER) == {}


def test_durations_from_the_year_one_add_up(store: Store, writer: Writer):
    old = [outcome(f"c{i}", requested_at="0001-01-01T00:00:00.000000Z") for i in range(200)]
    records = [Record("outcomes", 0, p.position, p.envelope) for p in placed(*old)]
    apply(writer, "outcomes", records)
    with store.reader.begin() as connection:
        prefix = writer.progress["windows"].generation.prefix
        (lag,) = lags_between(connection, prefix, "acme", *EVER).values()
        assert lag.count == 200
