"""The read model of operations: what became of each command, by its id."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import JSON, Column, Connection, Index, MetaData, String, Table, select

from projections.bulk import STAYS, Values, json_text, put
from projections.readmodel import Recorded
from projections.shape import checked, shape_of
from schemas.outcome import Outcome

_SHAPES = {Outcome.type(): shape_of(Outcome)}


@lru_cache(maxsize=8)
def table(prefix: str) -> Table:
    return Table(
        f"{prefix}_outcomes",
        MetaData(),
        Column("id", String, primary_key=True),
        Column("organization", String, primary_key=True),
        Column("outcome", JSON, nullable=False),
    )


class Operations:
    name = "operations"
    version = 1
    topic = "outcomes"

    def metadata(self, prefix: str) -> MetaData:
        return table(prefix).metadata

    def indexes(self, prefix: str) -> Sequence[Index]:
        return []

    def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
        rows: dict[tuple[str, str], Values] = {}
        for record in records:
            data = checked(_SHAPES.get(record.envelope.type), record.envelope)
            key = (data["name"], data["organization"])
            # A command is decided once: the first outcome of an id stands.
            rows.setdefault(key, (*key, json_text(data)))
        put(connection, table(prefix), list(rows.values()), STAYS)


def operation(
    connection: Connection, prefix: str, command_id: str, organization: str | None = None
) -> dict[str, Any] | None:
    """The fields of `schemas.outcome.Outcome` for a command, or None while it has none."""
    t = table(prefix)
    wanted = select(t.c.outcome).where(t.c.id == command_id)
    if organization is not None:
        wanted = wanted.where(t.c.organization == organization)
    return connection.execute(wanted.order_by(t.c.organization).limit(1)).scalar()
