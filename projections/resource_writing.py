"""Reads and writes the versions of resources of one aggregate, a batch at a time."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import (
    Connection,
    Select,
    Table,
    Update,
    bindparam,
    func,
    select,
    update,
)

from projections.bulk import Values, json_text, put
from projections.folding import Changes, Key, Version
from projections.resource_tables import AggregateTables


@lru_cache(maxsize=256)
def _end(part: Table) -> Update:
    """Closes the entries of a resource that ended."""
    c = part.c
    return (
        update(part)
        .where(c.organization == bindparam("o"), c.name == bindparam("n"))
        .where(c.valid_to.is_(None), c.position < bindparam("t"))
        .values(valid_to=bindparam("t"), until=bindparam("u"))
    )


@lru_cache(maxsize=256)
def _select_current(of: AggregateTables, dialect: str) -> Select[*tuple[Any, ...]]:
    """The open versions of `names` (JSON text: one parameter, however many)."""
    v = of.versions
    each = func.json_array_elements_text if dialect == "postgresql" else func.json_each
    wanted = each(bindparam("names")).table_valued("value", name="wanted")
    columns = [v.c.organization, v.c.name, v.c.version, v.c.valid_from, v.c.since, v.c.created, v.c.document]
    return (
        select(*columns, *of.entries)
        .where(v.c.organization == bindparam("organization"))
        # as a subquery: SQLite looks each name up in the index, where a join scans the organization
        .where(v.c.name.in_(select(wanted.c.value)), v.c.valid_to.is_(None))
    )


def current(connection: Connection, of: AggregateTables, keys: Iterable[Key]) -> dict[Key, Version]:
    """The open versions of those of `keys` that were ever seen."""
    names: dict[str, list[str]] = {}
    for organization, name in keys:
        names.setdefault(organization, []).append(name)
    found: dict[Key, Version] = {}
    statement = _select_current(of, connection.dialect.name)
    for organization, wanted in names.items():
        parameters = {"organization": organization, "names": orjson.dumps(wanted).decode()}
        for row in connection.execute(statement, parameters).all():
            values = tuple[Any, ...](row)
            found[values[:2]] = Version._make((*values[:7], values[7:]))
    return found


def write(connection: Connection, of: AggregateTables, changes: Changes) -> None:
    # The old ones first: only one may be open at a time. They are there, and take no more than their ends.
    rows = [_row(v, None, valid_to, until) for v, valid_to, until in changes.closed]
    rows += [_row(v, json_text(v.document), valid_to, until) for v, valid_to, until in changes.spans]
    put(connection, of.versions, rows, replaced=("valid_to", "until"))
    for part, added in zip(of.parts, changes.added, strict=True):
        if changes.ended:
            ended = [{"o": o, "n": n, "t": valid_to, "u": until} for o, n, valid_to, until in changes.ended]
            connection.execute(_end(part), ended)
        put(connection, part, [(*entry[:-1], json_text(entry.document)) for entry in added])


def _row(v: Version, document: str | None, valid_to: int | None, until: str | None) -> Values:
    begun, ended = (v.position, valid_to), (v.since, until)
    return (v.organization, v.name, *begun, *ended, v.created, v.version, document, *v.entries)
