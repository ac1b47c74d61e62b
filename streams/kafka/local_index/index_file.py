"""The SQLite file of the local index: ids and subjects of records, and the indexed positions.

It is a cache. A damaged file is deleted and filled again.
"""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import orjson

from schemas.envelope import Envelope, MessageKey
from streams.log import LogUnavailable, Record, Topic
from streams.sqlite.database import make_private
from streams.submission.find_results import stands

logger = logging.getLogger("signalbox.kafka")

T = TypeVar("T")
FILE = "index.db"
WHOLE: frozenset[Topic] = frozenset({"events"})
BUSY_SECONDS = 5.0

VERSION = 3
"""The version of the tables: an index of another version is created again."""

_TABLES = """
CREATE TABLE IF NOT EXISTS topics (topic TEXT PRIMARY KEY, identity TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reached (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL,
    organization TEXT NOT NULL, id TEXT NOT NULL, subject TEXT NOT NULL, stands INTEGER NOT NULL,
    envelope BLOB
);
CREATE INDEX IF NOT EXISTS by_id ON records (id, organization, topic);
CREATE INDEX IF NOT EXISTS by_subject ON records (subject, topic, partition, position);
"""
_DROP = "".join(f"DROP TABLE IF EXISTS {table};" for table in ("log", "topics", "reached", "records"))
_SUBJECT = (
    "SELECT partition, position, envelope FROM records "
    "WHERE topic = ? AND subject = ? AND position > ? ORDER BY partition, position LIMIT ?"
)
_KEY = (
    "SELECT partition, position, envelope FROM records "
    "WHERE topic = ? AND organization = ? AND id = ? AND stands ORDER BY position LIMIT 1"
)
_ID = (
    "SELECT partition, COALESCE(MIN(CASE WHEN stands THEN position END), MAX(position)), NULL FROM records "
    "WHERE topic = ? AND id = ? GROUP BY organization, partition"
)
_REACHED = (
    "INSERT INTO reached VALUES (?, ?, ?, ?) "
    "ON CONFLICT (topic, partition) DO UPDATE SET position = excluded.position, id = excluded.id"
)
_IDENTITY = "INSERT INTO topics VALUES (?, ?) ON CONFLICT (topic) DO UPDATE SET identity = excluded.identity"

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""Errors that are not temporary; SQLITE_ERROR, with constant statements, means a missing table."""

Found = tuple[int, int, bytes | None]
"""Partition, position, and the envelope if it is stored."""

Ask = Callable[["IndexFile"], list[Found]]


class IndexLost(LogUnavailable):
    """The file was damaged and is deleted: its records must be indexed again."""


class IndexFile:
    """For one thread only. Every method raises LogUnavailable and IndexLost."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self._db: sqlite3.Connection | None = None

    def identify(self, topic: Topic, identity: str) -> None:
        """Deletes the records of the topic unless they are of the topic with this identity."""

        def work(db: sqlite3.Connection) -> None:
            with closing(db.execute("SELECT identity FROM topics WHERE topic = ?", (topic,))) as rows:
                known = rows.fetchone()
            if known is None or known[0] != identity:
                for table in ("records", "reached"):
                    db.execute(f"DELETE FROM {table} WHERE topic = ?", (topic,))
                db.execute(_IDENTITY, (topic, identity))

        self._write(work)

    def stored(self, topic: Topic, partition: int) -> tuple[int, str]:
        """The position up to which it is filled, and the id of the record there; 0 when it is empty."""
        return self._run(lambda db: _stored(db, topic, partition))

    def forget(self, topic: Topic, partition: int) -> None:
        def work(db: sqlite3.Connection) -> None:
            for table in ("records", "reached"):
                db.execute(f"DELETE FROM {table} WHERE topic = ? AND partition = ?", (topic, partition))

        self._write(work)

    def add(self, topic: Topic, partition: int, after: int, records: Sequence[Record]) -> int:
        """Adds the `records` after the position `after`; returns the position up to which it is filled.

        Nothing is added when it is not filled exactly up to `after`.
        """
        rows = [_row(record) for record in records if topic in WHOLE or record.fault is None]
        last = records[-1]

        def work(db: sqlite3.Connection) -> int:
            position, _ = _stored(db, topic, partition)
            if position != after:
                return position
            db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            db.execute(_REACHED, (topic, partition, last.position, last.envelope.id))
            return last.position

        return self._write(work)

    def ask(self, topic: Topic, ends: Sequence[int], ask: Ask) -> list[Found] | None:
        """The result of `ask`; None when not all partitions are filled up to their `ends`."""
        if any(self.stored(topic, partition)[0] < end for partition, end in enumerate(ends)):
            return None
        return ask(self)

    def of_subject(self, topic: Topic, subject: str, after: int, limit: int) -> list[Found]:
        return self._query(_SUBJECT, (topic, subject, after, limit))

    def of_keys(self, topic: Topic, keys: Sequence[MessageKey]) -> list[Found]:
        return [found for key in keys for found in self._query(_KEY, (topic, *key))]

    def of_id(self, topic: Topic, id: str) -> list[Found]:
        return self._query(_ID, (topic, id))

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _query(self, statement: str, values: Sequence[object]) -> list[Found]:
        def work(db: sqlite3.Connection) -> list[Found]:
            with closing(db.execute(statement, tuple(values))) as rows:
                return rows.fetchall()

        return self._run(work)

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def transaction(db: sqlite3.Connection) -> T:
            db.execute("BEGIN IMMEDIATE")
            result = work(db)
            db.execute("COMMIT")
            return result

        return self._run(transaction)

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._db is None:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                make_private(self.path)
                self._db = connect(self.path)
                _prepare(self._db)
            return work(self._db)
        except sqlite3.Error as error:
            self.close()  # this rolls an open transaction back
            if (getattr(error, "sqlite_errorcode", 0) & 0xFF) not in _DAMAGE:
                raise LogUnavailable(f"the index {self.path} cannot be used: {error}") from error
            logger.warning("%s cannot be used and is created again: %s", self.path, error)
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            raise IndexLost(f"the index {self.path} was damaged ({error}) and is created again") from error
        except OSError as error:
            raise LogUnavailable(f"the index {self.path} cannot be used: {error.strerror}") from error


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS)


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode=WAL")
    # Records lost by a power failure are indexed again; without any sync the file could be inconsistent.
    db.execute("PRAGMA synchronous=NORMAL")
    with closing(db.execute("PRAGMA user_version")) as rows:
        (version,) = rows.fetchone()
    if version != VERSION:
        db.executescript(f"BEGIN IMMEDIATE; {_DROP} PRAGMA user_version={VERSION}; COMMIT")
    db.executescript(_TABLES)


def _stored(db: sqlite3.Connection, topic: Topic, partition: int) -> tuple[int, str]:
    wanted = "SELECT position, id FROM reached WHERE topic = ? AND partition = ?"
    with closing(db.execute(wanted, (topic, partition))) as rows:
        return rows.fetchone() or (0, "")


def _row(record: Record) -> tuple[object, ...]:
    envelope = record.envelope
    return (
        record.topic,
        record.partition,
        record.position,
        envelope.partitionkey,
        envelope.id,
        envelope.subject,
        # A record without effect must not hide an effective one with the same id.
        record.fault is None and stands(record),
        _kept(envelope) if record.topic in WHOLE and record.fault is None else None,
    )


def _kept(envelope: Envelope) -> bytes:
    attributes = {name: v for name, v in envelope.attributes().items() if name in Envelope.__slots__}
    return orjson.dumps({**attributes, "subject": envelope.subject, "data": envelope.data})
