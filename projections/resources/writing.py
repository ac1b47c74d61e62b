"""Reads and writes the versions of resources of one aggregate, a batch at a time."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    Table,
    Update,
    bindparam,
    select,
    update,
)

from projections.databases.bulk import MANY, insert_rows, json_text
from projections.databases.dialect import dialect_of
from projections.databases.port import Dialect, OnConflict, Values
from projections.memo import computed_once
from projections.resources.tables import AggregateTables
from projections.resources.versions import Version, VersionChanges
from schemas.envelope import QualifiedName

_ENDED = OnConflict(replaced=("valid_to", "until"))


@computed_once(256)
def _end(part: Table) -> Update:
    """Closes the entries of a resource that ended."""
    c = part.c
    return (
        update(part)
        .where(c.organization == bindparam("o"), c.name == bindparam("n"))
        .where(c.valid_to.is_(None), c.position < bindparam("t"))
        .values(valid_to=bindparam("t"), until=bindparam("u"))
    )


@computed_once(256)
def _select_current(of: AggregateTables, dialect: Dialect) -> Select[*tuple[Any, ...]]:
    """The open versions of `names` (one parameter for any number)."""
    v = of.versions
    columns = [v.c.organization, v.c.name, v.c.version, v.c.valid_from, v.c.since, v.c.created, v.c.document]
    return select(*columns, *of.entries).where(
        v.c.organization == bindparam("organization"),
        v.c.valid_to.is_(None),
        dialect.is_in(v.c.name, "names"),
    )


def current(
    connection: Connection, of: AggregateTables, keys: Iterable[QualifiedName]
) -> dict[QualifiedName, Version]:
    """The open versions of those `keys` that have one."""
    names: dict[str, list[str]] = {}
    for organization, name in keys:
        names.setdefault(organization, []).append(name)
    found: dict[QualifiedName, Version] = {}
    dialect = dialect_of(connection)
    statement = _select_current(of, dialect)
    for organization, wanted in names.items():
        parameters = {"organization": organization, "names": dialect.texts(wanted)}
        for row in connection.execute(statement, parameters).all():
            values = tuple[Any, ...](row)
            found[values[:2]] = Version._make((*values[:7], values[7:]))
    return found


AggregateRows = tuple[list[Values], list[Values], list[Values], list[list[Values]]]
"""Of versions that got an end, of new versions, of resources that ended, and of entries by part.
Plain tuples: another process may have made them."""


def rows_of(changes: VersionChanges) -> AggregateRows:
    return (
        [_row(v, None, valid_to, until) for v, valid_to, until in changes.closed],
        [_row(v, json_text(v.document), valid_to, until) for v, valid_to, until in changes.spans],
        [tuple(ended) for ended in changes.ended],
        [[(*entry[:-1], json_text(entry.document)) for entry in added] for added in changes.added],
    )


def write(connection: Connection, of: AggregateTables, rows: AggregateRows) -> None:
    closed, new, ended, entries = rows
    # The old ones first: only one may be open at a time. They are there, and take no more than their ends.
    if len(new) < MANY:
        insert_rows(connection, of.versions, closed + new, _ENDED)
    else:  # the new ones by themselves are inserted faster
        insert_rows(connection, of.versions, closed, _ENDED)
        insert_rows(connection, of.versions, new)
    for part, added in zip(of.parts, entries, strict=True):
        if ended:
            connection.execute(_end(part), [dict(zip(("o", "n", "t", "u"), e, strict=True)) for e in ended])
        insert_rows(connection, part, added)


def _row(v: Version, document: str | None, valid_to: int | None, until: str | None) -> Values:
    begun, ended = (v.position, valid_to), (v.since, until)
    return (v.organization, v.name, *begun, *ended, v.created, v.version, document, *v.entries)
