"""Read models in PostgreSQL, which several processes share: connections and dialect.

The loss of the server is detected within seconds, even if nothing closes its connections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol, cast

import orjson
import psycopg
import sqlalchemy
from psycopg import IsolationLevel
from sqlalchemy import (
    ARRAY,
    JSON,
    Column,
    ColumnElement,
    Connection,
    Engine,
    String,
    Table,
    any_,
    bindparam,
    column,
    create_engine,
    event,
    func,
    select,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateColumn, CreateIndex

from projections.databases.bulk import without_nul
from projections.databases.port import MANY, InsertOrUpdate, OnConflict, Values, with_conflict
from projections.memo import computed_once
from projections.source_log import OTHER_DATABASE, OtherLog, SourceLog

CONNECT_SECONDS = 2
READ_MILLISECONDS = 5_000
POOL_SECONDS = 5.0

REACHED_BY: dict[str, Any] = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4_000,
    "application_name": "signalbox",
}
"""Parameters of every connection."""


class _Connection(Protocol):
    isolation_level: IsolationLevel | None
    read_only: bool | None

    def execute(self, query: str, /) -> object: ...
    def commit(self) -> None: ...


def engines(url: str) -> tuple[Engine, Engine]:
    """The engine that writes, and the engine whose transactions each read one snapshot."""
    reader = _engine(url, 8)
    event.listen(reader, "connect", _set_up_reader)
    return engine(url, 4), reader


def engine(url: str, size: int) -> Engine:
    """An engine that writes, with up to `size` connections."""
    writer = _engine(url, size)
    event.listen(writer, "connect", _set_up_writer)
    return writer


def _engine(url: str, size: int) -> Engine:
    return create_engine(
        url,
        json_serializer=_json,
        json_deserializer=orjson.loads,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=POOL_SECONDS,
        connect_args=REACHED_BY,
    )


@compiles(CreateColumn, "postgresql")
def _in_order_of_code_points(element: Any, compiler: Any, **more: Any) -> str:
    """Sorts text by code point, whatever the locale, as SQLite does: lists are paged by name."""
    column: str = compiler.visit_create_column(element, **more)
    return f'{column} COLLATE "C"' if isinstance(element.element.type, String) else column


@compiles(CreateIndex, "postgresql")
def _of_some_rows(element: Any, compiler: Any, **more: Any) -> str:
    """Tables give conditions of indexes for SQLite: one for PostgreSQL would import its dialect at once."""
    options = element.element.dialect_options
    options["postgresql"]["where"] = options["sqlite"]["where"]
    statement: str = compiler.visit_create_index(element, **more)
    return statement


ALWAYS = (
    "SET jit = off",  # compiling such short statements costs more than it saves
    # A client that is lost, or hangs in a transaction, loses its locks.
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 3",
    "SET idle_in_transaction_session_timeout = '10s'",
)


def _set_up_writer(connection: _Connection, record: object) -> None:
    _set(connection, *ALWAYS, "SET lock_timeout = '5s'")


def _set_up_reader(connection: _Connection, record: object) -> None:
    _set(connection, *ALWAYS, f"SET statement_timeout = {READ_MILLISECONDS}")
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True


def _set(connection: _Connection, *settings: str) -> None:
    connection.execute("; ".join(settings))
    connection.commit()


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


@dataclass(frozen=True, slots=True)
class PostgresDialect:
    """`projections.databases.port.Dialect`."""

    shared: bool = True

    def insert(self, table: Table) -> InsertOrUpdate:
        return postgresql.insert(table)

    def insert_rows(
        self, connection: Connection, table: Table, rows: Sequence[Values], existing: OnConflict | None
    ) -> None:
        if existing is None and len(rows) >= MANY:
            _copy(connection, table, rows)
            return
        sql = recordset_statement(connection.dialect, table, existing)
        connection.exec_driver_sql(sql, {"rows": _as_recordset(table, rows)})

    def exclusive(self, connection: Connection, name: str) -> None:
        connection.execute(select(func.pg_advisory_xact_lock(_lock_key(name))))

    def try_exclusive(self, connection: Connection, name: str, *, session: bool) -> bool:
        lock = func.pg_try_advisory_lock if session else func.pg_try_advisory_xact_lock
        return bool(connection.execute(select(lock(_lock_key(name)))).scalar())

    def notify(self, connection: Connection, channel: str, payload: str) -> None:
        connection.execute(select(func.pg_notify(channel, payload)))

    def is_in(self, column: Column[str], parameter: str) -> ColumnElement[bool]:
        # An array: for a join PostgreSQL may read the whole table, depending on its statistics.
        return column == any_(bindparam(parameter, type_=ARRAY(String)))

    def texts(self, values: Sequence[str]) -> Any:
        return values

    def is_element(self, value: str, of: ColumnElement[Any]) -> ColumnElement[bool]:
        elements = func.json_array_elements_text(of).table_valued("value")
        return select(elements.c.value).where(elements.c.value == value).exists()

    def has_index(self, connection: Connection, name: str) -> bool:
        return connection.execute(select(func.to_regclass(name))).scalar() is not None

    def lookup(self, parameter: str, table: Table, where: str, join: str) -> str:
        keys = f"json_array_elements(CAST(:{parameter} AS json)) AS k(value)"
        rows = f"SELECT u.* FROM {table.name} AS u WHERE {where} OFFSET 0"
        return f"FROM {keys} CROSS JOIN LATERAL ({rows}) AS u{join}"

    def part_of_key(self, i: int, *, number: bool = False) -> str:
        return f"CAST(k.value ->> {i} AS BIGINT)" if number else f"(k.value ->> {i})"

    def as_list(self, columns: str) -> str:
        return f"json_build_array({columns})"

    def driver_sql(self, connection: Connection, sql: str) -> str:
        return _driver_sql(connection.dialect, sql)

    def other_log(self, connection: Connection, difference: str, log: SourceLog) -> OtherLog:
        return OtherLog(connection.engine.url.render_as_string(), difference, log, OTHER_DATABASE)


DIALECT = PostgresDialect()


def _lock_key(name: str) -> int:
    """The key of the advisory lock `name`."""
    return int.from_bytes(sha256(f"signalbox/{name}".encode()).digest()[:8], "big", signed=True)


def _copy(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Inserts rows with COPY, which parses no SQL and no JSON around them. SQLAlchemy has no COPY: errors get
    its form here. Raises DBAPIError."""
    sql = copy_statement(connection.dialect, table)
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    try:
        with driver.cursor() as cursor, cursor.copy(sql.encode()) as copy:
            for row in rows:
                copy.write_row(tuple([_storable(value) for value in row]))
    except psycopg.Error as error:
        lost = driver.closed
        if lost:
            connection.invalidate(error)
        raise DBAPIError.instance(
            sql, None, error, psycopg.Error, connection_invalidated=lost, dialect=connection.dialect
        ) from error


