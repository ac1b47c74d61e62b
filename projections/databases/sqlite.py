"""Read models in one SQLite file: its connections and its dialect.

WAL, `synchronous=NORMAL`: transactions lost in a power cut are projected again.
"""

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    func,
    select,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.pool import QueuePool

from projections.databases.port import InsertOrUpdate, OnConflict, Values, with_conflict
from projections.memo import computed_once
from projections.source_log import OTHER_FILE, OtherLog, SourceLog

_SIZES = (64, 16, 4, 1)
"""Rows per statement: few different sizes, so that prepared statements are reused. Not row by row, since the
driver releases the GIL at every statement, and another busy thread then keeps it for milliseconds."""
WRITER_CACHE = 16_384
READER_CACHE = 2_048
"""KiB of pages that a connection keeps in the memory of the process; others are in that of the system."""


def engines(path: Path) -> tuple[Engine, Engine]:
    """The engine that writes and the engine that reads. The file has mode 0600. Raises OSError."""
    _make_private(path)
    return _engine(path, "BEGIN IMMEDIATE", 1, WRITER_CACHE), _engine(path, "BEGIN", 8, READER_CACHE)


def _make_private(path: Path) -> None:
    """Sets mode 0600 on the file; SQLite copies it to the journal. An existing file is not opened, since
    closing it would drop the locks that other connections of this process have on it."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            if file.exists() and file.stat().st_mode & 0o077:
                file.chmod(0o600)


def _engine(path: Path, begin: str, size: int, cache: int) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        json_serializer=_json,
        json_deserializer=orjson.loads,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_reset_on_return=None,
        connect_args={"check_same_thread": False, "timeout": 5, "cached_statements": 512},
    )

    event.listen(engine, "connect", partial(_set_up, cache))
    event.listen(engine, "begin", partial(_begin, begin))
    return engine


def _set_up(cache: int, connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # transactions begin explicitly and include savepoints and DDL
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA cache_size=-{cache}")
    connection.execute("PRAGMA wal_autocheckpoint=4000")
    connection.execute("PRAGMA temp_store=MEMORY")  # rollback data of savepoints
    connection.execute("PRAGMA secure_delete=FAST")  # a dropped generation is not overwritten page by page


def _begin(statement: str, connection: Connection) -> None:
    connection.exec_driver_sql(statement)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


@dataclass(frozen=True, slots=True)
class SqliteDialect:
    """`projections.databases.port.Dialect`. There is one writer at a time, and no other process."""

    shared: bool = False

    def insert(self, table: Table) -> InsertOrUpdate:
        return sqlite.insert(table)

    def insert_rows(
        self, connection: Connection, table: Table, rows: Sequence[Values], existing: OnConflict | None
    ) -> None:
        at = 0
        while at < len(rows):
            size = next(size for size in _SIZES if size <= len(rows) - at)
            sql = insert_statement(connection.dialect, table, existing, size)
            connection.exec_driver_sql(sql, tuple(chain.from_iterable(rows[at : at + size])))
            at += size

    def exclusive(self, connection: Connection, name: str) -> None:
        return None

    def try_exclusive(self, connection: Connection, name: str, *, session: bool) -> bool:
        return True

    def notify(self, connection: Connection, channel: str, payload: str) -> None:
        return None

    def is_in(self, column: Column[str], parameter: str) -> ColumnElement[bool]:
        wanted = func.json_each(sqlalchemy.bindparam(parameter)).table_valued("value", name="wanted")
        # A subquery looks each text up in the index; a join scans the table.
        return column.in_(select(wanted.c.value))

    def texts(self, values: Sequence[str]) -> Any:
        return _json(values)

    def is_element(self, value: str, of: ColumnElement[Any]) -> ColumnElement[bool]:
        elements = func.json_each(of).table_valued("value")
        return select(elements.c.value).where(elements.c.value == value).exists()

    def has_index(self, connection: Connection, name: str) -> bool:
        wanted = text("SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = :name")
        return connection.execute(wanted, {"name": name}).first() is not None

    def lookup(self, parameter: str, table: Table, where: str, join: str) -> str:
        return f"FROM json_each(:{parameter}) AS k CROSS JOIN {table.name} AS u{join} WHERE {where}"

    def part_of_key(self, i: int, *, number: bool = False) -> str:
        return f"json_extract(k.value, '$[{i}]')"

    def as_list(self, columns: str) -> str:
        return f"json_array({columns})"

    def driver_sql(self, connection: Connection, sql: str) -> str:
        return sql

    def other_log(self, connection: Connection, difference: str, log: SourceLog) -> OtherLog:
        return OtherLog(str(connection.engine.url.database), difference, log, OTHER_FILE)


DIALECT = SqliteDialect()


@computed_once(512)
def insert_statement(
    dialect: sqlalchemy.Dialect, table: Table, existing: OnConflict | None, size: int
) -> str:
    """The SQL for `size` rows, its placeholders in the order of their values."""
    columns = table.columns.keys()
    insert = sqlite.insert(table).values([dict.fromkeys(columns)])
    compiled = with_conflict(insert, table, existing).compile(dialect=dialect)
    row = f"({', '.join('?' * len(columns))})"
    before, values, after = compiled.string.partition(f" VALUES {row}")
    if compiled.positiontup != [f"{column}_m0" for column in columns] or not values:
        raise AssertionError(f"the columns of {table.name} are not in the order of its rows")
    # Compiled for one row: SQLAlchemy takes some milliseconds for 64.
    return f"{before} VALUES {', '.join([row] * size)}{after}"
