"""The interface of a read model: a name, a version, the topic it follows, its tables, its projection."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from sqlalchemy import Connection, Engine, Index, MetaData

from schemas.envelope import Envelope


class Recorded(Protocol):
    """An envelope with its place on its topic."""

    @property
    def partition(self) -> int: ...
    @property
    def position(self) -> int: ...
    @property
    def envelope(self) -> Envelope: ...


class Unprojectable(Exception):
    """A record that a read model cannot project, with the reason."""


class ReadModel(Protocol):
    """One read model. `prefix` begins the names of one generation's tables: several may exist side by side.

    `version` rises whenever the tables or their contents would differ for the same records: a store with
    another version is computed again.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def topic(self) -> str: ...

    def metadata(self, prefix: str) -> MetaData:
        """The generation's tables with the keys and indexes that `project` needs."""
        ...

    def indexes(self, prefix: str) -> Sequence[Index]:
        """The indexes that only queries need; created last when a generation is filled."""
        ...

    def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
        """Applies `records` to the tables, with few statements whatever their number.

        The caller owns the transaction. If a record cannot be handled, its error is raised, and the
        caller must roll back all of `records`.
        """
        ...


class Computation(Protocol):
    """Computes the rows of a read model for batches that follow each other, while others write them.

    It remembers what it needs of earlier rows, within a limit, and reads the rest from the tables.
    """

    def rows(self, records: Sequence[Recorded], written: int, /) -> Any:
        """The rows of the next batch, as plain values (of `marshal`); the tables contain those of all records
        up to position `written`. After an error it is not to be used any more."""
        ...


@runtime_checkable
class Separable(ReadModel, Protocol):
    """A read model whose rows can be computed in one process and written by another."""

    def computation(self, prefix: str, reader: Engine, *, empty: bool) -> Computation:
        """`empty`: the tables have no row of the partition that is computed."""
        ...

    def write(self, connection: Connection, prefix: str, rows: Any) -> None:
        """Writes what `Computation.rows` returned, in the same order."""
        ...
