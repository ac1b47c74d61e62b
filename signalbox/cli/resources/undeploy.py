"""`signalbox undeploy`."""

import time
from collections.abc import Sequence
from http import HTTPStatus

import click

from signalbox.cli.failure import DONE, Failure
from signalbox.cli.http.client import Client, Refused
from signalbox.cli.http.connection import Connection, connected
from signalbox.cli.http.documents import Document
from signalbox.cli.output import OutputFormat, emit, formed
from signalbox.cli.resources.live import live
from signalbox.cli.tables import cell

DECIDED_WITHIN = 30
PAUSE = 0.05
"""Seconds between two looks at what is live."""


@click.command()
@click.argument("name", metavar="API|DEPLOYMENT")
@click.option("--from", "gateway", metavar="GATEWAY", help="The gateway to undeploy the API from.")
@click.option("--timeout", type=float, default=30.0, show_default=True, help="Seconds to wait for gateways.")
@formed
@connected
def undeploy(where: Connection, name: str, gateway: str | None, timeout: float, form: OutputFormat) -> int:
    """Undeploy an API from a gateway, or stop the deployment with this id, and wait until no node has it.

    The gateway then serves no revision of the API, also if a later one was refused and an earlier one is
    still live: the command prints the revision that is removed.
    """
    client = Client(where)
    found = _deployment(client, name) if gateway is None else None
    deployment = found or _of_api(client, name, gateway)
    taken = [
        entry for entry in live(client, api=deployment["api"]) if entry["gateway"] in deployment["gateways"]
    ]
    answer = client.ask(
        "DELETE",
        client.organization("deployments", deployment["name"]),
        headers={
            "prefer": f"wait={DECIDED_WITHIN}",
            "if-match": f'"{deployment["metadata"]["version"]}"',
        },
        seconds=DECIDED_WITHIN + 10,
    )
    left = _still_live(client, taken, timeout) if answer.status != HTTPStatus.ACCEPTED else ()
    if form != "table":
        emit(answer.body, form)
    elif answer.status == HTTPStatus.ACCEPTED:
        click.echo(f"deployment {deployment['name']}: asked to stop; not decided within {DECIDED_WITHIN} s")
    else:
        click.echo(
            f"deployment {deployment['name']}: {deployment['api']} revision {deployment['revision']} "
            f"stopped on {cell(deployment['gateways'])}"
        )
        for sentence in _taken_away(taken):
            click.echo(sentence)
    if left:
        entry = left[0]
        raise Failure(
            f"a node of {cell([e['gateway'] for e in left])} still has {entry['api']}@{entry['revision']}, "
            f"after {timeout:g} s",
            "`signalbox get live` lists what gateways serve; "
            f"`signalbox describe gateway {entry['gateway']}` has its nodes",
        )
    return DONE


def _still_live(client: Client, taken: Sequence[Document], seconds: float) -> Sequence[Document]:
    """Those of these live revisions that nodes have after `seconds`; returns as soon as there are none."""
    until = time.monotonic() + seconds
    while taken:
        now = {(e["gateway"], e["deployment"]) for e in live(client, api=taken[0]["api"])}
        taken = [entry for entry in taken if (entry["gateway"], entry["deployment"]) in now]
        if not taken or time.monotonic() >= until:
            break
        time.sleep(PAUSE)
    return taken


def _taken_away(taken: Sequence[Document]) -> list[str]:
    """The live revisions that are removed."""
    where: dict[str, list[str]] = {}
    for entry in taken:
        where.setdefault(f"{entry['api']}@{entry['revision']}", []).append(entry["gateway"])
    if not where:
        return ["nothing was live there"]
    return [f"takes away {what}, which was live on {cell(gateways)}" for what, gateways in where.items()]


def _deployment(client: Client, name: str) -> Document | None:
    try:
        return client.get(client.organization("deployments", name)).body
    except Refused as refused:
        if refused.status == 404:
            return None
        raise


def _of_api(client: Client, api: str, gateway: str | None) -> Document:
    """The deployment to stop. Raises Failure when there is none, or more than one."""
    running = list(client.items(client.organization("deployments"), {"api": api, "state": "active"}))
    meant = [d for d in running if gateway is None or gateway in d["gateways"]]
    if not meant:
        on = f" on {gateway}" if gateway else ""
        runs = f"it runs on {_places(running)}" if running else "`signalbox get deployments` lists what runs"
        raise Failure(f"{api} is not deployed{on}", runs)
    if len(meant) > 1:
        raise Failure(f"{api} runs on {_places(meant)}", "choose one with --from GATEWAY")
    (deployment,) = meant
    if gateway is not None and len(deployment["gateways"]) > 1:
        raise Failure(
            f"{api} was deployed to {cell(deployment['gateways'])} together",
            f"to take it off all of them: signalbox undeploy {deployment['name']}",
        )
    return deployment


def _places(deployments: Sequence[Document]) -> str:
    return cell([g for d in deployments for g in d["gateways"]])