def _storable(value: Any) -> Any:
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


@computed_once(256)
def copy_statement(dialect: sqlalchemy.Dialect, table: Table) -> str:
    """The SQL of a COPY of all columns of a table."""
    preparer = dialect.identifier_preparer
    names = ", ".join(preparer.format_column(c) for c in table.columns)
    return f"COPY {preparer.format_table(table)} ({names}) FROM STDIN"


def _as_recordset(table: Table, rows: Sequence[Values]) -> str:
    """A JSON list of objects, one per row."""
    names = tuple(str(column.name) for column in table.columns)  # orjson refuses SQLAlchemy's subclass of str
    documents = tuple(i for i, c in enumerate(table.columns) if isinstance(c.type, JSON))
    objects: list[dict[str, Any]] = []
    for row in rows:
        values = dict(zip(names, row, strict=True))
        for i in documents:
            if row[i] is not None:
                values[names[i]] = orjson.Fragment(row[i])
        objects.append(values)
    return without_nul(orjson.dumps(objects).decode())


@computed_once(256)
def _driver_sql(dialect: sqlalchemy.Dialect, sql: str) -> str:
    return text(sql).compile(dialect=dialect).string


@computed_once(512)
def recordset_statement(dialect: sqlalchemy.Dialect, table: Table, existing: OnConflict | None) -> str:
    """The SQL that inserts all rows in the JSON text of the parameter `rows`."""
    names = table.columns.keys()
    same = dialect.identifier_preparer.format_table(table)
    rows = text(f"json_populate_recordset(CAST(NULL AS {same}), CAST(:rows AS json))")
    insert = postgresql.insert(table).from_select(names, select(*map(column, names)).select_from(rows))
    return with_conflict(insert, table, existing).compile(dialect=dialect).string
