"""The database port of the read models: everything in which SQLite and PostgreSQL differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Union

from sqlalchemy import Column, ColumnElement, Connection, Table, case, text
from sqlalchemy.dialects import sqlite

from projections.source_log import OtherLog, SourceLog

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

InsertOrUpdate = Union[sqlite.Insert, "postgresql.Insert"]
"""INSERT ... ON CONFLICT: both databases have it; SQLAlchemy has one class per dialect."""

Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class OnConflict:
    """How an existing row of the same primary key is changed: columns `replaced` get the new values, columns
    `replaced_unless_empty` only values that are not empty; all others keep theirs."""

    replaced: tuple[str, ...] = ()
    replaced_unless_empty: tuple[str, ...] = ()


KEEP_EXISTING = OnConflict()

MANY = 200
"""From this number of rows on, another statement costs less than it saves."""


class Dialect(Protocol):
    """One kind of database; frozen. `projections.databases.dialect.dialect_of` returns a connection's."""

    @property
    def shared(self) -> bool:
        """Whether several processes may use one database."""
        ...

    def insert(self, table: Table) -> InsertOrUpdate:
        """An insert with `on_conflict_do_update` and `on_conflict_do_nothing`."""
        ...

    def insert_rows(
        self, connection: Connection, table: Table, rows: Sequence[Values], existing: OnConflict | None
    ) -> None:
        """See `projections.databases.bulk.insert_rows`; there is at least one row."""
        ...

    def exclusive(self, connection: Connection, name: str) -> None:
        """Takes the lock `name`, waiting for other transactions, until the transaction ends."""
        ...

    def try_exclusive(self, connection: Connection, name: str, *, session: bool) -> bool:
        """Tries to take the lock `name` until the transaction, or with `session` the connection, ends."""
        ...

    def notify(self, connection: Connection, channel: str, payload: str) -> None:
        """Sends `payload` to listeners in other processes when the transaction commits."""
        ...

    def is_in(self, column: Column[str], parameter: str) -> ColumnElement[bool]:
        """The condition that the column is one of the texts in the parameter; it uses an index."""
        ...

    def texts(self, values: Sequence[str]) -> Any:
        """`values` as the parameter of `is_in`."""
        ...

    def is_element(self, value: str, of: ColumnElement[Any]) -> ColumnElement[bool]:
        """The condition that the JSON list `of` has this text."""
        ...

    def has_index(self, connection: Connection, name: str) -> bool:
        """Whether there is an index of this name, also one on expressions, which SQLAlchemy does not find."""
        ...

    def lookup(self, parameter: str, table: Table, where: str, join: str) -> str:
        """A FROM clause: for each key `k` in the parameter (a JSON list of lists), by index, the rows `u` of
        `table` that fulfil `where`, joined with `join`."""
        ...

    def part_of_key(self, i: int, *, number: bool = False) -> str:
        """The expression for a part of the key `k` in `lookup`."""
        ...

    def as_list(self, columns: str) -> str:
        """The expression for a JSON list of columns."""
        ...

    def driver_sql(self, connection: Connection, sql: str) -> str:
        """`sql`, whose parameters are `:name`, with parameters in the style of the driver."""
        ...

    def other_log(self, connection: Connection, difference: str, log: SourceLog) -> OtherLog:
        """The error for a store that was computed from another log, with a remedy."""
        ...


def with_conflict(insert: InsertOrUpdate, table: Table, existing: OnConflict | None) -> InsertOrUpdate:
    if existing is None:
        return insert
    key = list(table.primary_key.columns)
    if existing == KEEP_EXISTING:
        return insert.on_conflict_do_nothing(index_elements=key)
    new = insert.excluded
    set_: dict[str, Any] = {name: new[name] for name in existing.replaced}
    set_ |= {
        name: case((new[name] != text("''"), new[name]), else_=table.c[name])
        for name in existing.replaced_unless_empty
    }
    return insert.on_conflict_do_update(index_elements=key, set_=set_)
