"""The base of servers with a directory: one at a time, started, ready, ended."""

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from signalbox.devservers.bound_process import CURRENT_USER, BoundProcess, DirectoryLock, User
from signalbox.devservers.errors import AlreadyRunning, StartFailed
from streams.whole_file import write_whole

PREDECESSOR_ENDS_WITHIN = 2.0
"""Seconds that a start waits for the directory's lock: a killed server holds it for a moment."""

READY_WITHIN = 90.0
LONGEST_LOG = 4_000_000
"""Bytes up to which the next start appends to the log; a longer one is renamed to `.old`."""

READ_BACK = 16_384
LONGEST_REASON = 600
LINES = 4


@dataclass(frozen=True, slots=True)
class Launch:
    """A command to run. `address` is the address for clients."""

    argv: tuple[str, ...]
    address: str
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    user: User = CURRENT_USER


class DevServer(ABC):
    """A server with its data in `directory`. Every method blocks: from asyncio use `asyncio.to_thread`.

    The server ends with this process, even after a crash. Not for concurrent use by threads.
    """

    name: str
    variable: str
    """The environment variable for the address of another server."""

    when_orphaned = signal.SIGKILL
    graceful = signal.SIGTERM
    stops_within = 30.0
    """Seconds until a stop becomes a kill."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.log = self.directory / f"{self.name.lower()}.log"
        self._child: BoundProcess | None = None
        self._address = ""
        self._lock = DirectoryLock(self.directory / "lock")

    def start(self) -> str:
        """Starts it, unless it runs, and returns its address once a client can work with it.

        Raises Unavailable, AlreadyRunning, StartFailed, PortUnusable, OSError.
        """
        if self.running:
            return self._address
        for folder in (self.directory.parent, self.directory):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        address_file = self.directory / "address"
        if not self._lock.take(PREDECESSOR_ENDS_WITHIN):
            raise AlreadyRunning(self.name, self.directory, _read(address_file), self.variable)
        try:
            address_file.unlink(missing_ok=True)
            launch = self._prepare()
            self._child = BoundProcess(
                launch.argv,
                log=_rotated(self.log),
                when_orphaned=self.when_orphaned,
                environment=launch.environment,
                lock=self._lock,
                user=launch.user,
                directory=self.directory,
            )
        finally:
            # From now on the server itself holds the lock.
            self._lock.release()
        try:
            self._wait_ready(self._child, launch)
        except BaseException:
            self.kill()
            raise
        self._address = launch.address
        write_whole(address_file, f"{launch.address}\n".encode())
        return launch.address

    def stop(self) -> None:
        """Stops it gracefully, with everything on disk. Does nothing when it does not run."""
        if self._child is not None:
            self._child.end(self.graceful, self.stops_within)
            (self.directory / "address").unlink(missing_ok=True)

    def kill(self) -> None:
        """Ends it with SIGKILL, like a crash; returns when its child processes have ended too."""
        if self._child is not None and self._child.running:
            self._child.end(signal.SIGKILL, 0)
            if self._lock.take(PREDECESSOR_ENDS_WITHIN):
                self._lock.release()

    @property
    def pid(self) -> int:
        """The id of the server's first process; 0 when it does not run."""
        return self._child.pid if self._child is not None and self._child.running else 0

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @abstractmethod
    def _prepare(self) -> Launch:
        """Prepares the directory. This process holds its lock, and processes that it starts inherit it."""

    @abstractmethod
    def _ready(self, launch: Launch) -> bool:
        """Whether a client can use it now."""

    def _wait_ready(self, child: BoundProcess, launch: Launch) -> None:
        until = time.monotonic() + READY_WITHIN
        while not self._ready(launch):
            if not child.running:
                raise StartFailed(f"{self.name} ended while it started: {self._last_words()}")
            if time.monotonic() > until:
                raise StartFailed(
                    f"{self.name} was not ready within {READY_WITHIN:g} s: {self._last_words()}"
                )
            time.sleep(0.03)

    def _last_words(self) -> str:
        """The end of its log, in one line."""
        with self.log.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - READ_BACK))
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
        words = "; ".join([line for line in lines if line][-LINES:])
        return f"{words[-LONGEST_REASON:]} (all of it in {self.log})"


def _rotated(log: Path) -> Path:
    if log.exists() and log.stat().st_size > LONGEST_LOG:
        log.replace(log.with_name(log.name + ".old"))
    return log


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""
