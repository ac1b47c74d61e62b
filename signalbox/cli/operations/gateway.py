"""`signalbox gateway`: sets up the nodes of a gateway."""

import os
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click
import yaml

from schemas.aggregates.gateway import GATEWAY, TOKEN_PREFIX
from schemas.codecs.canonical import sha256_hex
from signalbox.cli.failure import DONE, USAGE, Failure
from signalbox.cli.http.client import Client
from signalbox.cli.http.connection import Connection, connected
from signalbox.cli.output import note
from signalbox.cli.resources.reading import one
from signalbox.data_directory.listen_addresses import read_listen_addresses
from signalbox.settings import Address, Settings, SettingsError, address

if TYPE_CHECKING:
    from xds.bootstrap import Trust

MEGABYTE = 1024**2
STANDARD_INPUT = "-"
LONGEST_TOKEN = 4_096
LONGEST_PLAIN = 60
"""Characters of the names of gateway and node in a socket's name."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def gateway() -> None:
    """Set up the nodes of a gateway."""


@gateway.command()
@click.argument("name")
@click.option(
    "--token-file",
    metavar="FILE",
    required=True,
    help="The file with the gateway's token, as `apply` printed it; - for standard input.",
)
@click.option(
    "--node",
    metavar="NODE",
    help="A name that no other node of the gateway has: 1 to 253 visible ASCII characters without *. "
    "[default: the host's]",
)
@click.option(
    "--xds",
    "servers",
    metavar="HOST:PORT",
    multiple=True,
    help="The xDS server of the nodes; if given several times, the nodes use the first that answers. "
    "[SIGNALBOX_XDS; default: the address of the server of the data directory (SIGNALBOX_DATA), else the "
    "server's host, port 18000]",
)
@click.option(
    "--ca",
    metavar="FILE",
    help="CA certificates (PEM) with which nodes verify the xDS servers; the file's path on the nodes: "
    "xDS is TLS. [SIGNALBOX_XDS_CA; default: plaintext]",
)
@click.option(
    "--server-name",
    "names",
    metavar="NAME",
    multiple=True,
    help="A host name or address that the servers' certificate may have; may be repeated. "
    "[default: the hosts of --xds]",
)
@click.option(
    "--admin",
    metavar="PATH",
    help="Envoy's admin interface, a Unix socket for its owner only. "
    "[default: /tmp/signalbox-envoy.ORG.GATEWAY.NODE.sock]",
)
@click.option(
    "--memory",
    metavar="MEGABYTES",
    type=click.IntRange(128),
    default=2048,
    show_default=True,
    help="The memory that Envoy may allocate before it refuses requests.",
)
@click.option("--out", metavar="FILE", help="Write it to this file, readable for its owner only.")
@connected
def bootstrap(
    where: Connection,
    name: str,
    token_file: str,
    node: str | None,
    servers: tuple[str, ...],
    ca: str | None,
    names: tuple[str, ...],
    admin: str | None,
    memory: int,
    out: str | None,
) -> int:
    """Write the bootstrap file for an Envoy of the gateway NAME.

    It contains the gateway's token: keep it secret.

    \b
    signalbox apply -f edge.yaml --token-file edge.token
    signalbox gateway bootstrap edge --token-file edge.token --ca ca.crt --out envoy.yaml
    envoy -c envoy.yaml

    Several Envoys on one machine need a --base-id each: `envoy -c other.yaml --base-id 1`.
    """
    from xds.bootstrap import bootstrap as document

    token = _token(token_file)
    node = _node(node)
    first, *others = _servers(where, servers)
    trust = _trust(ca, names, [first[0], *(host for host, _ in others)])
    one(Client(where), GATEWAY, name)
    made = document(
        node_id=node,
        gateway=GATEWAY.subject(where.organization, name),
        token=token,
        xds_host=first[0],
        xds_port=first[1],
        other_servers=others,
        trust=trust,
        admin_socket=admin if admin is not None else _admin(where.organization, name, node),
        max_heap=memory * MEGABYTE,
    )
    text = yaml.safe_dump(made, sort_keys=False)
    if out is None:
        click.echo(text, nl=False)
        return DONE
    _write(Path(out), text)
    note(
        f"{out}: start a node with `envoy -c {out}`; beside another Envoy on the machine add `--base-id N`, "
        "a number that no other Envoy uses"
    )
    return DONE


def _token(file: str) -> str:
    try:
        text = sys.stdin.read(LONGEST_TOKEN) if file == STANDARD_INPUT else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot read {file}: {error}") from error
    token = text.strip()
    if (
        not token.startswith(TOKEN_PREFIX)
        or not token.isascii()
        or not token.isprintable()
        or " " in token
        or token == TOKEN_PREFIX
    ):
        raise Failure(
            f"{'standard input' if file == STANDARD_INPUT else file} must contain only a gateway's token; "
            f"a token begins with {TOKEN_PREFIX}",
            "`signalbox apply --token-file FILE` writes it when it registers the gateway",
        )
    return token


def _node(given: str | None) -> str:
    """The node's name. Raises Failure when the xDS server would refuse it."""
    from xds.server.node import require_valid
    from xds.server.wire import Node, WireError

    node = given if given is not None else socket.gethostname()
    try:
        require_valid(Node(id=node))
    except WireError as error:
        raise Failure(
            f"{node[:100]!r} cannot name a node: {error}", "give another name with --node", USAGE
        ) from error
    return node


