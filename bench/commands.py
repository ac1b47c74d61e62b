"""Commands decided and durable: in process with 64 callers, and over HTTP with `Prefer: wait`."""

import asyncio
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson

from bench.figure import Figure
from schemas.aggregates.organization import DefineOrganization
from schemas.aggregates.project import DefineProject
from schemas.envelope import Envelope
from schemas.envelopes import envelope_for
from streams.decider.decider import Decider
from streams.sqlite.log import SqliteLog
from streams.submission.command_port import CommandPort
from tests.support.running_signalbox import ORGANIZATION, RunningSignalbox, running_signalbox

CALLERS = 64


def run(count: int = 20_000, over_http: int = 6_000) -> list[Figure]:
    figures = [
        Figure(
            f"commands decided and durable, {CALLERS} callers, in process",
            asyncio.run(in_process(count)),
            "/s",
            8_000,
            most=False,
        )
    ]
    with running_signalbox() as (made, _):
        made.up("--no-envoy")
        rate = http(made, over_http)
    name = f"commands decided over HTTP with Prefer: wait, {CALLERS} callers"
    return [*figures, Figure(name, rate, "/s", 1_500, most=False)]


def _command(command: DefineOrganization | DefineProject) -> Envelope:
    return envelope_for(command, source="/bench", subject=f"organizations/{command.organization}")


async def in_process(count: int) -> float:
    """Commands per second."""
    with tempfile.TemporaryDirectory(prefix="signalbox-bench-") as work:
        log = await SqliteLog.open(Path(work))
        commands = CommandPort(log)
        decider = Decider(log, 0, "/bench", lambda done, _: commands.decided(o for _, o in done))
        decider.source_of_commands = log.command_source
        await decider.start()
        running = asyncio.create_task(decider.run())
        await commands.execute([_command(DefineOrganization(organization="acme", name="acme"))], 10)

        async def call(caller: int) -> None:
            for i in range(count // CALLERS):
                command = DefineProject(organization="acme", name=f"p-{caller}-{i}")
                ((_, outcome),) = (await commands.execute([_command(command)], 30)).items()
                assert outcome.accepted, outcome

        began = time.perf_counter()
        await asyncio.gather(*(call(caller) for caller in range(CALLERS)))
        seconds = time.perf_counter() - began
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await log.close()
        return count // CALLERS * CALLERS / seconds


def http(made: RunningSignalbox, count: int) -> float:
    """Commands per second."""

    def call(caller: int) -> None:
        connection = made.connection()
        for i in range(count // CALLERS):
            status, _, answer = connection.ask(
                "PUT",
                f"{ORGANIZATION}/projects/p-{caller}-{i}",
                orjson.dumps({"display_name": "Bench"}),
                prefer="wait=30",
                **made_headers,
            )
            if status != 201:
                raise RuntimeError(f"{status} {answer[:300]!r}")
        connection.close()

    made_headers = made.headers
    began = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as callers:
        list(callers.map(call, range(CALLERS)))
    return count // CALLERS * CALLERS / (time.perf_counter() - began)
