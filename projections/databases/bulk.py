"""Many rows with few statements, straight to the driver.

SQLAlchemy's own handling of parameters costs several times what the database does with a row. SQLite's driver
gives the interpreter up at every statement, and another busy thread keeps it for milliseconds: rows go in by
the dozen. PostgreSQL takes all of them as one JSON text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson
from sqlalchemy import JSON, Connection, Dialect, Table, case, column, select, text

from projections.databases.upserts import InsertOrUpdate, insert_or_update
from projections.memo import computed_once

Values = tuple[Any, ...]
_SIZES = (64, 16, 4, 1)  # few, so that prepared statements are used again


@dataclass(frozen=True, slots=True)
class OnConflict:
    """A row whose primary key exists: columns `replaced` take the new values, and `replaced_unless_empty` do
    unless the new one is empty; all others stay."""

    replaced: tuple[str, ...] = ()
    replaced_unless_empty: tuple[str, ...] = ()


KEEP_EXISTING = OnConflict()


_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def without_nul(json: str) -> str:
    """JSON text with U+FFFD in place of U+0000, which PostgreSQL's text cannot have."""
    return _NUL.sub(r"\1\\ufffd", json) if "\\u0000" in json else json


def json_text(value: Any) -> str | None:
    """What a JSON column takes here; None is NULL."""
    return None if value is None else without_nul(orjson.dumps(value).decode())


def insert_rows(
    connection: Connection, table: Table, rows: Sequence[Values], existing: OnConflict | None = None
) -> None:
    """Inserts `rows` (values in the order of the table's columns, JSON as text, no primary key twice).

    Without `existing` none of them may be there yet.
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        sql = recordset_statement(connection.dialect, table, existing)
        connection.exec_driver_sql(sql, {"rows": as_recordset(table, rows)})
        return
    at = 0
    while at < len(rows):
        left = len(rows) - at
        size = next(size for size in _SIZES if size <= left)
        sql = insert_statement(connection.dialect, table, existing, size)
        connection.exec_driver_sql(sql, tuple(chain.from_iterable(rows[at : at + size])))
        at += size


def as_recordset(table: Table, rows: Sequence[Values]) -> str:
    """A JSON list of objects, one per row."""
    names = tuple(str(column.name) for column in table.columns)  # SQLAlchemy's are a text JSON refuses
    documents = tuple(i for i, c in enumerate(table.columns) if isinstance(c.type, JSON))
    objects: list[dict[str, Any]] = []
    for row in rows:
        values = dict(zip(names, row, strict=True))
        for i in documents:
            if row[i] is not None:
                values[names[i]] = orjson.Fragment(row[i])
        objects.append(values)
    return without_nul(orjson.dumps(objects).decode())


@computed_once(512)
def recordset_statement(dialect: Dialect, table: Table, existing: OnConflict | None) -> str:
    """The SQL that inserts the rows in the JSON text `rows`, however many."""
    names = table.columns.keys()
    same = dialect.identifier_preparer.format_table(table)
    rows = text(f"json_populate_recordset(CAST(NULL AS {same}), CAST(:rows AS json))")
    insert = insert_or_update(dialect, table).from_select(
        names, select(*map(column, names)).select_from(rows)
    )
    return _on_conflict(insert, table, existing).compile(dialect=dialect).string


@computed_once(512)
def insert_statement(dialect: Dialect, table: Table, existing: OnConflict | None, size: int) -> str:
    """The SQL for `size` rows, its placeholders in the order of their values."""
    columns = table.columns.keys()
    insert = insert_or_update(dialect, table).values([dict.fromkeys(columns) for _ in range(size)])
    compiled = _on_conflict(insert, table, existing).compile(dialect=dialect)
    if compiled.positiontup != [f"{c}_m{i}" for i in range(size) for c in columns]:
        raise AssertionError(f"the columns of {table.name} are not in the order of its rows")
    return compiled.string


def _on_conflict(insert: InsertOrUpdate, table: Table, existing: OnConflict | None) -> InsertOrUpdate:
    if existing is None:
        return insert
    key = list(table.primary_key.columns)
    if existing == KEEP_EXISTING:
        return insert.on_conflict_do_nothing(index_elements=key)
    new = insert.excluded
    set_: dict[str, Any] = {name: new[name] for name in existing.replaced}
    set_ |= {
        name: case((new[name] != text("''"), new[name]), else_=table.c[name])
        for name in existing.replaced_unless_empty
    }
    return insert.on_conflict_do_update(index_elements=key, set_=set_)
