"""The dialect of a connection: the one place that distinguishes SQLite and PostgreSQL."""

from sqlalchemy import Connection, Engine

from projections.databases import sqlite
from projections.databases.port import Dialect


def dialect_of(of: Connection | Engine) -> Dialect:
    if of.dialect.name == "sqlite":
        return sqlite.DIALECT
    from projections.databases import postgres  # imports its driver, which SQLite does not need

    return postgres.DIALECT
