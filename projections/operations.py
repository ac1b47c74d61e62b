"""The read model of operations: the outcome of each command, by its id."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import JSON, Column, Connection, Index, MetaData, String, Table, select

from projections.databases.bulk import insert_rows, json_text
from projections.databases.port import KEEP_EXISTING, Values
from projections.memo import computed_once
from projections.readmodel import Recorded
from projections.shape import checked_data, shape_of
from schemas.outcome import NON_CONSUMING_RULES, Outcome

_SHAPES = {Outcome.type(): shape_of(Outcome)}


@dataclass(frozen=True, slots=True)
class Tables:
    """`outcomes`: one per command id; `besides`: outcomes of an id that did not consume it."""

    metadata: MetaData
    outcomes: Table
    besides: Table


@computed_once(8)
def tables(prefix: str) -> Tables:
    metadata = MetaData()
    outcomes, besides = (
        Table(
            f"{prefix}_{name}",
            metadata,
            Column("id", String, primary_key=True),
            Column("organization", String, primary_key=True),
            Column("outcome", JSON, nullable=False),
        )
        for name in ("outcomes", "besides")
    )
    return Tables(metadata, outcomes, besides)


class Operations:
    name = "operations"
    version = 2
    topic = "outcomes"

    def metadata(self, prefix: str) -> MetaData:
        return tables(prefix).metadata

    def indexes(self, prefix: str) -> Sequence[Index]:
        return []

    def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
        decided: dict[tuple[str, str], Values] = {}
        besides: dict[tuple[str, str], Values] = {}
        for record in records:
            data = checked_data(_SHAPES.get(record.envelope.type), record.envelope)
            key = (data["name"], data["organization"])
            # A command is decided once: the first outcome of an id counts.
            rows = besides if data.get("rule") in NON_CONSUMING_RULES else decided
            rows.setdefault(key, (*key, json_text(data)))
        insert_rows(connection, tables(prefix).outcomes, list(decided.values()), KEEP_EXISTING)
        insert_rows(connection, tables(prefix).besides, list(besides.values()), KEEP_EXISTING)


def operation(
    connection: Connection, prefix: str, command_id: str, organization: str | None = None
) -> dict[str, Any] | None:
    """The fields of `schemas.outcome.Outcome` for a command, or None while it has none."""
    for t in (tables(prefix).outcomes, tables(prefix).besides):
        wanted = select(t.c.outcome).where(t.c.id == command_id)
        if organization is not None:
            wanted = wanted.where(t.c.organization == organization)
        found = connection.execute(wanted.order_by(t.c.organization).limit(1)).scalar()
        if found is not None:
            return found
    return None
