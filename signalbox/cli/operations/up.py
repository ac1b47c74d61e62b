"""`signalbox up`."""

import click

from signalbox.cli.failure import USAGE, Failure


@click.command()
@click.option("--data", metavar="DIR", help="The data directory. [default: ./.signalbox]")
@click.option("--http", metavar="HOST:PORT", help="The HTTP API. [default: 127.0.0.1:8080]")
@click.option("--xds", metavar="HOST:PORT", help="The listen address of xDS. [default: 127.0.0.1:18000]")
@click.option("--gateway", metavar="HOST:PORT", help="The gateway 'local'. [default: 127.0.0.1:8000]")
@click.option("--engine", type=click.Choice(["embedded", "kafka"]), help="The log. [default: embedded]")
@click.option("--no-envoy", is_flag=True, help="Start no Envoy; connect your own to the xDS address.")
@click.option("--no-sample", is_flag=True, help="Start empty, without the sample API.")
def up(
    data: str | None,
    http: str | None,
    xds: str | None,
    gateway: str | None,
    engine: str | None,
    no_envoy: bool,
    no_sample: bool,
) -> int:
    """Start Signalbox in this process, and an Envoy beside it.

    Stop it with Ctrl-C. Accepted commands are on disk; the next start continues from there.
    """
    from signalbox.settings import SettingsError, from_environment

    try:
        settings = from_environment(
            data=data,
            http=http,
            xds=xds,
            gateway=gateway,
            engine=engine,
            envoy=not no_envoy,
            sample=not no_sample,
        )
    except SettingsError as error:
        raise Failure(str(error), code=USAGE) from error
    from signalbox.up import run_up

    return run_up(settings)
