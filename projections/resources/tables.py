"""The tables of resources: each version of each resource with its interval of validity.

Each aggregate has one table of versions, and one of entries per part (API: revisions). The row with
`valid_to` NULL is the current one; a resource that ended has a current row without a document, so that
its version continues if it is created again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
)

from projections.memo import computed_once
from schemas.aggregate import Aggregate
from schemas.catalog import AGGREGATES


@dataclass(frozen=True, slots=True)
class AggregateTables:
    """`entries` are the columns of `versions` with the position of the newest entry, per part."""

    versions: Table
    parts: tuple[Table, ...]
    entries: tuple[Column[Any], ...]


@dataclass(frozen=True, slots=True)
class Tables:
    metadata: MetaData
    of: Mapping[str, AggregateTables]


@computed_once(8)
def tables(prefix: str) -> Tables:
    """The tables of one generation."""
    metadata = MetaData()
    return Tables(metadata, {a.name: _aggregate_tables(metadata, prefix, a) for a in AGGREGATES})


def _aggregate_tables(metadata: MetaData, prefix: str, aggregate: Aggregate) -> AggregateTables:
    entries = tuple(Column(f"{p.plural}_position", BigInteger) for p in aggregate.parts)
    versions = Table(
        f"{prefix}_{aggregate.plural}",
        metadata,
        Column("organization", String, primary_key=True),
        Column("name", String, primary_key=True),
        Column("valid_from", BigInteger, primary_key=True, autoincrement=False),
        Column("valid_to", BigInteger),
        Column("since", String, nullable=False),
        Column("until", String),
        Column("created", String, nullable=False),
        Column("version", Integer, nullable=False),
        Column("document", JSON(none_as_null=True)),
        *entries,
    )
    parts = tuple(
        Table(
            f"{prefix}_{aggregate.plural}_{part.plural}",
            metadata,
            Column("organization", String, primary_key=True),
            Column("name", String, primary_key=True),
            Column("position", BigInteger, primary_key=True, autoincrement=False),
            Column("valid_to", BigInteger),
            Column("until", String),
            Column("key", String, nullable=False),
            Column("since", String, nullable=False),
            Column("version", Integer, nullable=False),
            Column("document", JSON, nullable=False),
        )
        for part in aggregate.parts
    )
    return AggregateTables(versions, parts, entries)


def text_field(versions: Table, field: str) -> ColumnElement[str]:
    """A text of the document. The name of the field is part of the statement, so that an index is used."""
    name = bindparam(None, field, type_=JSON.JSONStrIndexType(), literal_execute=True)
    return versions.c.document[name].as_string()


def indexes(of: AggregateTables, listed_by: Sequence[str]) -> list[Index]:
    """`listed_by`: fields that current resources are filtered by."""
    v = of.versions
    open_rows = v.c.valid_to.is_(None)
    return [
        Index(f"{v.name}_current", v.c.organization, v.c.name, unique=True, sqlite_where=open_rows),
        *(
            Index(
                f"{v.name}_{field}",
                *(v.c.organization, text_field(v, field), v.c.name),
                sqlite_where=open_rows,
            )
            for field in listed_by
        ),
        *(Index(f"{p.name}_key", p.c.organization, p.c.name, p.c.key) for p in of.parts),
    ]
