"""`signalbox dev`: local Kafka and PostgreSQL servers for development."""

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
"""Seconds between checks for the end of the server or a signal."""


@click.group()
def dev() -> None:
    """Start a Kafka or a PostgreSQL on this machine, without Docker or root.

    \b
    They are for development and tests: one node, reached from this machine only.
    'signalbox up --engine kafka' starts both by itself.
    """


@dev.command()
@click.option("--data", metavar="DIR", help="The data is kept in DIR/kafka. [default: ./.signalbox]")
@click.option(
    "--port", metavar="N", type=click.IntRange(1, 65535), help="[default: a free one, then the same]"
)
@click.option("--heap", metavar="SIZE", default="256m", show_default=True, help="Memory for Java's objects.")
def kafka(data: str | None, port: int | None, heap: str) -> int:
    """Run an Apache Kafka until Ctrl-C.

    \b
    The first start downloads it (45 MB) and creates a password for clients:
      . DIR/kafka/environment          for Signalbox and the example programs
      DIR/kafka/client.properties      for Java clients and Kafka's own programs
    It prints its address:
      SIGNALBOX_KAFKA=127.0.0.1:PORT
    """
    from signalbox.devservers.kafka.server import DevKafka

    server = DevKafka(_data(data, "kafka"), port, heap=heap)
    hint = f"Clients: `. {server.environment_file}`, or {server.client_properties} for Java."
    return _run(server, lambda bootstrap: bootstrap, hint)


@dev.command()
@click.option("--data", metavar="DIR", help="The data is kept in DIR/postgres. [default: ./.signalbox]")
@click.option("--port", metavar="N", type=click.IntRange(1, 65535), help="Listen on 127.0.0.1:N too.")
def postgres(data: str | None, port: int | None) -> int:
    """Run a PostgreSQL until Ctrl-C.

    \b
    It listens on a Unix socket, with --port also on TCP. The first start creates its password
    (DIR/postgres/password). It prints its URL for client programs:
      SIGNALBOX_POSTGRES=URL
    """
    from signalbox.devservers.postgres.server import DevPostgres

    server = DevPostgres(_data(data, "postgres"), port)
    return _run(server, lambda socket_url: server.tcp_url or socket_url)


def _data(directory: str | None, name: str) -> Path:
    return Path(directory or os.environ.get("SIGNALBOX_DATA") or ".signalbox") / name


def _run(server: "DevServer", for_clients: Callable[[str], str], hint: str = "") -> int:
    """Runs until SIGINT or SIGTERM; `for_clients` converts the address for clients, `hint`
    is additional text."""
    from signalbox.devservers.errors import DevServerError
    from signalbox.machine.ports import PortUnusable

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
    click.echo(f"{server.variable}={shlex.quote(for_clients(address))}")
    while not over.wait(POLL):
        if not server.running:
            raise Failure(f"{server.name} has ended", f"see {server.log}")
    click.echo(f"Stopping {server.name}.", err=True)
    server.stop()
    return DONE
