"""INSERT ... ON CONFLICT, which both databases spell alike and SQLAlchemy keeps per dialect."""

from sqlalchemy import Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(dialect: Dialect, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert into `table` that knows `on_conflict_do_update` and `on_conflict_do_nothing`."""
    if dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
