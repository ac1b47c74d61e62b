"""A Signalbox in a process of its own, with a real Envoy and an upstream, for measurements."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from signalbox.envoy.admin import admin_socket
from signalbox.machine.processes import process
from tests.support.calls import LONGEST_WAIT, ORGANIZATION, Calls, until
from tests.support.connection import HANG_SECONDS, Connection
from tests.support.free_ports import free_port

ROOT = Path(__file__).parents[2]

GATEWAY_SECONDS = 30.0
"""The time limit of a request to the gateway; a busy machine may answer late."""

LAG = b"signalbox_projection_lag_events{"


@dataclass(frozen=True)
class Layout:
    """Where APIs are: `{}` stands for the name of each."""

    context: str = "/{}"
    host: str = "*"


SPREAD = Layout()
"""Each below a first path segment of its own."""
BELOW_ONE_SEGMENT = Layout("/api/{}")
OWN_HOSTS = Layout("/shop", "{}.example.com")
"""All with the same context."""


def definition(name: str, upstream: str, display_name: str = "", layout: Layout = SPREAD) -> str:
    """An API of three operations."""
    return f"""apiVersion: signalbox.io/v1
kind: API
metadata:
  name: {name}
spec:
  displayName: {display_name or name}
  version: v1
  context: {layout.context.format(name)}
  hosts: ["{layout.host.format(name)}"]
  upstream:
    url: {upstream}
  operations:
    - method: GET
      path: /items
    - method: POST
      path: /items
    - method: GET
      path: /items/{{id}}
