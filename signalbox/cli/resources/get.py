"""`signalbox get`."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import click

from schemas.aggregate import Aggregate
from signalbox.cli.http.client import Client, Refused
from signalbox.cli.http.connection import Connection, connected
from signalbox.cli.http.documents import Document, at
from signalbox.cli.moment import as_of_option
from signalbox.cli.moments import ago, now
from signalbox.cli.output import OutputFormat, emit, formed, note
from signalbox.cli.resources.facts import deployments
from signalbox.cli.resources.live import listing as live_listing
from signalbox.cli.resources.live import live, places
from signalbox.cli.resources.reading import collection, one, require_organization
from signalbox.cli.tables import cell, header, table

PAGE = 50
LIVE = "live"


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
@as_of_option
@click.option("--gateway", metavar="GATEWAY", help="Live revisions or deployments on this gateway only.")
@click.option("--api", metavar="API", help="Live revisions or deployments of this API only.")
@click.option(
    "--limit", type=click.IntRange(1), default=PAGE, show_default=True, help="Maximum number of items."
)
@click.option("--all", "all_", is_flag=True, help="All items, also deployments that ended.")
@formed
@connected
def get(
    where: Connection,
    kind: str,
    name: str | None,
    as_of: str | None,
    gateway: str | None,
    api: str | None,
    limit: int,
    all_: bool,
    form: OutputFormat,
) -> int:
    """List resources of KIND (apis, deployments, gateways, …), or show the one named NAME.

    Deployments in force are listed, in the order of their names, which by default is that of time; with --all
    also those that were stopped or superseded.
    `get live` lists the revision of each API that each gateway serves, whatever was requested later.
    With -o yaml each is a definition for `signalbox apply`; `status` is not part of it.
    """
    from signalbox.cli.resources.kinds import kind as kind_of

    client = Client(where)
    if kind.lower() == LIVE:
        if name is not None:
            raise click.UsageError(f"choose an API with --api {name}, or a gateway with --gateway {name}")
        return _live(client, gateway, api, as_of, None if all_ else limit, form)
    aggregate = kind_of(kind)
    of_deployments = aggregate.name == "deployment"
    if (gateway is not None or api is not None) and (name is not None or not of_deployments):
        raise click.UsageError("--gateway and --api are for `get live` and `get deployments`")
    more = False
    if name is not None:
        document = one(client, aggregate, name, as_of)
        if form != "table":
            _print(aggregate, [document], document, form)
            return 0
        items = [document]
    else:
        current = of_deployments and not all_
        query = {"as_of": as_of, "state": "active" if current else None, "gateway": gateway, "api": api}
        items = list(client.items(collection(client, aggregate), query, None if all_ else limit + 1))
        if not items and not aggregate.top:
            require_organization(client)
        if not all_:
            items, more = items[:limit], len(items) > limit
        if form != "table":
            _print(aggregate, items, {"items": items}, form)
        elif not items:
            of = "".join((f" of {api}" if api else "", f" on {gateway}" if gateway else ""))
            what = f"There are no {aggregate.plural}{of} in the organization {where.organization!r}"
            note(f"{what} that are in force; --all lists the ended ones too." if current else f"{what}.")
    if form == "table" and items:
        click.echo(listing(aggregate.name, aggregate.columns, items))
    if more:
        filters = "choose with --api or --gateway, or " if of_deployments else ""
        note(f"There are more than these {limit}: {filters}see them with --limit or --all.")
    return 0


def _live(
    client: Client,
    gateway: str | None,
    api: str | None,
    as_of: str | None,
    limit: int | None,
    form: OutputFormat,
) -> int:
    most = None if limit is None else limit + 1
    try:
        found = live(client, gateway=gateway, api=api, as_of=as_of, most=most)
    except Refused as refused:
        if refused.status == HTTPStatus.NOT_FOUND:
            require_organization(client)
            asked = [plural for plural, name in (("gateways", gateway), ("apis", api)) if name is not None]
            commands = " and ".join(f"`signalbox get {plural}`" for plural in asked)
            refused.hint = f"{commands} {'lists' if len(asked) == 1 else 'list'} those there are"
        raise
    if not found:
        require_organization(client)
    items = found if limit is None else found[:limit]
    if form != "table":
        emit({"items": items}, form)
    elif items:
        click.echo(live_listing(items, now()))
    else:
        note("Nothing is live there." if gateway or api else "Nothing is live.")
    if len(found) > len(items):
        note(f"There are more than these {limit}: see them with --limit or --all.")
    return 0


def _print(
    aggregate: Aggregate, items: Sequence[Mapping[str, Any]], answer: Document, form: OutputFormat
) -> None:
    """JSON: the server's answer; YAML: definitions for `apply`."""
    if form == "yaml":
        from signalbox.cli.resources.definitions import definition, stream

        documents = [definition(aggregate, item) for item in items]
        if None not in documents:
            click.echo(stream(d for d in documents if d is not None), nl=False)
            return
    emit(answer, form)


def listing(kind: str, columns: Sequence[str], items: Sequence[Mapping[str, Any]]) -> str:
    """The table of resources: the columns of their kind, and the time of the last change."""
    present = now()
    if kind == "deployment":
        return deployments(items, present)
    rows: list[list[str]] = []
    for item in items:
        changed = at(item, "metadata.changed_at")
        shown = {**item, LIVE: places(item[LIVE])} if item.get(LIVE) else item
        rows.append([*(cell(at(shown, c)) for c in columns), ago(changed, present) if changed else "-"])
    return table([*map(header, columns), "changed"], rows)
