"""The read model of all aggregates: each version of each resource with its interval of validity.

Per aggregate one table of versions, and one per part (API: revisions) of entries. The row with
`valid_to` NULL is the current one; a resource that ended has a current row without a document, so that
its version counts on when it is made again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    BindParameter,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    and_,
    bindparam,
    insert,
    select,
    tuple_,
    update,
)

from projections.folding import Changes, Key, Version, fold_batch, tasks
from projections.readmodel import Recorded
from schemas.aggregate import Aggregate
from schemas.catalog import AGGREGATES, BY_NAME


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


@lru_cache(maxsize=8)
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


class Resources:
    name = "resources"
    version = 1
    topic = "events"

    def metadata(self, prefix: str) -> MetaData:
        return tables(prefix).metadata

    def indexes(self, prefix: str) -> Sequence[Index]:
        return [i for t in tables(prefix).of.values() for i in _indexes(t)]

    def project(self, connection: Connection, prefix: str, records: Sequence[Recorded]) -> None:
        for name, batch in tasks(records).items():
            aggregate, of = BY_NAME[name], tables(prefix).of[name]
            keys = {(r.envelope.data["organization"], r.envelope.data["name"]) for _, r in batch}
            current = _current(connection, of, sorted(keys))
            _write(connection, of, fold_batch(aggregate, current, batch))


def _indexes(of: AggregateTables) -> list[Index]:
    v = of.versions
    open_rows = v.c.valid_to.is_(None)
    return [
        Index(
            f"{v.name}_current",
            v.c.organization,
            v.c.name,
            unique=True,
            sqlite_where=open_rows,
            postgresql_where=open_rows,
        ),
        *(Index(f"{p.name}_key", p.c.organization, p.c.name, p.c.key) for p in of.parts),
    ]


@lru_cache(maxsize=64)
def _select_current(of: Table, entries: tuple[Column[Any], ...], organizations: bool) -> Select[Any]:
    v = of
    wanted = select(
        v.c.organization, v.c.name, v.c.version, v.c.valid_from, v.c.since, v.c.created, v.c.document
    )
    wanted = wanted.add_columns(*entries).where(v.c.valid_to.is_(None))
    keys: BindParameter[Any] = bindparam("keys", expanding=True)
    if organizations:
        return wanted.where(tuple_(v.c.organization, v.c.name).in_(keys))
    return wanted.where(v.c.organization == bindparam("organization"), v.c.name.in_(keys))


def _current(connection: Connection, of: AggregateTables, keys: Sequence[Key]) -> dict[Key, Version]:
    organizations = {organization for organization, _ in keys}
    if len(organizations) == 1:
        (organization,) = organizations
        parameters: dict[str, Any] = {"organization": organization, "keys": [name for _, name in keys]}
        rows = connection.execute(_select_current(of.versions, of.entries, False), parameters)
    else:
        rows = connection.execute(_select_current(of.versions, of.entries, True), {"keys": list(keys)})
    current: dict[Key, Version] = {}
    for row in rows:
        values = list[Any](row)
        current[values[0], values[1]] = Version._make([*values[:7], tuple(values[7:])])
    return current


def _write(connection: Connection, of: AggregateTables, changes: Changes) -> None:
    v = of.versions
    if changes.closed:
        close = (
            update(v)
            .where(
                and_(
                    v.c.organization == bindparam("o"),
                    v.c.name == bindparam("n"),
                    v.c.valid_from == bindparam("p"),
                )
            )
            .values(valid_to=bindparam("t"), until=bindparam("u"))
        )
        connection.execute(
            close,
            [
                {"o": c.organization, "n": c.name, "p": c.position, "t": c.valid_to, "u": c.until}
                for c in changes.closed
            ],
        )
    for part in of.parts if changes.ended else ():
        end = (
            update(part)
            .where(
                and_(
                    part.c.organization == bindparam("o"),
                    part.c.name == bindparam("n"),
                    part.c.valid_to.is_(None),
                    part.c.position < bindparam("t"),
                )
            )
            .values(valid_to=bindparam("t"), until=bindparam("u"))
        )
        connection.execute(
            end, [{"o": c.organization, "n": c.name, "t": c.valid_to, "u": c.until} for c in changes.ended]
        )
    columns = [c.name for c in of.entries]
    connection.execute(
        insert(v),
        [
            {
                "organization": s.version.organization,
                "name": s.version.name,
                "valid_from": s.version.position,
                "valid_to": s.valid_to,
                "since": s.version.since,
                "until": s.until,
                "created": s.version.created,
                "version": s.version.version,
                "document": s.version.document,
                **dict(zip(columns, s.version.entries, strict=True)),
            }
            for s in changes.spans
        ],
    )
    for part, added in zip(of.parts, changes.added, strict=True):
        if added:
            connection.execute(
                insert(part),
                [
                    {
                        "organization": a.organization,
                        "name": a.name,
                        "position": a.entry.position,
                        "valid_to": a.valid_to,
                        "until": a.until,
                        "key": a.entry.key,
                        "since": a.entry.since,
                        "version": a.entry.version,
                        "document": a.entry.document,
                    }
                    for a in added
                ],
            )
