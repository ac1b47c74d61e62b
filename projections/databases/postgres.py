"""Connections to read models in PostgreSQL, which several processes share.

A server that is gone is noticed within seconds, also when nothing closes its connections.
"""

from typing import Any, Protocol

import orjson
from psycopg import IsolationLevel
from sqlalchemy import Engine, String, create_engine, event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateColumn

CONNECT_SECONDS = 2
READ_MILLISECONDS = 5_000
POOL_SECONDS = 5.0

REACHED_BY: dict[str, Any] = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4_000,
    "application_name": "signalbox",
}
"""How every connection is made."""


class _Connection(Protocol):
    isolation_level: IsolationLevel | None
    read_only: bool | None

    def execute(self, query: str, /) -> object: ...
    def commit(self) -> None: ...


def engines(url: str) -> tuple[Engine, Engine]:
    """One that writes, one whose transactions each read one snapshot."""
    reader = _engine(url, 8)
    event.listen(reader, "connect", _set_up_reader)
    return engine(url, 4), reader


def engine(url: str, size: int) -> Engine:
    """One that writes, over up to `size` connections."""
    writer = _engine(url, size)
    event.listen(writer, "connect", _set_up_writer)
    return writer


def _engine(url: str, size: int) -> Engine:
    return create_engine(
        url,
        json_serializer=_json,
        json_deserializer=orjson.loads,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        pool_timeout=POOL_SECONDS,
        connect_args=REACHED_BY,
    )


@compiles(CreateColumn, "postgresql")
def _in_order_of_code_points(element: Any, compiler: Any, **more: Any) -> str:
    """Lists are paged by name: in the same order in every database, whatever its locale, as on SQLite."""
    column: str = compiler.visit_create_column(element, **more)
    return f'{column} COLLATE "C"' if isinstance(element.element.type, String) else column


ALWAYS = (
    "SET jit = off",  # compiling such short statements costs more than it saves
    # A client that is gone, or stopped in the middle, gives up what it holds.
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 3",
    "SET idle_in_transaction_session_timeout = '10s'",
)


def _set_up_writer(connection: _Connection, record: object) -> None:
    _set(connection, *ALWAYS, "SET lock_timeout = '5s'")


def _set_up_reader(connection: _Connection, record: object) -> None:
    _set(connection, *ALWAYS, f"SET statement_timeout = {READ_MILLISECONDS}")
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True


def _set(connection: _Connection, *settings: str) -> None:
    connection.execute("; ".join(settings))
    connection.commit()


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
