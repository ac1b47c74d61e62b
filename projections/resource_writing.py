"""Reads and writes the versions of resources of one aggregate, a batch at a time."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import (
    Connection,
    Insert,
    Select,
    Table,
    Update,
    bindparam,
    func,
    insert,
    select,
    update,
)

from projections.bulk import json_text, run_many
from projections.folding import Changes, Key, Version
from projections.resource_tables import AggregateTables

_CLOSED = ("o", "n", "p", "t", "u")
"""Parameters, as the fields of `projections.folding.Closed`."""


@dataclass(frozen=True, slots=True)
class Statements:
    """Made once per aggregate and generation; `end` and `append` are per part."""

    open: Insert
    opened: tuple[str, ...]
    close: Update
    end: tuple[Update, ...]
    append: tuple[Insert, ...]


@lru_cache(maxsize=256)
def _statements(of: AggregateTables) -> Statements:
    v = of.versions
    return Statements(
        open=insert(v),
        opened=tuple(v.c.keys()),
        close=_closing(v).where(v.c.valid_from == bindparam("p")),
        end=tuple(
            _closing(part).where(part.c.valid_to.is_(None), part.c.position < bindparam("t"))
            for part in of.parts
        ),
        append=tuple(insert(part) for part in of.parts),
    )


def _closing(table: Table) -> Update:
    return (
        update(table)
        .where(table.c.organization == bindparam("o"), table.c.name == bindparam("n"))
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
        for row in connection.execute(statement, parameters):
            values = list[Any](row)
            found[values[0], values[1]] = Version._make([*values[:7], tuple(values[7:])])
    return found


def write(connection: Connection, of: AggregateTables, changes: Changes) -> None:
    """In at most two statements, and two per part."""
    statements = _statements(of)
    run_many(connection, statements.close, _CLOSED, changes.closed)
    run_many(
        connection,
        statements.open,
        statements.opened,
        [
            (
                v.organization,
                v.name,
                v.position,
                valid_to,
                v.since,
                until,
                v.created,
                v.version,
                json_text(v.document),
                *v.entries,
            )
            for v, valid_to, until in changes.spans
        ],
    )
    for part, end, append, added in zip(
        of.parts, statements.end, statements.append, changes.added, strict=True
    ):
        run_many(connection, end, _CLOSED, changes.ended)
        run_many(
            connection,
            append,
            tuple(part.c.keys()),
            [
                (o, n, e.position, valid_to, until, e.key, e.since, e.version, json_text(e.document))
                for o, n, e, valid_to, until in added
            ],
        )
