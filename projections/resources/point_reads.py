"""Reads one resource as it is now from SQLite, on the caller's thread.

Such a read takes about 20 µs. In another thread it takes ten times as long, mostly for thread switches: a
busy event loop releases the GIL late after every statement.
"""

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import orjson
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import SQLAlchemyError

from projections.pages import NOW, Row
from projections.readmodel import Recorded
from projections.resources.model import Resources
from projections.resources.queries import one, row_of
from projections.resources.tables import tables
from projections.resources.versions import Document, Version, events_by_aggregate, fold, own_fields
from projections.store import Generation, Store
from schemas.aggregate import Aggregate

_DIALECT = sqlite.dialect()
_LIVE = "SELECT generation, version FROM generations WHERE read_model = ? AND state = 'live'"
_DOCUMENT = 5
"""The column of the document; each second column after it is the document of an entry."""


class NoAnswer(Exception):
    """The tables cannot be read at the moment, or do not exist yet."""


class PointReads:
    """Reads on a connection of its own, which never waits for locks. For one thread."""

    def __init__(self, store: Store) -> None:
        """`store` is a SQLite file, and is closed after this object."""
        self._store = store
        self._db: sqlite3.Connection | None = None

    def get(self, aggregate: Aggregate, organization: str, name: str) -> Row | None:
        """A resource, or None when it does not exist. Raises NoAnswer."""
        row = self._read(aggregate, organization, name)
        return None if row is None else row_of(aggregate, row)

    def get_after(
        self, aggregate: Aggregate, organization: str, name: str, version: int, events: Sequence[Recorded]
    ) -> Row | None:
        """The resource at `version`, after its last `events`, if the file has none of them and all before; if
        it does not exist then, None. Raises NoAnswer, Unprojectable."""
        row = self._read(aggregate, organization, name) if version > len(events) else None
        after, entries = None, dict[int | None, Document]()
        if row is not None:
            after = Version._make((organization, *row[: _DOCUMENT + 1], tuple(row[_DOCUMENT + 1 :: 2])))
            entries = dict(zip(row[_DOCUMENT + 1 :: 2], row[_DOCUMENT + 2 :: 2], strict=True))
        if (after.version if after else 0) + len(events) != version:
            return None
        for effect, _, record in events_by_aggregate(events).get(aggregate.name, ()):
            envelope = record.envelope
            after = fold(after, effect, record.position, envelope.time, envelope.data)
            if effect.parts:
                entries[record.position] = own_fields(envelope.data)
        if after is None or after.document is None:
            return None
        held = [value for at in after.entries for value in (at, entries.get(at))]
        return row_of(aggregate, (*after[1:-1], *held))

    def _read(self, aggregate: Aggregate, organization: str, name: str) -> list[Any] | None:
        try:
            db = self._db or self._connect()
            db.execute("BEGIN")
            try:
                row = _get(db, aggregate.name, organization, name)
            finally:
                db.execute("ROLLBACK")
        except (sqlite3.Error, SQLAlchemyError) as error:
            self.close()
            raise NoAnswer from error
        return row

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _connect(self) -> sqlite3.Connection:
        pooled = self._store.reader.raw_connection()
        db = pooled.driver_connection
        pooled.detach()
        if not isinstance(db, sqlite3.Connection):
            raise TypeError("the read models are not in a SQLite file")
        self._db = db
        db.execute("PRAGMA busy_timeout=0")
        return db


class _Statement(NamedTuple):
    sql: str
    values: tuple[Any, ...]
    organization: int
    name: int
    """The indexes of these two in `values`."""


@lru_cache(64)
def _statement(prefix: str, aggregate: str) -> _Statement:
    compiled = one(tables(prefix).of[aggregate], NOW.kind).compile(dialect=_DIALECT)
    names = compiled.positiontup or []
    values = tuple(compiled.params[name] for name in names)
    return _Statement(compiled.string, values, names.index("organization"), names.index("name"))


def _get(db: sqlite3.Connection, aggregate: str, organization: str, name: str) -> list[Any] | None:
    live = db.execute(_LIVE, (Resources.name,)).fetchone()
    if live is None:
        raise NoAnswer
    statement = _statement(Generation(Resources.name, *live).prefix, aggregate)
    values = list(statement.values)
    values[statement.organization], values[statement.name] = organization, name
    found = db.execute(statement.sql, values).fetchone()
    if found is None:
        return None
    row: list[Any] = list(found)
    for at in range(_DOCUMENT, len(row), 2):
        if row[at] is not None:
            row[at] = orjson.loads(row[at])
    return row
