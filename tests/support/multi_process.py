"""A Signalbox on a real Kafka and PostgreSQL, one process per role, for measurements and fault injection."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from signalbox.devservers.kafka.server import DevKafka
from signalbox.devservers.postgres.server import DevPostgres
from signalbox.roles import ROLES
from signalbox.settings import kafka_environment
from streams.kafka.settings import KafkaSettings
from tests.support.calls import until
from tests.support.connection import HANG_SECONDS, Connection
from tests.support.free_ports import free_port
from tests.support.running_signalbox import ROOT, RunningSignalbox, upstream


@dataclass
class RoleProcess:
    """One process of some roles; `name` is its own, and its directory's."""

    name: str
    argv: Sequence[str]
    health: int
    log_file: Path
    running: subprocess.Popen[bytes] | None = None
    source: Path = ROOT

    def begin(self, environment: Mapping[str, str]) -> None:
        with self.log_file.open("ab") as log:
            self.running = subprocess.Popen(
                self.argv, stdout=log, stderr=log, env=environment, cwd=self.source
            )

    def until_ready(self, seconds: float = HANG_SECONDS) -> None:
        until(self.ready, f"{self.name} ready", seconds, 0.02)

    def began_until_ready(self) -> float:
        """Waits until a process that was just started is ready; returns the seconds."""
        began = time.perf_counter()
        self.until_ready()
        return time.perf_counter() - began

    def ready(self) -> bool:
        if self.running is None or self.running.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {self.log_file.read_text()[-3000:]}")
        with contextlib.suppress(OSError):
            connection = Connection(self.health, 5.0)
            try:
                return connection.ask("GET", "/healthz/ready")[0] == 200
            finally:
                connection.close()
        return False

    def deliver(self, how: signal.Signals) -> None:
        if self.running is not None and self.running.poll() is None:
            self.running.send_signal(how)

    def end(self, how: signal.Signals = signal.SIGTERM, seconds: float = HANG_SECONDS) -> int:
        """Ends the process; returns its exit code."""
        if self.running is None:
            return 0
        self.deliver(signal.SIGCONT)
        self.deliver(how)
        code = self.running.wait(seconds)
        self.running = None
        return code

    @property
    def memory(self) -> float:
        """Resident MB."""
        assert self.running is not None
        status = Path(f"/proc/{self.running.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far."""
        assert self.running is not None
        return cpu_seconds(self.running.pid)


@dataclass
class MultiProcessSignalbox(RunningSignalbox):
    """`up` starts what is not running. Processes are `processes[name]`; a role's first has its name."""

    partitions: int = 1
    session_timeout_ms: int = 10_000
    kafka: DevKafka = field(init=False)
    postgres: DevPostgres = field(init=False)
    processes: dict[str, RoleProcess] = field(default_factory=dict[str, RoleProcess])
    environment: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        super().__post_init__()
        self.kafka = DevKafka(self.data / "kafka", settings={"group.min.session.timeout.ms": "1000"})
        self.postgres = DevPostgres(self.data / "postgres")

    def begin(self, *options: str) -> None:
        """Starts the servers, and every role that is not running."""
        self.serve()
        for role in ROLES:
            if role not in self.processes or self.processes[role].running is None:
                self.start(role)

    def serve(self) -> None:
        """Starts Kafka and PostgreSQL."""
        self.kafka.start()
        self.environment = {
            **os.environ,
            **kafka_environment(self.kafka_settings),
            "SIGNALBOX_POSTGRES": self.postgres.start(),
            "SIGNALBOX_LOGS": "json",
        }

    @property
    def kafka_settings(self) -> KafkaSettings:
        """The settings of a client of the broker, once `serve` has started it."""
        access, timeout = self.kafka.access, self.session_timeout_ms
        return replace(access, partitions=self.partitions, session_timeout_ms=timeout)

    def start(self, role: str, name: str = "") -> RoleProcess:
        """Starts a process of `role` without waiting for it; again when it ran before."""
        name = name or role
        if name not in self.processes:
            self.processes[name] = self._new(role, name)
        self.processes[name].begin(self.environment)
        return self.processes[name]

    def _new(self, role: str, name: str) -> RoleProcess:
        health = self.http if name == "api" else free_port()
        options = {
            "api": ("--http", f"127.0.0.1:{health}", "--first-start"),
            "xds": ("--xds", f"127.0.0.1:{self.xds if name == 'xds' else free_port()}"),
            "envoy": ("--xds", f"127.0.0.1:{self.xds}"),
        }.get(role, ())
        argv = [
            *(sys.executable, "-m", "signalbox", "run", role),
            *("--data", str(self.data / name), "--secrets", str(self.data / "secrets")),
            *("--gateway", f"127.0.0.1:{self.gateway}"),
            *options,
            *(() if role == "api" else ("--health", f"127.0.0.1:{health}")),
        ]
        return RoleProcess(name, argv, health, self.data / f"{name}.log")

    def until_ready(self, seconds: float = HANG_SECONDS) -> None:
        for process in self.processes.values():
            if process.running is not None:
                process.until_ready(seconds)

    def errors(self) -> str:
        self.log_file = self.processes["api"].log_file
        return super().errors()

    @property
    def token(self) -> str:
        return (self.data / "secrets" / "admin.token").read_text().strip()

    @property
    def envoy_directory(self) -> Path:
        return self.data / "envoy" / "envoy"

    def down(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ends the roles, in the reverse order; returns the highest exit code."""
        return max((p.end(how) for p in reversed(list(self.processes.values()))), default=0)

    def renew_proxies(self) -> None:
        self.processes["envoy"].end()
        self.processes["xds"].end(signal.SIGKILL)
        self.begin()
        self.until_ready()

    def raze(self) -> None:
        super().raze()
        self.postgres.stop()
        self.kafka.kill()


def cpu_seconds(pid: int) -> float:
    """Processor time a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def multi_process_signalbox(
    partitions: int = 1, session_timeout_ms: int = 10_000
) -> Iterator[tuple[MultiProcessSignalbox, str]]:
    """A Signalbox of many processes that is not yet up, and the URL of an upstream; all gone afterwards."""
    work = Path(tempfile.mkdtemp(prefix="signalbox-test-"))
    made = MultiProcessSignalbox(work / "data", partitions=partitions, session_timeout_ms=session_timeout_ms)
    with upstream() as url:
        try:
            yield made, url
        finally:
            made.raze()
            shutil.rmtree(work, ignore_errors=True)


def main() -> None:
    """Tries it out: `python -m tests.support.multi_process`."""
    with multi_process_signalbox() as (harness, url):
        began = time.perf_counter()
        print(f"up in {harness.up():.1f} s")
        harness.load(["orders"], url)
        harness.answered("/orders/items")
        print(f"answered after {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