def _admin(organization: str, gateway: str, node: str) -> str:
    """The path of a socket, unique per node on the machine; the path of a Unix socket has at most 107
    bytes."""
    name = f"{organization}.{gateway}.{node}"
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    if plain != name or len(plain) > LONGEST_PLAIN:
        plain = f"{plain[:LONGEST_PLAIN]}.{sha256_hex(name.encode())[:12]}"
    return f"/tmp/signalbox-envoy.{plain}.sock"


def _servers(where: Connection, given: tuple[str, ...]) -> list[tuple[str, int]]:
    named = given or tuple(filter(None, [os.environ.get("SIGNALBOX_XDS")]))
    if not named:
        return [_found(where)]
    try:
        found = [address(each, "--xds") for each in named]
    except SettingsError as error:
        raise Failure(str(error)) from error
    return [(each.host, each.port) for each in found]


def _found(where: Connection) -> tuple[str, int]:
    """The xDS address of the connected server: as recorded in the data directory, else the default."""
    recorded = read_listen_addresses(Path(os.environ.get("SIGNALBOX_DATA") or Settings().data))
    try:
        if (
            "xds" in recorded
            and "http" in recorded
            and _same(where.url, address(recorded["http"], "--http").reached)
        ):
            here = address(recorded["xds"], "--xds").reached
            return here.host, here.port
    except SettingsError:
        pass  # the recorded text is no address
    host, port = urlsplit(where.url).hostname or "127.0.0.1", Settings().xds.port
    note(f"the node fetches its configuration from {host}:{port}; if xDS listens elsewhere, give --xds")
    return host, port


def _same(url: str, http: Address) -> bool:
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return (host, parts.port or {"http": 80, "https": 443}[parts.scheme]) == (http.host, http.port)


def _trust(ca: str | None, names: Sequence[str], hosts: Sequence[str]) -> "Trust | None":
    """How nodes verify the xDS servers on `hosts`; None for plaintext. Raises Failure."""
    from signalbox.discovery.tls import is_loopback
    from xds.bootstrap import Trust

    file = os.environ.get("SIGNALBOX_XDS_CA", "") if ca is None else ca
    if file:
        if any(not name.strip() for name in names):
            raise Failure("--server-name is empty", "leave it out to ask for the hosts of --xds", USAGE)
        return Trust(file, tuple(names or dict.fromkeys(hosts)))
    if ca is not None:
        raise Failure("--ca is empty", "name the file with the CA of the xDS servers", USAGE)
    if names:
        raise Failure("--server-name needs --ca", "without --ca the nodes connect in plaintext", USAGE)
    if far := [host for host in hosts if not is_loopback(host)]:
        note(f"without --ca the nodes send their token to {', '.join(far)} in plaintext")
    return None


def _write(file: Path, text: str) -> None:
    from streams.whole_file import write_whole

    try:
        write_whole(file, text.encode())
    except OSError as error:
        raise Failure(f"cannot write {file}: {error.strerror or error}") from error
