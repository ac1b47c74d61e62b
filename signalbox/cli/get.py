"""`signalbox get`."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from signalbox.cli.client import Client, path
from signalbox.cli.connection import Connection, connected
from signalbox.cli.documents import at
from signalbox.cli.facts import progress_of
from signalbox.cli.moments import ago, now
from signalbox.cli.output import Form, emit, formed, note
from signalbox.cli.tables import cell, header, table

PAGE = 50


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
@click.option("--as-of", metavar="TIME", help="As it was then: an RFC 3339 time, or a position.")
@click.option("--limit", type=click.IntRange(1), default=PAGE, show_default=True, help="How many at most.")
@click.option("--all", "all_", is_flag=True, help="All there are, however many.")
@formed
@connected
def get(
    where: Connection, kind: str, name: str | None, as_of: str | None, limit: int, all_: bool, form: Form
) -> int:
    """List resources of KIND (apis, deployments, gateways, …), or show the one called NAME."""
    from signalbox.cli.kinds import kind as kind_of

    aggregate = kind_of(kind)
    client = Client(where)
    collection = path("organizations") if aggregate.top else client.organization(aggregate.plural)
    query = {"as_of": as_of}
    if name is not None:
        one = client.get(collection + path(name), query).body
        if form != "table":
            emit(one, form)
            return 0
        items, more = [one], False
    else:
        found = list(client.items(collection, query, None if all_ else limit + 1))
        items, more = (found, False) if all_ else (found[:limit], len(found) > limit)
        if form != "table":
            emit({"items": items}, form)
    if form == "table":
        if items:
            click.echo(listing(aggregate.name, aggregate.columns, items))
        else:
            note(f"There are no {aggregate.plural} in the organization {where.organization!r}.")
    if more:
        note(f"There are more than these {limit}: see them with --limit or --all.")
    return 0


def listing(kind: str, columns: Sequence[str], items: Sequence[Mapping[str, Any]]) -> str:
    """The table of some resources: the columns of their kind, and when they changed last."""
    present = now()
    facts = kind == "deployment"
    headers = [*map(header, columns), *(["progress"] if facts else []), "changed"]
    rows: list[list[str]] = []
    for item in items:
        row = [cell(at(item, column)) for column in columns]
        if facts:
            row.append(progress_of(item))
        changed = at(item, "metadata.changed_at")
        rows.append([*row, ago(changed, present) if changed else "-"])
    return table(headers, rows)
