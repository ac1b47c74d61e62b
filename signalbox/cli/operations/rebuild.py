"""`signalbox rebuild`."""

import asyncio
from typing import TYPE_CHECKING

import click

from signalbox.cli.failure import DONE
from signalbox.cli.http.client import Client, path
from signalbox.cli.http.connection import Connection, connected
from signalbox.cli.http.documents import document
from signalbox.cli.operations.stopped_log import stopped_log, stopped_log_settings

if TYPE_CHECKING:
    from signalbox.settings import Settings

DECIDER = "decider"
SECONDS = 3600.0


@click.command()
@click.argument("read_model", metavar="[READ_MODEL|decider]", required=False)
@click.option("--data", metavar="DIR", help="decider: the data directory. [default: ./.signalbox]")
@click.option("--secrets", metavar="DIR", help="decider: as given to `signalbox run`.")
@click.option("--engine", type=click.Choice(["embedded", "kafka"]), help="decider: [default: embedded]")
@connected
def rebuild(
    where: Connection, read_model: str | None, data: str | None, secrets: str | None, engine: str | None
) -> int:
    """Compute READ_MODEL (all of them when left out) again from the log.

    It is built beside the live one, which continues to answer queries, and replaces it when it has caught up.

    `signalbox rebuild decider` drops the snapshots of the deciders' state instead: the next start computes it
    from the first event. Stop Signalbox first, on Kafka the deciders: they keep the state in memory.
    """
    if read_model == DECIDER:
        return _decider(data, secrets, engine)
    client = Client(where)
    names = [read_model] if read_model else _all()
    for name in names:
        answer = client.ask("POST", path("readmodels", name, "rebuild"), seconds=SECONDS)
        result = document(answer.body)
        numbers = [f"{result['events']:,} events"] if "events" in result else []
        numbers += [f"{result['seconds']:.1f} s"] if "seconds" in result else []
        click.echo(f"{name}: rebuilt" + (f" ({', '.join(numbers)})" if numbers else ""))
    return 0


def _decider(data: str | None, secrets: str | None, engine: str | None) -> int:
    with stopped_log_settings(data=data, secrets=secrets, engine=engine) as settings:
        dropped = asyncio.run(_dropped(settings))
    click.echo(f"{DECIDER}: {dropped:,} snapshots dropped; the next start replays the events")
    return DONE


async def _dropped(settings: "Settings") -> int:
    from streams.decider.snapshots import drop_snapshots

    async with stopped_log(settings) as log:
        return sum([await drop_snapshots(log, partition) for partition in range(log.partitions)])


def _all() -> list[str]:
    from projections.catalog import READ_MODELS

    return [model.name for model in READ_MODELS]
