"""The read models' database: its connections, and the tables that say what stands where.

SQLite today (`readmodels.db`, WAL, `synchronous=NORMAL`: what a power cut takes is projected again); nothing
here but the connection set-up knows.
"""

import sqlite3
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Result,
    String,
    Table,
    create_engine,
    event,
    inspect,
    select,
)
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateTable, DropTable

from projections.readmodel import ReadModel

METADATA = MetaData()

GENERATIONS = Table(
    "generations",
    METADATA,
    Column("read_model", String, primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", String, nullable=False),  # live | building
)
"""Which tables a read model has: at most one generation is live."""

CHECKPOINTS = Table(
    "checkpoints",
    METADATA,
    Column("read_model", String, primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("topic", String, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("position", BigInteger, nullable=False),
)

PARKED = Table(
    "parked",
    METADATA,
    Column("read_model", String, primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("topic", String, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("subject", String, nullable=False),
    Column("type", String, nullable=False),
    Column("id", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("time", String, nullable=False),
    Column("skipped_at", String),
)
"""Records a generation could not take in, and those waiting behind them."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One set of a read model's tables."""

    read_model: str
    number: int
    version: int

    @property
    def prefix(self) -> str:
        return f"{self.read_model}_v{self.version}_g{self.number}"


@dataclass(frozen=True, slots=True)
class Store:
    """Connections: one writer at a time, any number of readers that never wait for it."""

    writer: Engine
    reader: Engine

    def close(self) -> None:
        self.writer.dispose()
        self.reader.dispose()


def open_store(path: Path) -> Store:
    """The store in the file `path`, made when it is missing. Raises sqlalchemy.exc.OperationalError."""
    store = Store(writer=_engine(path, "BEGIN IMMEDIATE", 1), reader=_engine(path, "BEGIN", 8))
    with store.writer.begin() as connection:
        METADATA.create_all(connection)
    return store


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


def as_dicts(result: Result[*tuple[Any, ...]]) -> list[dict[str, Any]]:
    """The rows of `result` by column name."""
    names = [str(column) for column in list(result.keys())]  # SQLAlchemy's are a kind of text JSON refuses
    return [dict(zip(names, list[Any](row), strict=True)) for row in result]


def live(connection: Connection) -> dict[str, Generation]:
    """The live generation of each read model."""
    rows = connection.execute(select(GENERATIONS).where(GENERATIONS.c.state == "live"))
    return {r.read_model: Generation(r.read_model, r.generation, r.version) for r in rows}


def create_tables(connection: Connection, model: ReadModel, generation: Generation) -> None:
    """The tables of `generation` that are missing, without the indexes that can be made last."""
    present = set(inspect(connection).get_table_names())
    for table in model.metadata(generation.prefix).sorted_tables:
        if table.name not in present:
            connection.execute(CreateTable(table))


def create_indexes(connection: Connection, model: ReadModel, generation: Generation) -> None:
    for index in model.indexes(generation.prefix):
        index.create(connection, checkfirst=True)


def drop_tables(connection: Connection, generation: Generation) -> None:
    """All tables of `generation`, whatever version of the read model made them."""
    for name in inspect(connection).get_table_names():
        if name.startswith(f"{generation.prefix}_"):
            connection.execute(DropTable(Table(name, MetaData())))
