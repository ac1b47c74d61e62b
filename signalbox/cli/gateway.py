"""`signalbox gateway`: what nodes of a gateway need."""

import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click
import yaml

from schemas.gateway import GATEWAY
from signalbox.cli.client import Client
from signalbox.cli.connection import Connection, connected
from signalbox.cli.failure import DONE, Failure
from signalbox.cli.output import note
from signalbox.cli.reading import one
from signalbox.settings import Settings, SettingsError, address

MEGABYTE = 1024**2
STANDARD_INPUT = "-"
LONGEST_TOKEN = 4_096


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def gateway() -> None:
    """Set up the nodes of a gateway."""


@gateway.command()
@click.argument("name")
@click.option(
    "--token-file",
    metavar="FILE",
    required=True,
    help="Holds the gateway's token, as `apply` printed it; - for standard input.",
)
@click.option(
    "--node", metavar="NODE", help="A name that no other node of the gateway has. [default: the host's]"
)
@click.option(
    "--xds",
    "servers",
    metavar="HOST:PORT",
    multiple=True,
    help="Where the nodes fetch their configuration; given several times, from the first that answers. "
    "[SIGNALBOX_XDS; default: the server's host, port 18000]",
)
@click.option(
    "--admin",
    metavar="PATH",
    default="/tmp/signalbox-envoy-admin.sock",
    show_default=True,
    help="Envoy's admin interface, a Unix socket for its owner only.",
)
@click.option(
    "--memory",
    metavar="MEGABYTES",
    type=click.IntRange(128),
    default=2048,
    show_default=True,
    help="How much Envoy may allocate before it refuses requests.",
)
@click.option("--out", metavar="FILE", help="Write it there, readable for the owner only.")
@connected
def bootstrap(
    where: Connection,
    name: str,
    token_file: str,
    node: str | None,
    servers: tuple[str, ...],
    admin: str,
    memory: int,
    out: str | None,
) -> int:
    """Write the file that an Envoy of the gateway NAME starts with.

    It holds the token of the gateway: keep it secret.

    \b
    signalbox apply -f edge.yaml -o json | jq -r '.items[0].token' > edge.token
    signalbox gateway bootstrap edge --token-file edge.token --out envoy.yaml
    envoy -c envoy.yaml
    """
    from xds.bootstrap import bootstrap as document

    token = _token(token_file)
    first, *others = _servers(where, servers)
    one(Client(where), GATEWAY, name)
    made = document(
        node_id=node or socket.gethostname(),
        gateway=GATEWAY.subject(where.organization, name),
        token=token,
        xds_host=first[0],
        xds_port=first[1],
        other_servers=others,
        admin_socket=admin,
        max_heap=memory * MEGABYTE,
    )
    text = yaml.safe_dump(made, sort_keys=False)
    if out is None:
        click.echo(text, nl=False)
        return DONE
    _write(Path(out), text)
    note(f"{out}: start a node with `envoy -c {out}`")
    return DONE


def _token(file: str) -> str:
    try:
        text = sys.stdin.read(LONGEST_TOKEN) if file == STANDARD_INPUT else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot read {file}: {error}") from error
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Failure(
            f"{'standard input' if file == STANDARD_INPUT else file} does not hold a token alone",
            "`signalbox apply` prints it when it registers the gateway",
        )
    return token


def _servers(where: Connection, given: tuple[str, ...]) -> list[tuple[str, int]]:
    named = given or tuple(filter(None, [os.environ.get("SIGNALBOX_XDS")]))
    if not named:
        return [(urlsplit(where.url).hostname or "127.0.0.1", Settings().xds.port)]
    try:
        found = [address(each, "--xds") for each in named]
    except SettingsError as error:
        raise Failure(str(error)) from error
    return [(each.host, each.port) for each in found]


def _write(file: Path, text: str) -> None:
    beside = file.with_name(file.name + ".new")
    try:
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as writing:
            writing.write(text)
        beside.replace(file)
    except OSError as error:
        raise Failure(f"cannot write {file}: {error.strerror or error}") from error
