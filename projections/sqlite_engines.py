"""Connections to read models in one SQLite file.

WAL, `synchronous=NORMAL`: what a power cut takes is projected again.
"""

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool


def engines(path: Path) -> tuple[Engine, Engine]:
    """One that writes, one that reads."""
    return _engine(path, "BEGIN IMMEDIATE", 1), _engine(path, "BEGIN", 8)


def _engine(path: Path, begin: str, size: int) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        json_serializer=_json,
        json_deserializer=orjson.loads,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_reset_on_return=None,
        connect_args={"check_same_thread": False, "timeout": 5, "cached_statements": 512},
    )

    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", partial(_begin, begin))
    return engine


def _set_up(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # transactions begin where we say, savepoints and DDL included
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA cache_size=-32768")
    connection.execute("PRAGMA wal_autocheckpoint=4000")
    connection.execute("PRAGMA temp_store=MEMORY")  # what a savepoint would put back
    connection.execute("PRAGMA secure_delete=FAST")  # a dropped generation is not overwritten page by page


def _begin(statement: str, connection: Connection) -> None:
    connection.exec_driver_sql(statement)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
