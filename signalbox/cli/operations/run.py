"""`signalbox run`."""

import click

from signalbox.cli.failure import USAGE, Failure
from signalbox.roles import ROLES


def _roles() -> str:
    width = max(map(len, ROLES))
    return "\b\n" + "\n".join(f"  {name:{width}}  {role.summary}" for name, role in ROLES.items())


HELP = f"""Run some of Signalbox's roles in this process, on Kafka and PostgreSQL.

{_roles()}

SIGNALBOX_KAFKA (with SIGNALBOX_KAFKA_PREFIX, _PARTITIONS, _REPLICATION, _TLS, _CA, _CERTIFICATE, _KEY,
_MECHANISM, _USERNAME, _PASSWORD) names Kafka, SIGNALBOX_POSTGRES names PostgreSQL; the process waits until
both are available. SIGTERM and Ctrl-C stop it: each role finishes its current work.
"""


@click.command(help=HELP)
@click.argument("roles", metavar="ROLE...", nargs=-1, required=True, type=click.Choice(list(ROLES)))
@click.option("--data", metavar="DIR", help="The local data of this process. [default: ./.signalbox]")
@click.option("--secrets", metavar="DIR", help="Tokens and keys that processes share. [default: as --data]")
@click.option("--http", metavar="HOST:PORT", help="api: the listen address. [default: 127.0.0.1:8080]")
@click.option("--xds", metavar="HOST:PORT", help="xds: the listen address; envoy: the xDS server's address.")
@click.option("--gateway", metavar="HOST:PORT", help="envoy: the gateway 'local'. [default: 127.0.0.1:8000]")
@click.option("--health", metavar="HOST:PORT", help="/healthz and /metrics, for any role. [default: none]")
@click.option("--first-start", is_flag=True, help="api: create the default organization and gateway.")
def run(
    roles: tuple[str, ...],
    data: str | None,
    secrets: str | None,
    http: str | None,
    xds: str | None,
    gateway: str | None,
    health: str | None,
    first_start: bool,
) -> int:
    from signalbox.settings import SettingsError, from_environment, require_services

    try:
        settings = from_environment(
            engine="kafka",
            data=data,
            secrets=secrets,
            http=http,
            xds=xds,
            gateway=gateway,
            health=health,
            first_start=first_start,
        )
        require_services(settings, roles)
    except SettingsError as error:
        raise Failure(str(error), code=USAGE) from error
    from signalbox.up import run_roles

    return run_roles(settings, roles)
