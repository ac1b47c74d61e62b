"""Connections to read models in one SQLite file.

WAL, `synchronous=NORMAL`: what a power cut takes is projected again.
"""

import os
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import QueuePool


def engines(path: Path) -> tuple[Engine, Engine]:
    """One that writes, one that reads. The file is for its owner alone. Raises OSError."""
    _make_private(path)
    return _engine(path, "BEGIN IMMEDIATE", 1), _engine(path, "BEGIN", 8)


def _make_private(path: Path) -> None:
    """SQLite gives its journal the mode of the file. One that exists is not opened here: closing it again
    would drop the locks that other connections of this process have on it."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            if file.exists() and file.stat().st_mode & 0o077:
                file.chmod(0o600)


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
