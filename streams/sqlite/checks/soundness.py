"""Checks of the rows of a log at start: cheap, at the ends of partitions, where damage is most likely."""

import sqlite3
from pathlib import Path

from projections.source_log import SourceLog
from streams.decider.chain import fault
from streams.decider.head import ChainHead
from streams.log import TOPICS, Topic
from streams.sqlite.database import damaged, stored_version
from streams.sqlite.reader import decoded_but, skipped_keys
from streams.sqlite.rows import Row
from streams.sqlite.schema import LOG, MAX_POSITION, POSITION_BITS, READ, key_of
from streams.sqlite.writer import Stream

TAIL = 100
"""The number of records at the end of each partition that are decoded at start."""


def stored_partitions(db: sqlite3.Connection) -> int | None:
    return _setting(db, "partitions")


def stored_identity(db: sqlite3.Connection) -> int | None:
    return _setting(db, "identity")


def source_log(path: Path, identity: int) -> SourceLog:
    """The log in the file `path`."""
    return SourceLog(f"{identity:016x}", f"{path.absolute()} ({identity:016x})")


def _setting(db: sqlite3.Connection, name: str) -> int | None:
    row = db.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    return None if row is None else row[0]


def stored_topics(db: sqlite3.Connection) -> list[Topic]:
    """The topics that have a table: all but those that a migration is still to add."""
    if stored_version(db) == LOG.version:
        return list(TOPICS)
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return [topic for topic in TOPICS if topic in tables]


def stored_ends(db: sqlite3.Connection) -> dict[Stream, int]:
    return {(topic, partition): end for topic, partition, end in db.execute("SELECT * FROM ends")}


def ends_fault(db: sqlite3.Connection, partitions: int) -> str | None:
    """The fault when the records do not end at the stored ends."""
    expected_ends = stored_ends(db)
    for topic in stored_topics(db):
        for partition in range(partitions):
            (key,) = db.execute(
                f"SELECT max(key) FROM {topic} WHERE key > ? AND key <= ?",
                (key_of(partition, 0), key_of(partition, MAX_POSITION)),
            ).fetchone()
            actual = 0 if key is None else key & MAX_POSITION
            end = expected_ends.pop((topic, partition), 0)
            if actual != end:
                return f"{topic}/{partition} ends at position {actual}, it was written up to {end}"
        (key,) = db.execute(f"SELECT max(key) FROM {topic}").fetchone()
        if key is not None and key >> POSITION_BITS >= partitions:
            return f"{topic} has records in partition {key >> POSITION_BITS} of {partitions}"
    if expected_ends:
        topic, partition = next(iter(expected_ends))
        return f"it has an end of {topic}/{partition}, which does not exist"
    return None


def consumed_fault(db: sqlite3.Connection) -> str | None:
    """The fault when a consumer has read beyond the end."""
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
    """The fault when the last records have gaps, cannot be decoded, or break the hash chain."""
    after = max(end - TAIL, 0)
    rows: list[Row] = db.execute(
        READ[topic], (key_of(partition, after), key_of(partition, end), TAIL)
    ).fetchall()
    if len(rows) != end - after:
        return f"{topic}/{partition} has {len(rows)} records between {after + 1} and {end}"
    records = decoded_but(path, topic, rows, skipped)
    if topic != "events":
        return None
    before = ChainHead() if after == 0 else None
    for record in records:
        if record.fault is not None:
            continue
        event = record.envelope
        # Records outside of the chain are not checked here; `streams.decider.chain.verify` does.
        if event.previoushash and before is not None:
            reason = fault(before, event)
            if reason is not None:
                return f"the event at {topic}/{partition} position {record.position}: {reason}"
        before = ChainHead().after(event, record.position) if event.sequence.isdecimal() else None
    return None


def require_sound(db: sqlite3.Connection, path: Path, skipped: frozenset[int] = frozenset()) -> None:
    """`skipped`: keys of events that may be unreadable, beside those skipped on the log.

    Raises LogDamaged, sqlite3.Error.
    """
    skipped |= skipped_keys(db)
    partitions = stored_partitions(db)
    if partitions is None:
        # Created, and never opened completely: then nothing was written either.
        if stored_ends(db):
            raise damaged(path, "its partition count is missing")
        return
    reason = ends_fault(db, partitions) or consumed_fault(db)
    for (topic, partition), end in stored_ends(db).items():
        reason = reason or tail_fault(db, path, topic, partition, end, skipped)
    if reason is not None:
        raise damaged(path, reason)
