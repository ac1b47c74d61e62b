"""A crash at any statement of a batch applies nothing twice and skips nothing. `make check` tries a quarter
of the statements."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, inspect

from projections.catalog import READ_MODELS
from projections.store import Store, open_store
from schemas.message import Message
from streams.log import Record, Topic
from streams.projection.progress import Batches
from streams.projection.writer import Writer
from tests.projections.events import deleted, delivery, node, outcome, placed, published, started
from tests.streams.batches import batch
from tests.support.laws import QUICK


class Crash(BaseException):
    """The process is gone."""


def records(topic: Topic, messages: Sequence[Message], first: int = 1) -> list[Record]:
    return [Record(topic, 0, p.position, p.envelope) for p in placed(*messages, first=first)]


BEFORE = [published(revision=1), started("d1")]
EVENTS = [published(revision=2), deleted(), published("b", 1), published(revision=1), started("d2")]
BATCH: dict[str, Batches] = {
    "events": batch(records("events", EVENTS, 3)),
    "outcomes": batch(records("outcomes", [outcome("c1"), outcome("c2")])),
    "status": batch(records("status", [node("n1", True, 1), delivery("d1", "acknowledged", 2, node="n1")])),
}


def opened(path: Path) -> tuple[Store, Writer]:
    store = open_store(path)
    writer = Writer(store, READ_MODELS, 1)
    writer.open()
    return store, writer


def contents(store: Store) -> dict[str, list[str]]:
    with store.reader.begin() as connection:
        return {
            name: sorted(str(tuple(row)) for row in connection.exec_driver_sql(f'select * from "{name}"'))
            for name in inspect(connection).get_table_names()
        }


def copied(file: Path, name: str) -> Path:
    """The database as a process would find it if the one that has it open ended now."""
    copy = file.with_name(name)
    for end in ("", "-wal"):
        if (part := file.with_name(file.name + end)).exists():
            shutil.copyfile(part, copy.with_name(name + end))
    return copy


@pytest.mark.parametrize("moment", ["before_cursor_execute", "after_cursor_execute", "commit"])
def test_a_crash_at_every_statement(tmp_path: Path, moment: str):
    first: dict[str, Batches] = {"events": batch(records("events", BEFORE))}
    begun = tmp_path / "begun.db"
    store, writer = opened(begun)
    writer.apply(first)
    before = contents(store)
    store.close()
    store, writer = opened(copied(begun, "whole.db"))
    writer.apply(BATCH)
    expected = contents(store)
    store.close()
    assert before != expected

    crashes, step = 0, 4 if QUICK else 1
    while True:
        file = copied(begun, f"{crashes}.db")
        store, writer = opened(file)
        crashed = _crash(store, writer, moment, crashes)
        assert contents(store) == (before if crashed else expected)
        left = copied(file, f"{crashes}-left.db")
        store.close()

        store, writer = opened(left)
        assert contents(store) == (before if crashed else expected)
        _offer(writer)
        assert contents(store) == expected
        store.close()
        if not crashed:
            break
        crashes += step
    assert crashes >= (1 if moment == "commit" else 12)


def _crash(store: Store, writer: Writer, moment: str, after: int) -> bool:
    """Applies the batch and crashes at its statement number `after`; False when it has no such statement."""
    left = after

    def strike(*_: Any) -> None:
        nonlocal left
        if left == 0:
            raise Crash
        left -= 1

    event.listen(store.writer, moment, strike)
    try:
        writer.apply(BATCH)
    except Crash:
        return True
    finally:
        event.remove(store.writer, moment, strike)
    return False


def _offer(writer: Writer) -> None:
    """What the runner does after a restart: everything above each checkpoint, here with what is below too."""
    writer.apply(BATCH)
