"""`signalbox create`."""

from http import HTTPStatus
from typing import Any

import click

from signalbox.cli.failure import DONE, Failure
from signalbox.cli.http.client import Answer, Client, Refused, path
from signalbox.cli.http.connection import Connection, connected
from signalbox.cli.output import OutputFormat, emit, formed, note

DECIDED_WITHIN = 30
PROJECT = "default"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def create() -> None:
    """Create resources that are not defined in files.

    All others (projects, environments, gateways, APIs) are created from files by `signalbox apply`.
    """


@create.command()
@click.argument("name")
@click.option("--display-name", metavar="TEXT", help="A title for people.")
@formed
@connected
def organization(where: Connection, name: str, display_name: str | None, form: OutputFormat) -> int:
    """Create the organization NAME, and in it the project `default` for APIs without a project.

    If it exists, nothing changes.
    """
    client = Client(where)
    fields = {} if display_name is None else {"display_name": display_name}
    made = _put(client, path("organizations", name), fields)
    _put(client, path("organizations", name, "projects", PROJECT), {})
    document: Any = client.get(path("organizations", name)).body if made is None else made.body
    if made is None and display_name is not None and document.get("display_name", "") != display_name:
        raise Failure(
            f"there is an organization {name!r} already; it is called {document.get('display_name', '')!r}",
            "leave out --display-name to keep it as it is",
        )
    if form != "table":
        emit(document, form)
        return DONE
    click.echo(f"organization {name}: {'exists already' if made is None else 'created'}")
    if made is not None:
        note(f"choose it with --org {name} or SIGNALBOX_ORG={name}")
    return DONE


def _put(client: Client, where: str, fields: dict[str, Any]) -> Answer | None:
    """The server's answer, or None when the resource exists already."""
    try:
        answer = client.ask(
            "PUT",
            where,
            fields,
            headers={"prefer": f"wait={DECIDED_WITHIN}"},
            seconds=DECIDED_WITHIN + 10,
        )
    except Refused as refused:
        if refused.status == HTTPStatus.PRECONDITION_REQUIRED:
            return None
        raise
    if answer.status == HTTPStatus.ACCEPTED:
        raise Failure(
            f"not decided within {DECIDED_WITHIN} s; it is on the log and will be",
            "`signalbox get organizations` lists it then; the same command again changes nothing",
        )
    return answer
