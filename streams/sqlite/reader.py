"""Reads the log on the event loop's own thread.

A point read takes some 10 µs, a thread switch several times that, and a decoding thread blocks the loop for
5 ms at a time. So reads run on the loop, in slices of a millisecond.
"""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from schemas.limits import LARGEST_READ
from schemas.parked import RecordSkipped
from streams.decider.skip_decisions import remedy
from streams.log import LogDamaged, Record, StateSnapshot, Topic
from streams.sqlite.database import connect, damaged, explained
from streams.sqlite.read_connection import ReadConnection
from streams.sqlite.rows import Row, decode, unreadable
from streams.sqlite.schema import (
    LOG,
    MAX_POSITION,
    POSITION_BITS,
    READ,
    READ_SUBJECT,
    SNAPSHOT_POSITION,
    SNAPSHOTS,
    find_many,
    key_of,
)

SLICE = 200


class Reader:
    """Each slice sees the transactions committed at its time."""

    def __init__(self, path: Path, skipped: frozenset[int] = frozenset()) -> None:
        """`skipped`: keys of events that are returned with a fault when they cannot be decoded."""
        self._path = path
        self.skipped = skipped
        self._connection = ReadConnection(LOG, path)
        self.query = self._connection.query
        self._query_up_to = self._connection.query_up_to
        self.close = self._connection.close

    async def read(self, topic: Topic, partition: int, after: int, end: int, limit: int) -> list[Record]:
        """Records above `after` up to `end`, without gaps; also bounded by `LARGEST_READ`."""
        after = max(after, 0)
        last = min(end, after + limit)
        left = LARGEST_READ
        records: list[Record] = []
        while after < last and left > 0:
            upto = min(last, after + SLICE)
            values = (key_of(partition, after), key_of(partition, upto), SLICE)
            rows = self._query_up_to(READ[topic], values, left)
            left -= _size(rows)
            found = self._decoded(topic, rows)
            if rows and left <= 0:
                upto = min(upto, after + len(rows))
            if len(found) != upto - after or found[-1].position != upto:
                there = {record.position for record in found}
                missing = next(p for p in range(after + 1, upto + 1) if p not in there)
                raise damaged(self._path, f"{topic}/{partition} has no record at position {missing}")
            records += found
            after = upto
            if after < last:
                await asyncio.sleep(0)
        return records

    async def read_subject(
        self, topic: Topic, partition: int, subject: str, after: int, end: int, limit: int
    ) -> list[Record]:
        """Up to `limit` records about a subject above `after` and up to `end`."""
        after = max(after, 0)
        left = LARGEST_READ
        records: list[Record] = []
        while len(records) < limit and left > 0:
            wanted = min(limit - len(records), SLICE)
            values = (subject, key_of(partition, after), key_of(partition, end), wanted)
            rows = self._query_up_to(READ_SUBJECT[topic], values, left)
            left -= _size(rows)
            found = self._decoded(topic, rows)
            records += found
            if len(found) < wanted:
                break
            after = found[-1].position
            await asyncio.sleep(0)
        return records

    async def find(self, topic: Topic, partition: int, ids: Sequence[str], end: int) -> list[Record]:
        """The records with any of these ids, up to `end`; those of one id are in order."""
        found: list[Record] = []
        bounds = (key_of(partition, 0), key_of(partition, end))
        for at in range(0, len(ids), SLICE):
            some = ids[at : at + SLICE]
            found += self._decoded(topic, self.query(find_many(topic, len(some)), (*some, *bounds)))
            if at + SLICE < len(ids):
                await asyncio.sleep(0)
        return found

    async def snapshots(self, owner: str, partition: int) -> tuple[int, list[StateSnapshot]]:
        """Reads in a thread, in one transaction; called only at start."""
        return await asyncio.to_thread(_snapshots, self._path, owner, partition)

    def _decoded(self, topic: Topic, rows: Sequence[Row]) -> list[Record]:
        try:
            return [decode(topic, row) for row in rows]
        except (ValueError, TypeError):
            return decoded_but(self._path, topic, rows, self.skipped)


@asynccontextmanager
async def open_reader(path: Path, skipped: frozenset[int]) -> AsyncGenerator[Reader]:
    reader = Reader(path, skipped)
    try:
        yield reader
    finally:
        reader.close()


def _size(rows: Sequence[Row]) -> int:
    return sum(len(row[-1]) for row in rows)


def decoded_but(path: Path, topic: Topic, rows: Sequence[Row], skipped: frozenset[int]) -> list[Record]:
    """The records of rows; skipped ones that cannot be decoded have a fault. Raises LogDamaged."""
    records: list[Record] = []
    for row in rows:
        try:
            records.append(decode(topic, row))
        except (ValueError, TypeError) as error:
            if topic != "events" or row[0] not in skipped:
                raise undecodable(path, topic, rows, skipped) from None
            records.append(unreadable(topic, row, error))
    return records


def skipped_keys(db: sqlite3.Connection) -> frozenset[int]:
    """The keys of the events that operators skipped. Raises sqlite3.Error."""
    rows = db.execute("SELECT subject FROM parked WHERE type = ?", (RecordSkipped.type(),)).fetchall()
    places = (subject.split("/") for (subject,) in rows)
    return frozenset(key_of(int(partition), int(position)) for _, partition, position in places)


def undecodable(
    path: Path, topic: Topic, rows: Sequence[Row], skipped: frozenset[int] = frozenset()
) -> LogDamaged:
    """The error for the first of `rows` that cannot be decoded."""
    for row in rows:
        try:
            decode(topic, row)
        except (ValueError, TypeError) as error:
            if row[0] in skipped and topic == "events":
                continue
            partition, position = row[0] >> POSITION_BITS, row[0] & MAX_POSITION
            more = f". {remedy(partition, position)}" if topic == "events" else ""
            return damaged(path, f"the record at {topic}/{partition} position {position}: {error}{more}")
    return damaged(path, f"records of {topic}")


def _snapshots(path: Path, owner: str, partition: int) -> tuple[int, list[StateSnapshot]]:
    try:
        db = connect(LOG, path, write=False)
        try:
            db.execute("BEGIN")
            known = db.execute(SNAPSHOT_POSITION, (owner, partition)).fetchone()
            rows = db.execute(SNAPSHOTS, (owner, partition)).fetchall()
        finally:
            db.close()
    except sqlite3.Error as error:
        raise explained(error, path) from error
    snapshots = [
        StateSnapshot(owner, partition, subject, position, state) for subject, position, state in rows
    ]
    return (known[0] if known else 0, snapshots)
