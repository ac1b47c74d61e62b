"""Inserts many rows with few statements, directly through the driver.

SQLAlchemy's handling of parameters costs several times as much as the database's work on a row.
"""

import re
from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Table

from projections.databases.dialect import dialect_of
from projections.databases.port import MANY as MANY
from projections.databases.port import OnConflict, Values
from projections.memo import computed_once

_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def without_nul(json: str) -> str:
    """JSON text with U+FFFD in place of U+0000, which PostgreSQL's text type cannot store."""
    return _NUL.sub(r"\1\\ufffd", json) if "\\u0000" in json else json


def json_text(value: Any) -> str | None:
    """The value of a JSON column in `insert_rows`; None is NULL."""
    return None if value is None else without_nul(orjson.dumps(value).decode())


def insert_rows(
    connection: Connection, table: Table, rows: Sequence[Values], existing: OnConflict | None = None
) -> None:
    """Inserts `rows` (values in the order of the table's columns, JSON as text, no primary key twice).

    Without `existing`, no row may have the primary key of a row in the table.
    """
    if rows:
        dialect_of(connection).insert_rows(connection, table, rows, existing)


def replace_rows(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """As `insert_rows`, but replaces rows that have the same primary key."""
    insert_rows(connection, table, rows, _replaced(table))


@computed_once(64)
def _replaced(table: Table) -> OnConflict:
    return OnConflict(replaced=tuple(c.name for c in table.columns if not c.primary_key))
