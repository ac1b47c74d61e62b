"""INSERT ... ON CONFLICT, which both databases spell alike and SQLAlchemy keeps per dialect."""

from typing import TYPE_CHECKING, Union

from sqlalchemy import Dialect, Table
from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

InsertOrUpdate = Union[sqlite.Insert, "postgresql.Insert"]


def insert_or_update(dialect: Dialect, table: Table) -> InsertOrUpdate:
    """An insert into `table` that knows `on_conflict_do_update` and `on_conflict_do_nothing`."""
    if dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # a tenth of a second that SQLite need not pay

        return postgresql.insert(table)
    return sqlite.insert(table)
