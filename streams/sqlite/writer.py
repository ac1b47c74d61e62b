"""One SQLite transaction on the log, made of all transactions that are waiting."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streams.log import Append, Topic, Transaction, WrongExpectedPosition
from streams.sqlite.many_rows import execute_rows
from streams.sqlite.rows import Row, encode
from streams.sqlite.schema import (
    DROP_SNAPSHOT,
    INSERT,
    SET_CONSUMED,
    SET_END,
    SET_SNAPSHOT,
    SET_SNAPSHOT_POSITION,
    key_of,
)

Stream = tuple[Topic, int]
"""A topic's partition."""
Positions = list[list[int]]
"""The positions of a transaction's records, by append."""
EncodedRow = tuple[str, str, str, bytes]
"""A row without its key."""
Written = Mapping[Stream, tuple[Sequence[Row], int]]
"""The rows that a unit appended to each partition, and the position of the last one."""


@dataclass(frozen=True, slots=True)
class EncodedAppend:
    stream: Stream
    rows: Sequence[EncodedRow]
    expected: int | None


@dataclass(frozen=True, slots=True)
class EncodedTransaction:
    """Encoded by the caller, so that only the caller gets an error for data that JSON cannot represent."""

    transaction: Transaction
    appends: Sequence[EncodedAppend]


def encoded(transaction: Transaction) -> EncodedTransaction:
    """Raises TypeError for data that JSON cannot represent."""
    return EncodedTransaction(
        transaction,
        [
            EncodedAppend((a.topic, a.partition), [encode(e) for e in a.envelopes], _expected(a))
            for a in transaction.appends
        ],
    )


def _expected(append: Append) -> int | None:
    """The expected position of an append; positions have no gaps here."""
    return append.expected if append.first is None else append.first - 1


class LogUnit:
    """See `group_commit.Unit`. `ends` are the durable ends, changed only once this unit is durable."""

    def __init__(self, ends: dict[Stream, int], announce: Callable[[Written], None]) -> None:
        self._durable = ends
        self._announce = announce
        self._ends: dict[Stream, int] = {}
        self._rows: dict[Stream, list[Row]] = {}
        self._consumed: dict[tuple[str, str, int], int] = {}
        self._snapshots: dict[tuple[str, int, str], tuple[int, bytes]] = {}
        self._snapshot_positions: dict[tuple[str, int], int] = {}

    def add(self, request: EncodedTransaction) -> Positions:
        """The positions per append. Raises WrongExpectedPosition."""
        ends: dict[Stream, int] = {}
        starts: list[int] = []
        for append in request.appends:
            stream = append.stream
            end = ends.get(stream)
            if end is None:
                end = self._ends.get(stream)
            if end is None:
                end = self._durable[stream]
            if append.expected is not None and append.expected != end:
                raise WrongExpectedPosition(*stream, append.expected, end)
            starts.append(end)
            ends[stream] = end + len(append.rows)
        positions: Positions = []
        for append, start in zip(request.appends, starts, strict=True):
            stream = append.stream
            rows = self._rows.get(stream)
            if rows is None:
                rows = self._rows[stream] = []
            first = key_of(stream[1], start + 1)
            for key, row in enumerate(append.rows, first):
                rows.append((key, *row))
            positions.append(list(range(start + 1, start + 1 + len(append.rows))))
        self._ends.update(ends)
        for c in request.transaction.consumed:
            self._consumed[c.consumer, c.topic, c.partition] = c.position
        for s in request.transaction.snapshots:
            self._snapshots[s.owner, s.partition, s.subject] = (s.position, s.state)
            self._snapshot_positions[s.owner, s.partition] = s.position
        return positions

    def write(self, db: sqlite3.Connection) -> None:
        def put(statement: str, rows: Sequence[Sequence[Any]]) -> None:
            execute_rows(db, statement, rows)

        for (topic, _), rows in self._rows.items():
            put(INSERT[topic], rows)
        put(SET_END, [(*stream, end) for stream, end in self._ends.items()])
        put(SET_CONSUMED, [(*of, position) for of, position in self._consumed.items()])
        put(SET_SNAPSHOT, [(*of, *at) for of, at in self._snapshots.items() if at[1]])
        put(DROP_SNAPSHOT, [of for of, (_, state) in self._snapshots.items() if not state])
        put(SET_SNAPSHOT_POSITION, [(*of, position) for of, position in self._snapshot_positions.items()])

    def committed(self) -> None:
        self._durable.update(self._ends)

    def announce(self) -> None:
        self._announce({stream: (self._rows[stream], end) for stream, end in self._ends.items()})
