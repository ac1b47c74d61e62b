"""Reads and writes the versions of resources of one aggregate, a batch at a time."""

from collections.abc import Iterable
from typing import Any

import orjson
from sqlalchemy import (
    ARRAY,
    Connection,
    Select,
    String,
    Table,
    Update,
    any_,
    bindparam,
    func,
    select,
    update,
)

from projections.databases.bulk import OnConflict, Values, insert_rows, json_text
from projections.memo import computed_once
from projections.resources.tables import AggregateTables
from projections.resources.versions import Key, Version, VersionChanges

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
def _select_current(of: AggregateTables, dialect: str) -> Select[*tuple[Any, ...]]:
    """The open versions of `names` (one parameter, however many)."""
    v = of.versions
    columns = [v.c.organization, v.c.name, v.c.version, v.c.valid_from, v.c.since, v.c.created, v.c.document]
    open_ones = select(*columns, *of.entries).where(
        v.c.organization == bindparam("organization"), v.c.valid_to.is_(None)
    )
    if dialect == "postgresql":
        # An array, whatever is known of the table: PostgreSQL would read all of it for a join.
        return open_ones.where(v.c.name == any_(bindparam("names", type_=ARRAY(String))))
    wanted = func.json_each(bindparam("names")).table_valued("value", name="wanted")
    # as a subquery: SQLite looks each name up in the index, where a join scans the organization
    return open_ones.where(v.c.name.in_(select(wanted.c.value)))


def current(connection: Connection, of: AggregateTables, keys: Iterable[Key]) -> dict[Key, Version]:
    """The open versions of those of `keys` that were ever seen."""
    names: dict[str, list[str]] = {}
    for organization, name in keys:
        names.setdefault(organization, []).append(name)
    found: dict[Key, Version] = {}
    dialect = connection.dialect.name
    statement = _select_current(of, dialect)
    for organization, wanted in names.items():
        given = wanted if dialect == "postgresql" else orjson.dumps(wanted).decode()
        for row in connection.execute(statement, {"organization": organization, "names": given}).all():
            values = tuple[Any, ...](row)
            found[values[:2]] = Version._make((*values[:7], values[7:]))
    return found


def write(connection: Connection, of: AggregateTables, changes: VersionChanges) -> None:
    # The old ones first: only one may be open at a time. They are there, and take no more than their ends.
    rows = [_row(v, None, valid_to, until) for v, valid_to, until in changes.closed]
    rows += [_row(v, json_text(v.document), valid_to, until) for v, valid_to, until in changes.spans]
    insert_rows(connection, of.versions, rows, _ENDED)
    for part, added in zip(of.parts, changes.added, strict=True):
        if changes.ended:
            ended = [{"o": o, "n": n, "t": valid_to, "u": until} for o, n, valid_to, until in changes.ended]
            connection.execute(_end(part), ended)
        insert_rows(connection, part, [(*entry[:-1], json_text(entry.document)) for entry in added])


def _row(v: Version, document: str | None, valid_to: int | None, until: str | None) -> Values:
    begun, ended = (v.position, valid_to), (v.since, until)
    return (v.organization, v.name, *begun, *ended, v.created, v.version, document, *v.entries)
