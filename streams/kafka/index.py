"""Finding records by id or subject, which Kafka cannot: an index on the local disk, filled from the topics.

It is a cache: it may be deleted at any time and is filled anew. Only topics that somebody asks for are
indexed; events are kept whole, because whoever asks for a subject wants all of them.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

import orjson

from schemas.envelope import Envelope, Key
from streams.finding import stands
from streams.log import LogUnavailable, Record, Topic

logger = logging.getLogger("signalbox.kafka")

T = TypeVar("T")
FILE = "index.db"
BATCH = 2_000
RETRY_SECONDS = 0.5
WHOLE: frozenset[Topic] = frozenset({"events"})

VERSION = 2
"""Of the tables: an index with others is made anew."""

_TABLES = """
CREATE TABLE IF NOT EXISTS log (name TEXT NOT NULL);
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
_DROP = "DROP TABLE IF EXISTS log; DROP TABLE IF EXISTS reached; DROP TABLE IF EXISTS records"
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

Found = tuple[int, int, bytes | None]
"""Partition, position, and the envelope where it is kept."""

Read = Callable[[Topic, int, int, int], Awaitable[list[Record]]]
Wait = Callable[[Topic, int, int], Awaitable[None]]
End = Callable[[Topic, int], Awaitable[int]]


class LocalIndex:
    """`read`, `wait` and `end` are the log's; `name` says which log it is an index of."""

    def __init__(self, directory: Path, name: str, partitions: int, read: Read, wait: Wait, end: End) -> None:
        self._path = directory / FILE
        self._name = name
        self._partitions = partitions
        self._read = read
        self._wait = wait
        self._end = end
        self._thread = ThreadPoolExecutor(1, "signalbox-index")
        self._db: sqlite3.Connection | None = None
        self._reached: dict[tuple[Topic, int], int] = {}
        self._following: dict[Topic, list[asyncio.Task[None]]] = {}
        self._grown = asyncio.Condition()
        self._opening = asyncio.Lock()

    async def of_subject(self, topic: Topic, subject: str, after: int, limit: int) -> list[Record]:
        """Records about a subject, in order. Raises LogUnavailable."""
        await self._caught_up(topic)
        return await self._records(topic, await self._ask(_SUBJECT, (topic, subject, after, limit)))

    async def of_keys(self, topic: Topic, keys: Sequence[Key]) -> dict[Key, Record]:
        """The first record of each organization and id that stands (`streams.finding`).

        Raises LogUnavailable.
        """
        await self._caught_up(topic)
        found: dict[Key, Record] = {}
        for key in keys:
            for record in await self._records(topic, await self._ask(_KEY, (topic, *key))):
                found[key] = record
        return found

    async def of_id(self, topic: Topic, id: str) -> list[Record]:
        """Of each organization with this id, per partition: its first record that stands, else its last.

        Raises LogUnavailable.
        """
        await self._caught_up(topic)
        return await self._records(topic, await self._ask(_ID, (topic, id)))

    async def close(self) -> None:
        tasks = [task for tasks in self._following.values() for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._db is not None:
            await self._in_thread(self._db.close)
        self._thread.shutdown(wait=True)

    async def _records(self, topic: Topic, rows: Sequence[Found]) -> list[Record]:
        records: list[Record] = []
        for partition, position, kept in rows:
            if kept is not None:
                records.append(Record(topic, partition, position, Envelope(**orjson.loads(kept))))
                continue
            # Retention may have taken it: then what is read is a later one.
            found = await self._read(topic, partition, position - 1, 1)
            records.extend(record for record in found if record.position == position)
        return records

    async def _caught_up(self, topic: Topic) -> None:
        """Waits until all that is on `topic` now is indexed."""
        await self._follow(topic)
        ends = await asyncio.gather(*(self._end(topic, partition) for partition in range(self._partitions)))
        for partition, end in enumerate(ends):
            place = (topic, partition)
            async with self._grown:
                while self._reached[place] < end:
                    self._raise_failure(topic)
                    await self._grown.wait()

    def _raise_failure(self, topic: Topic) -> None:
        for task in self._following[topic]:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def _follow(self, topic: Topic) -> None:
        async with self._opening:
            if topic in self._following:
                return
            if self._db is None:
                self._db = await self._in_thread(self._opened)
            for partition in range(self._partitions):
                self._reached[topic, partition] = await self._sound(topic, partition)
            self._following[topic] = [
                asyncio.create_task(self._fill(topic, p), name=f"index of {topic}/{p}")
                for p in range(self._partitions)
            ]

    async def _sound(self, topic: Topic, partition: int) -> int:
        """How far the partition is indexed; from nothing when the log is not the one that was indexed."""
        position, id = await self._in_thread(partial(self._stored, topic, partition))
        if not position:
            return 0
        records = await self._read(topic, partition, position - 1, 1)
        if not records or records[0].envelope.id == id or records[0].position > position:
            return position
        await self._in_thread(partial(self._forget, topic, partition))
        return 0

    async def _fill(self, topic: Topic, partition: int) -> None:
        place = (topic, partition)
        try:
            while True:
                try:
                    await self._wait(topic, partition, self._reached[place])
                    records = await self._read(topic, partition, self._reached[place], BATCH)
                except LogUnavailable as error:
                    logger.debug("the index waits for the log: %s", error)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if records:
                    await self._in_thread(partial(self._add, topic, partition, records))
                    self._reached[place] = records[-1].position
                    async with self._grown:
                        self._grown.notify_all()
        finally:
            async with self._grown:
                self._grown.notify_all()

    async def _ask(self, statement: str, values: Sequence[object]) -> list[Found]:
        return await self._in_thread(lambda: self._query(statement, values))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _opened(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._prepared()
        except sqlite3.DatabaseError as error:
            logger.warning("%s cannot be used and is made anew: %s", self._path, error)
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            return self._prepared()

    def _prepared(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=OFF")
        ((version,),) = db.execute("PRAGMA user_version").fetchall()
        if version != VERSION:
            db.executescript(_DROP)
            db.execute(f"PRAGMA user_version={VERSION}")
        db.executescript(_TABLES)
        known = [name for (name,) in db.execute("SELECT name FROM log")]
        if known != [self._name]:
            db.executescript("BEGIN; DELETE FROM records; DELETE FROM reached; DELETE FROM log; COMMIT")
            db.execute("INSERT INTO log VALUES (?)", (self._name,))
        return db

    def _stored(self, topic: Topic, partition: int) -> tuple[int, str]:
        found = self._connection().execute(
            "SELECT position, id FROM reached WHERE topic = ? AND partition = ?", (topic, partition)
        )
        with closing(found):
            return found.fetchone() or (0, "")

    def _query(self, statement: str, values: Sequence[object]) -> list[Found]:
        with closing(self._connection().execute(statement, tuple(values))) as rows:
            return rows.fetchall()

    def _forget(self, topic: Topic, partition: int) -> None:
        for table in ("records", "reached"):
            self._connection().execute(
                f"DELETE FROM {table} WHERE topic = ? AND partition = ?", (topic, partition)
            )

    def _add(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        whole = topic in WHOLE
        rows = [
            (
                topic,
                partition,
                record.position,
                record.envelope.partitionkey,
                record.envelope.id,
                record.envelope.subject,
                stands(record),
                _kept(record.envelope) if whole and record.fault is None else None,
            )
            for record in records
            # What cannot be acted on must not stand before what can, under the same id.
            if whole or record.fault is None
        ]
        db = self._connection()
        db.execute("BEGIN")
        try:
            db.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            db.execute(_REACHED, (topic, partition, records[-1].position, records[-1].envelope.id))
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise AssertionError("not open")
        return self._db


def _kept(envelope: Envelope) -> bytes:
    attributes = {name: v for name, v in envelope.attributes().items() if name in Envelope.__slots__}
    return orjson.dumps({**attributes, "subject": envelope.subject, "data": envelope.data})
