"""`signalbox log`: operations on the event log itself."""

import asyncio
import getpass
import socket
from typing import TYPE_CHECKING

import click

from signalbox.cli.failure import DONE, USAGE, Failure
from signalbox.cli.operations.stopped_log import stopped_log, stopped_log_settings

if TYPE_CHECKING:
    from schemas.parked import RecordSkipped
    from signalbox.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def log() -> None:
    """Maintain the event log while no decider runs."""


@log.command("skip")
@click.option("--data", metavar="DIR", help="The data directory. [default: ./.signalbox]")
@click.option("--engine", type=click.Choice(["embedded", "kafka"]), help="The log. [default: embedded]")
@click.option("--partition", type=click.IntRange(0), required=True, help="The partition of the topic events.")
@click.option("--position", type=click.IntRange(1), required=True, help="The position of the record.")
@click.option("--reason", required=True, help="The reason: stored on the log, for auditors.")
def skip(data: str | None, engine: str | None, partition: int, position: int, reason: str) -> int:
    """Skip a record on the event log that cannot be read and is not one of Signalbox's events.

    Such a record stops its partition. It stays on the log; the skip is recorded with operator, time and
    reason (`signalbox parked list` shows it). Stop Signalbox first, on Kafka the deciders. A record that is
    part of the hash chain of later events cannot be skipped.
    """
    if not reason.strip():
        raise Failure("--reason takes a text for auditors: why the record is skipped", code=USAGE)
    with stopped_log_settings(data=data, engine=engine) as settings:
        done = asyncio.run(_skip(settings, partition, position, reason.strip()))
    click.echo(f"The record at events/{done.partition} position {done.position} is skipped from now on.")
    return DONE


async def _skip(settings: "Settings", partition: int, position: int, reason: str) -> "RecordSkipped":
    from streams.decider.skip import skip as skip_record

    who = f"{getpass.getuser()}@{socket.gethostname()}"
    async with stopped_log(settings, skipping=(partition, position)) as opened:
        if partition >= opened.partitions:
            raise Failure(f"there is no partition {partition}; there are {opened.partitions}", code=USAGE)
        return await skip_record(opened, partition, position, reason, who)
