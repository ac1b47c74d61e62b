"""What the rows of a log must fulfil, checked at start: cheap, and where damage is likeliest, at the ends."""

import sqlite3
from pathlib import Path

from streams.chain import START, Link, fault
from streams.log import TOPICS, Topic
from streams.sqlite.database import damaged
from streams.sqlite.reader import decoded_but, skipped_keys
from streams.sqlite.rows import Row
from streams.sqlite.schema import MAX_POSITION, POSITION_BITS, READ, key_of
from streams.sqlite.writer import Stream

TAIL = 100
"""How many records at the end of each partition are decoded at start."""


def stored_partitions(db: sqlite3.Connection) -> int | None:
    row = db.execute("SELECT value FROM settings WHERE name = 'partitions'").fetchone()
    return None if row is None else row[0]


def stored_ends(db: sqlite3.Connection) -> dict[Stream, int]:
    return {(topic, partition): end for topic, partition, end in db.execute("SELECT * FROM ends")}


def ends_fault(db: sqlite3.Connection, partitions: int) -> str | None:
    """Whether the records reach just as far as was noted when they were written."""
    noted = stored_ends(db)
    for topic in TOPICS:
        for partition in range(partitions):
            (key,) = db.execute(
                f"SELECT max(key) FROM {topic} WHERE key > ? AND key <= ?",
                (key_of(partition, 0), key_of(partition, MAX_POSITION)),
            ).fetchone()
            actual = 0 if key is None else key & MAX_POSITION
            end = noted.pop((topic, partition), 0)
            if actual != end:
                return f"{topic}/{partition} ends at position {actual}, it was written up to {end}"
        (key,) = db.execute(f"SELECT max(key) FROM {topic}").fetchone()
        if key is not None and key >> POSITION_BITS >= partitions:
            return f"{topic} has records in partition {key >> POSITION_BITS} of {partitions}"
    if noted:
        topic, partition = next(iter(noted))
        return f"it notes the end of {topic}/{partition}, which does not exist"
    return None


def consumed_fault(db: sqlite3.Connection) -> str | None:
    """Whether somebody has read further than was written."""
    ends = stored_ends(db)
    for consumer, topic, partition, position in db.execute("SELECT * FROM consumed"):
        end = ends.get((topic, partition), 0)
        if position > end:
            return f"{consumer} has read {topic}/{partition} up to {position}, it ends at {end}"
    return None


def tail_fault(
    db: sqlite3.Connection,
    path: Path,
    topic: Topic,
    partition: int,
    end: int,
    skipped: frozenset[int] = frozenset(),
) -> str | None:
    """Whether the last records can be read, without gaps, and the chain of events holds among them."""
    after = max(end - TAIL, 0)
    rows: list[Row] = db.execute(
        READ[topic], (key_of(partition, after), key_of(partition, end), TAIL)
    ).fetchall()
    if len(rows) != end - after:
        return f"{topic}/{partition} has {len(rows)} records between {after + 1} and {end}"
    records = decoded_but(path, topic, rows, skipped)
    if topic != "events":
        return None
    before = START if after == 0 else None
    for record in records:
        if record.fault is not None:
            continue
        event = record.envelope
        # What never was in a chain is not judged here; `streams.chain.verify` does.
        if event.previoushash and before is not None:
            reason = fault(before, event)
            if reason is not None:
                return f"the event at {topic}/{partition} position {record.position}: {reason}"
        before = Link(int(event.sequence), event.hash()) if event.sequence.isdecimal() else None
    return None


def require_sound(db: sqlite3.Connection, path: Path, skipped: frozenset[int] = frozenset()) -> None:
    """`skipped` are the keys of events that need not be readable, beside those that the log names.

    Raises LogDamaged, sqlite3.Error.
    """
    skipped |= skipped_keys(db)
    partitions = stored_partitions(db)
    if partitions is None:
        # Made, and never opened to its end: then nothing was written either.
        if stored_ends(db):
            raise damaged(path, "its partition count is missing")
        return
    reason = ends_fault(db, partitions) or consumed_fault(db)
    for (topic, partition), end in stored_ends(db).items():
        reason = reason or tail_fault(db, path, topic, partition, end, skipped)
    if reason is not None:
        raise damaged(path, reason)
