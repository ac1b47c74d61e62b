"""`signalbox dev`: the servers that Signalbox needs on several machines, here and for development."""

import os
import shlex
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from signalbox.cli.failure import DONE, Failure

if TYPE_CHECKING:
    from signalbox.devservers.server import DevServer

POLL = 0.2
"""Seconds between looks at whether it has ended or is to end."""


@click.group()
def dev() -> None:
    """Start a Kafka or a PostgreSQL on this machine, without Docker or root.

    \b
    They are for development and tests: one node, reached from this machine only.
    'signalbox up --engine kafka' starts both by itself.
    """


@dev.command()
@click.option("--data", metavar="DIR", help="Its data is in DIR/kafka. [default: ./.signalbox]")
@click.option(
    "--port", metavar="N", type=click.IntRange(1, 65535), help="[default: a free one, then the same]"
)
@click.option("--heap", metavar="SIZE", default="256m", show_default=True, help="Memory for Java's objects.")
def kafka(data: str | None, port: int | None, heap: str) -> int:
    """Run an Apache Kafka until Ctrl-C.

    \b
    The first start downloads it (45 MB). Clients need its password, which is made at the first start:
      . DIR/kafka/environment          for Signalbox and the example programs
      DIR/kafka/client.properties      for Java clients and Kafka's own programs
    It prints where it listens:
      SIGNALBOX_KAFKA=127.0.0.1:PORT
    """
    from signalbox.devservers.kafka import DevKafka

    server = DevKafka(_data(data, "kafka"), port, heap=heap)
    hint = f"Clients: `. {server.environment_file}`, or {server.client_properties} for Java."
    return _run(server, lambda bootstrap: bootstrap, hint)


@dev.command()
@click.option("--data", metavar="DIR", help="Its data is in DIR/postgres. [default: ./.signalbox]")
@click.option("--port", metavar="N", type=click.IntRange(1, 65535), help="Listen on 127.0.0.1:N too.")
def postgres(data: str | None, port: int | None) -> int:
    """Run a PostgreSQL until Ctrl-C.

    \b
    It is reached over a Unix socket, with --port also over TCP, with a password that is made at the first
    start (DIR/postgres/password). What it prints is for the programs that use it:
      SIGNALBOX_POSTGRES=URL
    """
    from signalbox.devservers.postgres import DevPostgres

    server = DevPostgres(_data(data, "postgres"), port)
    return _run(server, lambda socket_url: server.tcp_url or socket_url)


def _data(directory: str | None, name: str) -> Path:
    return Path(directory or os.environ.get("SIGNALBOX_DATA") or ".signalbox") / name


def _run(server: "DevServer", told: Callable[[str], str], hint: str = "") -> int:
    """Until SIGINT or SIGTERM; `told` makes of the server's address what its users are to take, `hint` says
    what else they need."""
    from signalbox.devservers.errors import DevServerError
    from signalbox.ports import PortUnusable

    try:
        address = server.start()
    except (DevServerError, PortUnusable, OSError) as error:
        raise Failure(str(error)) from error
    over = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        over.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    click.echo(
        f"{server.name} runs, with its data and its log in {server.directory}. Stop it with Ctrl-C.", err=True
    )
    if hint:
        click.echo(hint, err=True)
    click.echo(f"{server.variable}={shlex.quote(told(address))}")
    while not over.wait(POLL):
        if not server.running:
            raise Failure(f"{server.name} has ended", f"see {server.log}")
    click.echo(f"Stopping {server.name}.", err=True)
    server.stop()
    return DONE
