"""`signalbox deploy`."""

from collections.abc import Callable
from typing import Any

import click

from signalbox.cli.failure import DONE, FAILED, Failure
from signalbox.cli.http.client import Answer, Client
from signalbox.cli.http.connection import Connection, connected
from signalbox.cli.http.documents import Document, documents
from signalbox.cli.output import OutputFormat, emit, formed, note
from signalbox.cli.resources.facts import (
    no_node,
    not_listening,
    reason,
    refusal,
    timeline,
    unanswered,
    unchanged,
    wait_for,
    way_out,
)
from signalbox.cli.resources.live import keeps_serving
from signalbox.cli.resources.reading import target as target_of
from signalbox.cli.tables import cell

DECIDED_WITHIN = 30
CONNECT = (
    "it is delivered as soon as one connects: start the proxy; `signalbox get gateways` lists gateways that "
    "have connected nodes"
)


@click.command()
@click.argument("api", metavar="API[@REVISION]")
@click.option("--to", "target", required=True, metavar="GATEWAY|ENVIRONMENT", help="Where to deploy it.")
@click.option("--timeout", type=float, default=30.0, show_default=True, help="Seconds to wait for gateways.")
@formed
@connected
def deploy(where: Connection, api: str, target: str, timeout: float, form: OutputFormat) -> int:
    """Deploy API to a gateway, or to all gateways of an environment, and wait until they acknowledge it.

    The newest revision is deployed, unless one is given: `orders@3`. Deploying a revision again that runs
    or was refused changes nothing: to retry a refused one, `signalbox undeploy` the deployment first.
    """
    name, at, revision = api.partition("@")
    if at and not revision.isdigit():
        raise click.UsageError(f"a revision is a number, as in {name}@3; {revision!r} is not")
    client = Client(where)
    body: dict[str, Any] = {"api": name, **({"revision": int(revision)} if at else {})}
    answer = _start(client, {**body, **target_of(client, target)})
    if answer.status == 202:
        raise Failure(
            f"not decided within {DECIDED_WITHIN} s; it is on the log and will be",
            f"see `signalbox get deployments`, or GET {answer.headers.get('location', 'the operation')}",
        )
    deployment: Document = answer.body
    known: dict[str, Document] = {}
    waiting = Waiting(note)
    late = wait_for(client, [deployment["name"]], timeout, known.__setitem__, waiting)
    facts = known.get(deployment["name"])
    if form == "table":
        click.echo(
            f"deployment {deployment['name']}: {name} revision {deployment['revision']} "
            f"on {cell(deployment['gateways'])}"
        )
        if facts:
            line = unchanged(facts) if answer.status == 200 else timeline(facts)
            click.echo(f"{facts['state']}: {line}")
    else:
        emit({**deployment, "status": facts or deployment.get("status")}, form)
    if late:
        last = waiting.known.get(deployment["name"], {})
        if offline := no_node(last):
            raise Failure(f"{offline[0]}, after {timeout:g} s", CONNECT)
        deaf = "".join(f"; {what}" for what in not_listening(client, unanswered(last)))
        raise Failure(
            f"no gateway has answered for {timeout:g} s{deaf}",
            f"`signalbox describe deployment {deployment['name']}` shows its progress",
        )
    again = again_text(deployment["name"]) if answer.status == 200 else ""
    if facts and facts["state"] == "refused":
        kept = "".join(f"; {what}" for what in keeps_serving(deployment, facts))
        click.echo(f"error: refused by {refusers(facts)}: {reason(facts)}{kept}{again}", err=True)
        return FAILED
    if facts and facts["state"] == "partly-refused":
        click.echo(f"error: refused on {refusers(facts)} by some nodes: {refusal(facts)}{again}", err=True)
        return FAILED
    return DONE


class Waiting:
    """Prints, once per gateway, that a deployment waits for a node to connect; `known`: the last facts of
    the pending deployments."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.known: dict[str, Document] = {}
        self._print = say
        self._printed: set[str] = set()

    def __call__(self, name: str, known: Document) -> None:
        self.known[name] = known
        for sentence in no_node(known):
            if sentence not in self._printed:
                self._printed.add(sentence)
                self._print(f"{sentence}; waiting for one.")


def again_text(deployment: str) -> str:
    """Text about a deployment that was refused before this command requested it again."""
    return f"; unchanged since: {way_out(deployment, 'this command')}"


def refusers(known: Document) -> str:
    return ", ".join(dict.fromkeys(r["gateway"] for r in documents(known.get("refusals")))) or "the gateway"


def _start(client: Client, body: dict[str, Any]) -> Answer:
    from schemas.identity import uuid7

    headers = {"prefer": f"wait={DECIDED_WITHIN}", "idempotency-key": uuid7()}
    return client.ask(
        "POST", client.organization("deployments"), body, headers=headers, seconds=DECIDED_WITHIN + 10
    )
