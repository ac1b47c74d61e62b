"""A store belongs to one log, and is refused to a process of another log."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, inspect

from projections.source_log import OtherLog, Positions, SourceLog, Unidentified, difference
from projections.store import CHECKPOINTS, GENERATIONS, METADATA, SOURCE_LOG, Store, open_store, source_log

OURS = SourceLog("a", "log A")
THEIRS = SourceLog("b", "log B")

Target = Path | str


@pytest.fixture(params=["SQLite", pytest.param("PostgreSQL", marks=pytest.mark.real)])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    """Where there is no store yet."""
    if request.param == "SQLite":
        return tmp_path / "readmodels.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def opened(target: Target) -> Iterator[Callable[[SourceLog | None], Store]]:
    stores: list[Store] = []

    def opening(log: SourceLog | None) -> Store:
        stores.append(open_store(target, log))
        return stores[-1]

    yield opening
    for store in stores:
        store.close()


Opened = Callable[[SourceLog | None], Store]


def computed(store: Store, checkpoints: Positions) -> None:
    """Rows as a projector leaves them that has taken in `checkpoints`."""
    with store.writer.begin() as connection:
        of = {"read_model": "resources", "generation": 1}
        connection.execute(insert(GENERATIONS).values(**of, version=1, state="live"))
        for (topic, partition), position in checkpoints.items():
            connection.execute(
                insert(CHECKPOINTS).values(**of, topic=topic, partition=partition, position=position)
            )


def test_a_store_is_opened_again_for_its_own_log(opened: Opened) -> None:
    computed(opened(OURS), {("events", 0): 7})

    with opened(OURS).reader.begin() as connection:
        assert source_log(connection) == OURS


def test_a_store_of_another_log_is_refused_with_both_names_and_a_way_out(
    opened: Opened, target: Target
) -> None:
    opened(OURS)

    with pytest.raises(OtherLog) as e:
        opened(THEIRS)

    assert "was computed from another log: log A. This log is log B. To go on, " in str(e.value)
    assert ("SIGNALBOX_POSTGRES" if isinstance(target, str) else "move the file out") in str(e.value)


def test_nothing_of_a_refused_store_is_changed(opened: Opened) -> None:
    store = opened(OURS)
    with store.writer.begin() as connection:
        METADATA.tables["parked"].drop(connection)

    with pytest.raises(OtherLog):
        opened(THEIRS)

    with store.reader.begin() as connection:
        assert not inspect(connection).has_table("parked")


def test_a_store_that_names_no_log_is_adopted_within_the_ends_of_the_log(opened: Opened) -> None:
    computed(opened(None), {("events", 0): 7, ("status", 0): 0})
    ends = {("events", 0): 7, ("status", 0): 5}

    opened(SourceLog("a", "log A", ends))

    with pytest.raises(OtherLog, match="log A"):
        opened(THEIRS)


def test_the_ends_are_asked_for_where_they_are_needed(opened: Opened) -> None:
    computed(opened(None), {("events", 0): 7})

    with pytest.raises(Unidentified):
        opened(OURS)


def test_a_store_that_names_no_log_and_is_beyond_its_end_is_refused(opened: Opened) -> None:
    computed(opened(None), {("events", 0): 7})

    with pytest.raises(OtherLog, match=r"its checkpoint of events/0 is 7, where this log ends at 6"):
        opened(SourceLog("a", "log A", {("events", 0): 6}))


def test_an_emptied_store_keeps_its_log(opened: Opened) -> None:
    store = opened(OURS)
    computed(store, {("events", 0): 7})
    with store.writer.begin() as connection:
        connection.execute(delete(CHECKPOINTS))

    with pytest.raises(OtherLog):
        opened(THEIRS)


def test_a_store_names_one_log(opened: Opened) -> None:
    opened(OURS)
    with opened(OURS).reader.begin() as connection:
        assert connection.execute(SOURCE_LOG.select()).all() == [("a", "log A")]


@pytest.mark.parametrize(
    ("checkpoints", "found"),
    [
        ({("events", 0): 3, ("events", 1): 0}, None),
        ({}, None),
        ({("events", 0): 3}, "it has no checkpoint of events/1, a partition of this log"),
        (
            {("events", 0): 0, ("events", 1): 0, ("events", 2): 0},
            "it has a checkpoint of events/2, a partition that this log does not have",
        ),
    ],
)
def test_checkpoints_are_compared_with_the_partitions_of_the_log(
    checkpoints: Positions, found: str | None
) -> None:
    assert difference(checkpoints, {("events", 0): 3, ("events", 1): 9}) == found
