"""`signalbox rebuild`."""

import click

from signalbox.cli.client import Client, path
from signalbox.cli.connection import Connection, connected
from signalbox.cli.documents import document

SECONDS = 3600.0


@click.command()
@click.argument("read_model", required=False)
@connected
def rebuild(where: Connection, read_model: str | None) -> int:
    """Compute READ_MODEL (all of them when left out) again from the log.

    It is built beside the live one, which goes on answering, and swapped in when it has caught up.
    """
    client = Client(where)
    names = [read_model] if read_model else _all()
    for name in names:
        answer = client.ask("POST", path("readmodels", name, "rebuild"), seconds=SECONDS)
        told = document(answer.body)
        numbers = [f"{told['events']:,} events"] if "events" in told else []
        numbers += [f"{told['seconds']:.1f} s"] if "seconds" in told else []
        click.echo(f"{name}: rebuilt" + (f" ({', '.join(numbers)})" if numbers else ""))
    return 0


def _all() -> list[str]:
    from projections.catalog import READ_MODELS

    return [model.name for model in READ_MODELS]
