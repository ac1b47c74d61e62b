"""Queries on the resources read model: one resource, lists, and the entries of parts, as of any moment."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, get_origin

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    Table,
    and_,
    bindparam,
    cast,
    or_,
    select,
    union_all,
)

from projections.databases.dialect import dialect_of
from projections.databases.port import Dialect
from projections.memo import computed_once
from projections.pages import NOW, PointInTime, Row
from projections.read_transactions import ReadTransaction
from projections.resources.tables import AggregateTables, tables, text_field
from projections.resources.versions import document_with_entries
from projections.store import rows_named
from schemas.aggregate import Aggregate
from schemas.aggregates.api import API

_STREAMED: Mapping[str, Any] = MappingProxyType({"stream_results": True, "max_row_buffer": 50})
"""Rows may be large, and a page ends at a number of bytes: so PostgreSQL sends some rows at a time."""


def get(
    s: ReadTransaction, aggregate: Aggregate, organization: str, name: str, at: PointInTime
) -> Row | None:
    found = s.connection.execute(
        one(_tables(s, aggregate), at.kind),
        {"organization": organization, "name": name, "moment": at.value},
    ).first()
    return None if found is None else row_of(aggregate, found)


def get_many(
    s: ReadTransaction, aggregate: Aggregate, organization: str, names: Sequence[str], at: PointInTime = NOW
) -> list[Row]:
    """The rows of some resources, of any number."""
    wanted = _some(_tables(s, aggregate), at.kind, dialect_of(s.connection))
    moment = {"moment": at.value} if at != NOW else {}
    return [row_of(aggregate, row) for row in rows_named(s.connection, wanted, organization, names, moment)]


def page(
    s: ReadTransaction,
    aggregate: Aggregate,
    organization: str,
    at: PointInTime,
    *,
    after: str,
    limit: int,
    where: Mapping[str, str],
) -> Iterator[Row]:
    """Up to `limit` resources with names above `after`, sorted by name; fetched lazily."""
    of = _tables(s, aggregate)
    wanted = _list(of, at.kind, aggregate.top)
    # Of two indexes SQLite may choose the less selective one, so only one condition can use one.
    indexed = next((field for field in aggregate.listed_by if field in where), None)
    for field, value in where.items():
        condition = (
            text_field(of.versions, field) == value
            if field == indexed
            else _has(s, aggregate, of.versions, field, value)
        )
        wanted = wanted.where(condition)
    parameters = {"organization": organization, "after": after, "limit": limit, "moment": at.value}
    with s.connection.execute(wanted, parameters, execution_options=_STREAMED) as rows:
        for found in rows:
            yield row_of(aggregate, found)


def _has(s: ReadTransaction, aggregate: Aggregate, v: Table, field: str, value: str) -> ColumnElement[bool]:
    """The condition that a field of the document is `value`, or a list that has it."""
    if field == "name":
        return v.c.name == value
    if get_origin(aggregate.view.model_fields[field].annotation) is tuple:
        return dialect_of(s.connection).is_element(value, v.c.document[field])
    # SQLite returns 1 for JSON's true; the text of other values is the same in both databases.
    same = [value, {"true": "1", "false": "0"}.get(value, value)]
    return cast(v.c.document[field].as_string(), String).in_(same)


def entry(
    s: ReadTransaction,
    aggregate: Aggregate,
    part: int,
    organization: str,
    name: str,
    key: str,
    at: PointInTime,
) -> Row | None:
    """One entry of a part; None if its resource does not exist at that moment."""
    t = _tables(s, aggregate).parts[part]
    wanted = select(t).where(t.c.organization == organization, t.c.name == name, t.c.key == key)
    wanted = wanted.where(_valid(t, t.c.position, at.kind)).order_by(t.c.position.desc()).limit(1)
    found = s.connection.execute(wanted, {"moment": at.value}).first()
    return None if found is None else _entry_row(found)


def entries(
    s: ReadTransaction,
    aggregate: Aggregate,
    part: int,
    organization: str,
    name: str,
    at: PointInTime,
    *,
    after: int,
    limit: int,
) -> Iterator[Row]:
    """Up to `limit` entries with positions above `after`, oldest first; fetched lazily."""
    t = _tables(s, aggregate).parts[part]
    wanted = select(t).where(t.c.organization == organization, t.c.name == name, t.c.position > after)
    wanted = wanted.where(_valid(t, t.c.position, at.kind)).order_by(t.c.position).limit(limit)
    with s.connection.execute(wanted, {"moment": at.value}, execution_options=_STREAMED) as rows:
        for found in rows:
            yield _entry_row(found)


def refers_to_document(s: ReadTransaction, organization: str, sha256: str) -> bool:
    """Whether a revision of an API of the organization, past ones included, was created from this document.

    Reads all revisions of the organization.
    """
    (t,) = _tables(s, API).parts
    refers = t.c.document[("document", "sha256")].as_string() == sha256
    wanted = select(t.c.position).where(t.c.organization == organization, refers).limit(1)
    return s.connection.execute(wanted).first() is not None


def time_of(s: ReadTransaction, organization: str, position: int) -> str | None:
    """The time of the last event of an organization at or before `position`."""
    latest = [
        select(v.c.valid_from, v.c.since)
        .where(v.c.organization == organization, v.c.valid_from <= position)
        .order_by(v.c.valid_from.desc())
        .limit(1)
        .subquery()
        for v in (t.versions for t in tables(s.prefix("resources")).of.values())
    ]
    rows = s.connection.execute(union_all(*(select(s) for s in latest))).all()
    return max(((r.valid_from, r.since) for r in rows), default=(0, None))[1]


def _tables(s: ReadTransaction, aggregate: Aggregate) -> AggregateTables:
    return tables(s.prefix("resources")).of[aggregate.name]


def _valid(table: Table, valid_from: ColumnElement[Any], kind: str) -> ColumnElement[bool]:
    if kind == "now":
        return table.c.valid_to.is_(None)
    begin, end = (valid_from, table.c.valid_to) if kind == "position" else (table.c.since, table.c.until)
    return and_(begin <= bindparam("moment"), or_(end.is_(None), end > bindparam("moment")))


def _parts(of: AggregateTables) -> Iterable[tuple[Table, Any, int]]:
    return ((part, column, i) for i, (part, column) in enumerate(zip(of.parts, of.entries, strict=True)))


@computed_once(256)
def _versions(of: AggregateTables, kind: str) -> Select[*tuple[Any, ...]]:
    """Existing resources with the documents of their newest entries."""
    v = of.versions
    source: Any = v
    columns: list[Any] = [v.c.name, v.c.version, v.c.valid_from, v.c.since, v.c.created, v.c.document]
    for part, column, _ in _parts(of):
        e = part.alias()
        joined = and_(e.c.organization == v.c.organization, e.c.name == v.c.name, e.c.position == column)
        source = source.outerjoin(e, joined)
        columns += [column, e.c.document.label(f"entry_{column.name}")]
    return (
        select(*columns).select_from(source).where(_valid(v, v.c.valid_from, kind), v.c.document.is_not(None))
    )


@computed_once(256)
def one(of: AggregateTables, kind: str) -> Select[*tuple[Any, ...]]:
    v = of.versions
    wanted = _versions(of, kind).where(
        v.c.organization == bindparam("organization"), v.c.name == bindparam("name")
    )
    return wanted.order_by(v.c.valid_from.desc()).limit(1)


@computed_once(256)
def _some(of: AggregateTables, kind: str, dialect: Dialect) -> Select[*tuple[Any, ...]]:
    v = of.versions.c
    return _versions(of, kind).where(
        v.organization == bindparam("organization"), dialect.is_in(v.name, "names")
    )


@computed_once(256)
def _list(of: AggregateTables, kind: str, top: bool = False) -> Select[*tuple[Any, ...]]:
    v = of.versions
    wanted = _versions(of, kind).where(v.c.name > bindparam("after"))
    if not top:
        wanted = wanted.where(v.c.organization == bindparam("organization"))
    return wanted.order_by(v.c.organization, v.c.name).limit(bindparam("limit"))


def row_of(aggregate: Aggregate, found: Any) -> Row:
    values = list[Any](found)
    name, version, position, since, created, document, *held = values
    below = [(at, held[i + 1]) for i, at in enumerate(held) if i % 2 == 0 and at is not None]
    return Row(name, version, position, since, document_with_entries(name, document, below), created)


def _entry_row(found: Any) -> Row:
    document = document_with_entries(found.name, found.document)
    return Row(found.key, found.version, found.position, found.since, document, found.since)
