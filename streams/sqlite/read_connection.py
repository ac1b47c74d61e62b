"""A connection that only reads."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from streams.log import LogUnavailable
from streams.sqlite.database import Kind, connect, explained


class ReadConnection:
    """It connects at the first query, and again after an error: some faults persist in a connection.

    Each query sees the transactions committed at its time.
    """

    def __init__(self, kind: Kind, path: Path) -> None:
        self.path = path
        self._kind = kind
        self._db: sqlite3.Connection | None = None
        self._closed = False

    def query(self, statement: str, values: Sequence[Any]) -> list[Any]:
        """All rows. Raises LogUnavailable, LogDamaged."""
        return self._ask(statement, values, sqlite3.Cursor.fetchall)

    def query_up_to(self, statement: str, values: Sequence[Any], most: int) -> list[Any]:
        """Rows, until their last columns have `most` bytes in total. Raises LogUnavailable, LogDamaged."""

        def some(cursor: sqlite3.Cursor) -> list[Any]:
            rows: list[Any] = []
            left = most
            for row in cursor:
                rows.append(row)
                left -= len(row[-1])
                if left <= 0:
                    break
            return rows

        return self._ask(statement, values, some)

    def _ask(
        self, statement: str, values: Sequence[Any], fetch: Callable[[sqlite3.Cursor], list[Any]]
    ) -> list[Any]:
        if self._closed:
            raise LogUnavailable(f"{self.path} is closed")
        try:
            if self._db is None:
                self._db = connect(self._kind, self.path, write=False)
            with closing(self._db.execute(statement, values)) as cursor:
                return fetch(cursor)
        except sqlite3.Error as error:
            self._disconnect()
            raise explained(error, self.path) from error

    def close(self) -> None:
        self._closed = True
        self._disconnect()

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
