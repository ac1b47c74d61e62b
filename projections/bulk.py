"""Many rows with few statements, straight to the driver.

SQLAlchemy's own handling of parameters costs several times what the database does with a row. And
SQLite's driver gives the interpreter up at every statement: another busy thread keeps it for milliseconds.
So rows go in by the dozen.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import orjson
from sqlalchemy import Connection, Dialect, Table

from projections.upserts import upsert

Values = tuple[Any, ...]
_SIZES = (64, 16, 4, 1)  # few, so that prepared statements are used again


def json_text(value: Any) -> str | None:
    """What a JSON column takes here; None is NULL."""
    return None if value is None else orjson.dumps(value).decode()


def put(connection: Connection, table: Table, rows: Sequence[Values], replaced: tuple[str, ...] = ()) -> None:
    """Inserts `rows` (values in the order of the table's columns, JSON as text).

    Where a row with the same primary key is, its columns `replaced` take the new values.
    """
    at = 0
    while at < len(rows):
        left = len(rows) - at
        size = next(size for size in _SIZES if size <= left)
        chunk = rows[at : at + size]
        values = tuple(chain.from_iterable(chunk))
        sql, names = statement(connection.dialect, table, replaced, size)
        connection.exec_driver_sql(sql, dict(zip(names, values, strict=True)) if names else values)
        at += size


@lru_cache(maxsize=512)
def statement(
    dialect: Dialect, table: Table, replaced: tuple[str, ...], size: int
) -> tuple[str, tuple[str, ...]]:
    """The SQL for `size` rows, and the names of its placeholders, in the order of the values, if any."""
    columns = table.columns.keys()
    statement = upsert(dialect, table).values([dict.fromkeys(columns) for _ in range(size)])
    if replaced:
        statement = statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={name: statement.excluded[name] for name in replaced},
        )
    compiled = statement.compile(dialect=dialect)
    names = tuple(f"{c}_m{i}" for i in range(size) for c in columns)
    order = compiled.positiontup
    if order is None:
        return compiled.string, names
    if tuple(order) != names:
        raise AssertionError(f"the columns of {table.name} are not in the order of its rows")
    return compiled.string, ()
