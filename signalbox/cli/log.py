"""`signalbox log`: what operators do to the event log itself."""

import asyncio
import getpass
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from signalbox.cli.failure import DONE, USAGE, Failure

if TYPE_CHECKING:
    from schemas.parked import RecordSkipped
    from signalbox.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def log() -> None:
    """Look after the event log, while nothing is decided on it."""


@log.command("skip")
@click.option("--data", metavar="DIR", help="The data directory. [default: ./.signalbox]")
@click.option("--engine", type=click.Choice(["embedded", "kafka"]), help="The log. [default: embedded]")
@click.option("--partition", type=click.IntRange(0), required=True, help="Of the events.")
@click.option("--position", type=click.IntRange(1), required=True, help="Of the record.")
@click.option("--reason", required=True, help="Why: kept on the log, for auditors.")
def skip(data: str | None, engine: str | None, partition: int, position: int, reason: str) -> int:
    """Pass over a record on the event log that cannot be read and is none of Signalbox's events.

    Such a record stops its partition. It stays where it is; who skipped it, when and why is kept on the log
    (`signalbox parked list` shows it). Stop Signalbox first, on Kafka the deciders. A record that later
    events follow from cannot be skipped.
    """
    from signalbox.settings import SettingsError, from_environment, require_services
    from streams.log import LogError
    from streams.sqlite.lock import DirectoryInUse

    if not reason.strip():
        raise Failure("--reason takes a text for auditors: why the record is skipped", code=USAGE)
    try:
        settings = from_environment(data=data, engine=engine)
        if settings.engine == "kafka":
            require_services(settings, ["decider"])
        elif not (settings.data / "log.db").is_file():
            raise Failure(f"{settings.data} holds no event log", "name the directory with --data", USAGE)
        done = asyncio.run(_skip(settings, partition, position, reason.strip()))
    except SettingsError as error:
        raise Failure(str(error), code=USAGE) from error
    except DirectoryInUse as error:
        raise Failure(str(error), "stop Signalbox first") from error
    except (LogError, OSError) as error:
        raise Failure(str(error)) from error
    click.echo(f"The record at events/{done.partition} position {done.position} is skipped from now on.")
    return DONE


async def _skip(settings: "Settings", partition: int, position: int, reason: str) -> "RecordSkipped":
    from streams.skip import skip as skip_record

    who = f"{getpass.getuser()}@{socket.gethostname()}"
    if settings.engine == "embedded":
        from streams.sqlite.log import SqliteLog

        opened = await SqliteLog.open(settings.data, skipping=(partition, position))
    else:
        from streams.kafka.log import KafkaLog

        await _require_no_decider(settings)
        opened = await KafkaLog.open(settings.kafka, Path(settings.data))
    try:
        if partition >= opened.partitions:
            raise Failure(f"there is no partition {partition}; there are {opened.partitions}", code=USAGE)
        return await skip_record(opened, partition, position, reason, who)
    finally:
        await opened.close()


async def _require_no_decider(settings: "Settings") -> None:
    """Raises Failure, LogUnavailable."""
    from streams.kafka.inspection import describe

    for group in (await describe(settings.kafka, [settings.kafka.group("decider")]))[1]:
        if group.members:
            where = ", ".join(group.members)
            raise Failure(f"deciders are at work (at {where})", "stop the role decider there first")
