"""Distinguishes failures of the database from failures of a query."""

import sqlite3

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

_STATES = ("08", "25006", "25P", "40", "53", "55", "57", "58")
"""SQLSTATEs: no connection, read-only, idle too long, conflict, no resources, locked, shutdown, I/O error."""


class ReadModelsUnavailable(Exception):
    """The read models' database does not answer. `behind` is the last known lag of each read model, in
    positions."""

    def __init__(self, behind: dict[str, int] | None = None) -> None:
        super().__init__("The database of the read models does not answer; changes are projected later.")
        self.behind = behind or {}


def unavailable(error: BaseException) -> bool:
    """Whether a retry may succeed: the database failed, not the query."""
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None)
        if isinstance(state, str):
            return state.startswith(_STATES)
        return isinstance(error, OperationalError | InterfaceError)
    return isinstance(error, PoolTimeout | sqlite3.OperationalError | OSError | MemoryError)


def missing_table(error: BaseException) -> bool:
    """Whether PostgreSQL has no such table (any more): it was dropped between two statements."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) == "42P01"


def error_summary(error: BaseException) -> str:
    """`error` for operators: one line, without the statement and its parameters."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
