"""The read models' database: connections, and the tables of generations, checkpoints and parked records."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Result,
    Select,
    String,
    Table,
    bindparam,
    func,
    insert,
    inspect,
    select,
)
from sqlalchemy.schema import CreateTable, DropTable

from projections.databases.dialect import dialect_of
from projections.databases.engines import engines
from projections.databases.port import Dialect
from projections.memo import computed_once
from projections.readmodel import ReadModel
from projections.source_log import SourceLog, Unidentified, difference

METADATA = MetaData()

GENERATIONS = Table(
    "generations",
    METADATA,
    Column("read_model", String, primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", String, nullable=False),  # live | building | retired
)
"""The generations of tables of each read model: at most one is live."""

CHECKPOINTS = Table(
    "checkpoints",
    METADATA,
    Column("read_model", String, primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("topic", String, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("releases", Integer, nullable=False, server_default="0"),
)
"""`releases` counts how often parked records were retried: a process that caches the parked records then
reloads them."""

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
"""Records that a generation could not project, and those waiting behind them."""


SOURCE_LOG = Table(
    "source_log",
    METADATA,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
)
"""The log that everything here was computed from: one row."""


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
    """Connections: those that write, and any number of readers that never wait for them."""

    writer: Engine
    reader: Engine

    @property
    def shared(self) -> bool:
        """Whether several processes may use it."""
        return dialect_of(self.writer).shared

    def close(self) -> None:
        self.writer.dispose()
        self.reader.dispose()


def open_store(target: Path | str, log: SourceLog | None = None) -> Store:
    """The store in the SQLite file `target`, or in the PostgreSQL database of a URL (`postgresql+psycopg://…`).

    Created if it is missing. With `log`, a store of another log is refused and not changed.
    Raises OtherLog, Unidentified, sqlalchemy.exc.OperationalError, ArgumentError if the URL is invalid.
    """
    store = Store(*engines(target))
    try:
        with store.writer.begin() as connection:
            exclusive(connection, "tables")
            METADATA.create_all(connection)
            _add_releases(connection)
            if log is not None:
                _require_log(connection, log)
    except BaseException:
        store.close()
        raise
    return store


def _add_releases(connection: Connection) -> None:
    """Adds the column `releases` to stores of earlier releases."""
    if "releases" not in {c["name"] for c in inspect(connection).get_columns(CHECKPOINTS.name)}:
        add = DDL("ALTER TABLE checkpoints ADD COLUMN releases INTEGER NOT NULL DEFAULT 0")
        connection.execute(add)


def _require_log(connection: Connection, log: SourceLog) -> None:
    """Writes the identity of `log` into a store that names none. Raises OtherLog, Unidentified."""
    fault = log_difference(connection, log)
    if fault is not None:
        raise dialect_of(connection).other_log(connection, fault, log)
    if source_log(connection) is None:
        connection.execute(insert(SOURCE_LOG).values(id=log.id, name=log.name))


def log_difference(connection: Connection, log: SourceLog) -> str | None:
    """Why the store was not computed from `log`; None if it was, or if it is empty. Raises Unidentified."""
    named = source_log(connection)
    if named is not None:
        return None if named.id == log.id else named.name
    c = CHECKPOINTS.c
    last = select(c.topic, c.partition, func.max(c.position)).group_by(c.topic, c.partition)
    checkpoints = {(t, partition): position for t, partition, position in connection.execute(last)}
    if checkpoints and log.ends is None:
        raise Unidentified
    return difference(checkpoints, log.ends or {})


def source_log(connection: Connection) -> SourceLog | None:
    """The log that the store names; None for a new store, and for one of release 0.1.0."""
    if not inspect(connection).has_table(SOURCE_LOG.name):
        return None
    row = connection.execute(select(SOURCE_LOG)).first()
    return None if row is None else SourceLog(row.id, row.name)


def exclusive(connection: Connection, name: str) -> None:
    """Takes the lock `name`, waiting for other transactions, until the transaction ends."""
    dialect_of(connection).exclusive(connection, name)


def as_dicts(result: Result[*tuple[Any, ...]]) -> list[dict[str, Any]]:
    """The rows of `result` by column name."""
    names = [str(column) for column in list(result.keys())]  # orjson refuses SQLAlchemy's subclass of str
    return [dict(zip(names, list[Any](row), strict=True)) for row in result]


MOST_NAMES = 5_000
"""Names in one statement: a list of bounded size."""


@computed_once(256)
def rows_of_names(table: Table, column: str, dialect: Dialect) -> Select[*tuple[Any, ...]]:
    """The rows of an organization whose `column` has one of some names, for `rows_named`."""
    c = table.c
    return select(table).where(c.organization == bindparam("organization"), dialect.is_in(c[column], "names"))


def rows_named(
    connection: Connection,
    wanted: Select[*tuple[Any, ...]],
    organization: str,
    names: Sequence[str],
    parameters: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[Any]:
    """The rows `wanted` of an `organization` that have one of `names`, of any number."""
    dialect = dialect_of(connection)
    for start in range(0, len(names), MOST_NAMES):
        some = dialect.texts(names[start : start + MOST_NAMES])
        yield from connection.execute(
            wanted, {"organization": organization, "names": some, **parameters}
        ).all()


def live(connection: Connection) -> dict[str, Generation]:
    """The live generation of each read model."""
    rows = connection.execute(select(GENERATIONS).where(GENERATIONS.c.state == "live"))
    return {r.read_model: Generation(r.read_model, r.generation, r.version) for r in rows}


def create_tables(connection: Connection, model: ReadModel, generation: Generation) -> None:
    """Creates the missing tables of `generation`, without the indexes that can be created last."""
    present = set(inspect(connection).get_table_names())
    for table in model.metadata(generation.prefix).sorted_tables:
        if table.name not in present:
            connection.execute(CreateTable(table))


def create_indexes(connection: Connection, model: ReadModel, generation: Generation) -> None:
    dialect = dialect_of(connection)
    for index in model.indexes(generation.prefix):
        if not dialect.has_index(connection, str(index.name)):
            index.create(connection)


def drop_tables(connection: Connection, generation: Generation) -> None:
    for name in tables_of(connection, generation):
        drop_table(connection, name)


def tables_of(connection: Connection, generation: Generation) -> list[str]:
    """The names of all tables of `generation`, whatever version of the read model created them."""
    return [n for n in inspect(connection).get_table_names() if n.startswith(f"{generation.prefix}_")]


def drop_table(connection: Connection, name: str) -> None:
    connection.execute(DropTable(Table(name, MetaData())))
