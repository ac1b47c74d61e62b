"""A connection that only reads."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streams.log import LogUnavailable
from streams.sqlite.database import Kind, connect, explained


class ReadingConnection:
    """Made at the first query, and anew after a fault: some stick to a connection.

    Each query sees what is committed at its moment.
    """

    def __init__(self, kind: Kind, path: Path) -> None:
        self.path = path
        self._kind = kind
        self._db: sqlite3.Connection | None = None
        self._closed = False

    def query(self, statement: str, values: Sequence[Any]) -> list[Any]:
        """All rows. Raises LogUnavailable, LogDamaged."""
        if self._closed:
            raise LogUnavailable(f"{self.path} is closed")
        try:
            if self._db is None:
                self._db = connect(self._kind, self.path, write=False)
            return self._db.execute(statement, values).fetchall()
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
