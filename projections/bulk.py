"""Many rows with one prepared statement: compiled once, rows as tuples straight to the driver.

SQLAlchemy's own handling of parameters costs several times what the database does with a row.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import Connection, Dialect, Insert, Update

Values = tuple[Any, ...]


def json_text(value: Any) -> str | None:
    """What a JSON column takes here; None is NULL."""
    return None if value is None else orjson.dumps(value).decode()


def run_many(
    connection: Connection, statement: Insert | Update, names: tuple[str, ...], rows: Sequence[Values]
) -> None:
    """Executes `statement` for each of `rows`, whose values stand for the parameters `names`, in that order.

    Values go to the driver as they are: JSON as text. `statement` has to be one that is kept, not made anew.
    """
    if not rows:
        return
    sql, order = _compiled(connection.dialect, statement, names)
    if order is None:
        connection.exec_driver_sql(sql, [dict(zip(names, row, strict=True)) for row in rows])
    elif order == tuple(range(len(names))):
        connection.exec_driver_sql(sql, list(rows))
    else:
        connection.exec_driver_sql(sql, [tuple([row[i] for i in order]) for row in rows])


@lru_cache(maxsize=256)
def _compiled(
    dialect: Dialect, statement: Insert | Update, names: tuple[str, ...]
) -> tuple[str, tuple[int, ...] | None]:
    """The SQL and which of `names` stands for each placeholder; None when placeholders have names."""
    keys = list(names) if isinstance(statement, Insert) else None
    compiled = statement.compile(dialect=dialect, column_keys=keys)
    order = compiled.positiontup
    return compiled.string, None if order is None else tuple(names.index(name) for name in order)
