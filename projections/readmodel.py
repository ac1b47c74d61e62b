"""What a read model is: a name, a version, the topic it follows, its tables, and how records change them."""

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Connection, Index, MetaData

from schemas.envelope import Envelope


class Recorded(Protocol):
    """An envelope where it stands on its topic."""

    @property
    def partition(self) -> int: ...
    @property
    def position(self) -> int: ...
    @property
    def envelope(self) -> Envelope: ...


class Unprojectable(Exception):
    """A record that a read model cannot take in, and why."""


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
        """The generation's tables with what `project` needs to be quick."""
        ...

    def indexes(self, prefix: str) -> Sequence[Index]:
        """What queries need besides; made last when a generation is filled."""
        ...

    def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
        """Brings the tables up to date with `records`, in few statements, whatever their number.

        The caller owns the transaction. Raises whatever a record that cannot be handled causes;
        then nothing of `records` may stay.
        """
        ...
