"""`signalbox history`."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from signalbox.cli.failure import Failure
from signalbox.cli.http.client import Client
from signalbox.cli.http.connection import Connection, connected
from signalbox.cli.http.documents import Document, document
from signalbox.cli.moments import ago, clock, now
from signalbox.cli.output import OutputFormat, emit, formed, note
from signalbox.cli.tables import UNSET, cell, table

PAGE = 200
UNSAID = frozenset({"organization", "name", "digest", "spec", "document", "context", "hosts", "requested_at"})


@click.command()
@click.argument("kind")
@click.argument("name")
@click.option(
    "--limit", type=click.IntRange(1), default=PAGE, show_default=True, help="Maximum number of items."
)
@click.option("--all", "all_", is_flag=True, help="The whole history.")
@formed
@connected
def history(where: Connection, kind: str, name: str, limit: int, all_: bool, form: OutputFormat) -> int:
    """List the events of a resource since its creation: time, caller and change."""
    from signalbox.cli.resources.kinds import kind as kind_of

    aggregate = kind_of(kind)
    client = Client(where)
    organization = name if aggregate.top else where.organization
    listed = events(client, organization, aggregate.subject(organization, name), None if all_ else limit + 1)
    found = list(listed)
    more = not all_ and len(found) > limit
    found = found if all_ else found[:limit]
    if not found:
        raise Failure(
            f"there are no events of {aggregate.name} {name!r}",
            f"`signalbox get {aggregate.plural}` lists those there are",
        )
    if form == "table":
        present = now()
        rows = [
            [
                clock(e["time"]),
                ago(e["time"], present),
                e.get("authid") or "-",
                what(e),
                str(int(e.get("sequence") or 0)),
            ]
            for e in found
        ]
        click.echo(table(["when (utc)", "", "who", "what", "position"], rows))
    else:
        emit({"items": found}, form)
    if more:
        note(f"There is more than these {limit}: see it with --limit or --all.")
    return 0


def events(client: Client, organization: str, subject: str, most: int | None) -> Iterator[Document]:
    """The events about a subject, oldest first."""
    after = "0"
    left = most
    while left is None or left > 0:
        page = client.get(
            f"/organizations/{organization}/events",
            {"subject": subject, "after": after, "limit": str(PAGE if left is None else min(PAGE, left))},
        )
        yield from page.body
        if left is not None:
            left -= len(page.body)
        after = page.headers.get("signalbox-position", "").rpartition(":")[2]
        if 'rel="next"' not in page.headers.get("link", "") or not after:
            return


def what(event: Mapping[str, Any]) -> str:
    """An event in a few words: its verb, and the short values of its data."""
    parts = str(event["type"]).split(".")
    verb = parts[-2] if len(parts) > 2 else str(event["type"])
    values = [
        f"{key.replace('_', ' ')} {cell(value)}"
        for key, value in document(event.get("data")).items()
        if key not in UNSAID and value not in UNSET
    ]
    return cell(f"{verb}: {'; '.join(values)}" if values else verb)
