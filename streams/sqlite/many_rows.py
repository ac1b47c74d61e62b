"""Many rows with few statements."""

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

_SIZES = (64, 16, 8, 4, 3, 2, 1)


@lru_cache(maxsize=256)
def _with_rows(statement: str, columns: int, count: int) -> str:
    row = f"({','.join('?' * columns)})"
    return statement.format(rows=",".join([row] * count))


def execute_rows(db: sqlite3.Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """Executes `statement`, whose `{rows}` stands for the row values, for all `rows`.

    A few fixed sizes, so that SQLite's prepared statements are reused. Raises sqlite3.Error.
    """
    at = 0
    while at < len(rows):
        left = len(rows) - at
        size = next(size for size in _SIZES if size <= left)
        chunk = rows[at : at + size]
        db.execute(_with_rows(statement, len(chunk[0]), size), tuple(chain.from_iterable(chunk)))
        at += size