"""


@dataclass
class RunningSignalbox:
    """`up` returns when it is ready; `data` outlives the process so that it can be started again."""

    data: Path
    http: int = field(default_factory=free_port)
    xds: int = field(default_factory=free_port)
    gateway: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    log_file: Path = field(default=Path())

    def __post_init__(self) -> None:
        if self.log_file == Path():
            self.log_file = self.data.parent / "signalbox.log"

    def up(self, *options: str) -> float:
        """Starts and waits until ready; returns the seconds it took."""
        began = time.perf_counter()
        self.begin(*options)
        self.until_ready()
        return time.perf_counter() - began

    def begin(self, *options: str) -> None:
        """Starts the process without waiting for it."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.argv(), *options],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.extra_environment()},
                cwd=ROOT,
            )

    def extra_environment(self) -> dict[str, str]:
        """Variables beside those of this process. JSON logs leave out the greeting."""
        return {"SIGNALBOX_LOGS": "json"}

    def argv(self) -> list[str]:
        return [
            *(sys.executable, "-m", "signalbox", "up", "--data", str(self.data), "--no-sample"),
            *("--http", f"127.0.0.1:{self.http}", "--xds", f"127.0.0.1:{self.xds}"),
            *("--gateway", f"127.0.0.1:{self.gateway}"),
        ]

    def until_ready(self, seconds: float = HANG_SECONDS) -> None:
        def ready() -> bool:
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"signalbox ended: {self.log()}")
            with contextlib.suppress(OSError):
                return self.connection().ask("GET", "/healthz/ready")[0] == 200
            return False

        until(ready, "ready", seconds, 0.01)

    def log(self) -> str:
        return self.log_file.read_text()[-3000:]

    def errors(self) -> str:
        """The newest errors in the log."""
        lines = self.log_file.read_text().splitlines()
        return "\n".join([line for line in lines if '"level":"error"' in line][-3:])

    def calls(self) -> Calls:
        """A caller with the administrator's token."""
        return Calls(self.http, self.token)

    @property
    def token(self) -> str:
        return (self.data / "admin.token").read_text().strip()

    @property
    def envoy_directory(self) -> Path:
        return self.data / "envoy"

    def envoy(self) -> int:
        """The process id in Envoy's pid file; 0 when there is none."""
        try:
            return int(orjson.loads((self.envoy_directory / "envoy.pid").read_bytes())["pid"])
        except FileNotFoundError:
            return 0

    def envoy_stats(self, pattern: str) -> dict[str, int]:
        """Counters of Envoy whose names match a regular expression."""
        connection = Connection(admin_socket(self.envoy_directory))
        _, _, body = connection.ask("GET", f"/stats?filter={pattern}")
        connection.close()
        lines = (line.rpartition(": ") for line in body.decode().splitlines())
        return {name: int(value) for name, _, value in lines if value.isdigit()}

    def answered(
        self, path: str, revision: str = "", seconds: float = HANG_SECONDS, status: int = 200
    ) -> None:
        """Repeats a request until the answer has `status`, from `revision` if given. Raises TimeoutError."""
        last: list[object] = []

        def answered() -> bool:
            last[:] = self.through(path)
            return last[0] == status and (not revision or last[1] == revision)

        try:
            until(answered, "", seconds, 0.002)
        except TimeoutError as error:
            raise TimeoutError(f"{path}: {last} instead of {status} {revision} for {seconds:g} s") from error

    def through(self, path: str, **headers: str) -> tuple[int, str, bytes]:
        """Status, revision and body of one request to the gateway; status 0 without an answer."""
        try:
            connection = Connection(self.gateway, GATEWAY_SECONDS)
        except OSError:
            return 0, "", b""
        try:
            status, answer, body = connection.ask("GET", path, **headers)
        except OSError:
            return 0, "", b""
        finally:
            connection.close()
        return status, answer.get("x-signalbox-revision", ""), body

    def connection(self) -> Connection:
        return Connection(self.http)

    def listener(self) -> Connection:
        return Connection(self.gateway)

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}", "content_type": "application/json"}

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """One request below the organization. Raises RuntimeError with the answer."""
        connection = self.connection()
        content = b"" if body is None else orjson.dumps(body)
        status, _, answer = connection.ask(method, ORGANIZATION + path, content, **self.headers, **headers)
        connection.close()
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {answer[:500]!r}")
        return orjson.loads(answer) if answer else {}

    def memory(self) -> float:
        """Resident MB of the process."""
        assert self.process is not None
        return resident(self.process.pid)

    def load(self, names: list[str], upstream: str, batch: int = 200, layout: Layout = SPREAD) -> None:
        """Applies and deploys APIs of these names, and waits until all are acknowledged."""
        for start in range(0, len(names), batch):
            documents = [
                {"source": f"{n}.yaml", "content": definition(n, upstream, layout=layout)}
                for n in names[start : start + batch]
            ]
            answer = self.ask("POST", "/apply", {"documents": documents, "deploy": {"gateway": "local"}})
            self.until_acknowledged([item["deployment"] for item in answer["items"]])

    def until_quiet(self, seconds: float = HANG_SECONDS) -> None:
        """Waits until the read models have caught up, so that work left by loading is not measured."""
        connection, headers = self.connection(), self.headers
        end = time.monotonic() + seconds
        quiet = 0
        while quiet < 3:
            _, _, body = connection.ask("GET", "/metrics", **headers)
            lags = [line.rpartition(b" ")[2] for line in body.splitlines() if line.startswith(LAG)]
            quiet = quiet + 1 if lags and all(float(lag) == 0 for lag in lags) else 0
            if time.monotonic() > end:
                raise TimeoutError(f"the read models do not catch up: {lags}")
            time.sleep(1.0)
        connection.close()

    def until_acknowledged(self, deployments: list[str], seconds: float = HANG_SECONDS) -> None:
        """Waits until all are acknowledged. Raises RuntimeError with one that is not."""
        end = time.monotonic() + seconds
        while True:
            answer = self.ask("POST", "/deployments/facts", {"names": deployments, "wait": LONGEST_WAIT})
            late = [n for n in deployments if answer[n]["state"] not in ("acknowledged", "serving")]
            if not late:
                return
            if time.monotonic() > end or answer[late[0]]["state"] in ("refused", "stopped"):
                raise RuntimeError(f"{len(late)} deployments are not acknowledged: {answer[late[0]]}")

    def down(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Ends the process; returns its exit code. Envoy outlives a SIGKILL."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(HANG_SECONDS)
        self.process = None
        return code

    def renew_proxies(self) -> None:
        """Replaces Envoy, and the xDS server with its memory, by new ones without state."""
        self.down(signal.SIGKILL)
        self._end_envoy()
        self.up()

    def raze(self) -> None:
        """Ends the process, and an Envoy that outlived it."""
        self.down()
        self._end_envoy()

    def _end_envoy(self) -> None:
        found = process(self.envoy())
        if found and any(str(self.envoy_directory.resolve()) in word for word in found.argv):
            os.kill(found.pid, signal.SIGKILL)


def resident(pid: int) -> float:
    """Resident MB of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextlib.contextmanager
def upstream() -> Iterator[str]:
    """The URL of a service that answers everything."""
    serving = subprocess.Popen(
        [sys.executable, "-m", "tests.support.upstream", "0"], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert serving.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(serving.stdout.readline())}"
    finally:
        serving.terminate()
        serving.wait()
        serving.stdout.close()


@contextlib.contextmanager
def running_signalbox() -> Iterator[tuple[RunningSignalbox, str]]:
    """A Signalbox that is not yet up, and the URL of an upstream; all gone afterwards."""
    work = Path(tempfile.mkdtemp(prefix="signalbox-test-"))
    made = RunningSignalbox(work / "data")
    with upstream() as url:
        try:
            yield made, url
        finally:
            made.raze()
            shutil.rmtree(work, ignore_errors=True)
