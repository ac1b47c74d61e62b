"""A Signalbox in a process of its own, with a real Envoy and an upstream, to be measured."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from bench.connection import Connection

ORGANIZATION = "/api/v1/organizations/default"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def definition(name: str, upstream: str, display_name: str = "") -> str:
    """An API of three operations under `/<name>`."""
    return f"""apiVersion: signalbox.io/v1
kind: API
metadata:
  name: {name}
spec:
  displayName: {display_name or name}
  version: v1
  context: /{name}
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
class House:
    """`up` returns when it is ready; `data` outlives the process so that it can be started again."""

    data: Path
    http: int = field(default_factory=free_port)
    xds: int = field(default_factory=free_port)
    gateway: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def up(self, *options: str) -> float:
        """Starts and waits until ready; answers the seconds it took."""
        began = time.perf_counter()
        log = (self.data.parent / "signalbox.log").open("ab")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "signalbox", "up", "--data", str(self.data), "--no-sample"),
                *("--http", f"127.0.0.1:{self.http}", "--xds", f"127.0.0.1:{self.xds}"),
                *("--gateway", f"127.0.0.1:{self.gateway}", *options),
            ],
            stdout=log,
            stderr=log,
            env={**os.environ, "SIGNALBOX_LOGS": "json"},
        )
        log.close()
        self.until_ready()
        return time.perf_counter() - began

    def until_ready(self, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"signalbox ended: {self.log()}")
            with contextlib.suppress(OSError):
                if self.connection().ask("GET", "/healthz/ready")[0] == 200:
                    return
            time.sleep(0.01)
        raise TimeoutError(f"not ready: {self.log()}")

    def log(self) -> str:
        return (self.data.parent / "signalbox.log").read_text()[-3000:]

    def connection(self) -> Connection:
        return Connection(self.http)

    def listener(self) -> Connection:
        return Connection(self.gateway)

    @property
    def headers(self) -> dict[str, str]:
        token = (self.data / "admin.token").read_text().strip()
        return {"authorization": f"Bearer {token}", "content_type": "application/json"}

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> dict[str, object]:
        """One request below the organization. Raises RuntimeError with what was answered."""
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
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def load(self, names: list[str], upstream: str, batch: int = 200) -> None:
        """Applies and deploys APIs of these names, and waits until all are acknowledged."""
        for start in range(0, len(names), batch):
            documents = [
                {"source": f"{n}.yaml", "content": definition(n, upstream)}
                for n in names[start : start + batch]
            ]
            answer = self.ask("POST", "/apply", {"documents": documents, "deploy": {"gateway": "local"}})
            items = answer["items"]
            assert isinstance(items, list)
            wanted = [item["deployment"] for item in items]  # pyright: ignore[reportUnknownVariableType]
            self.until_acknowledged(wanted)  # pyright: ignore[reportUnknownArgumentType]

    def until_acknowledged(self, deployments: list[str], seconds: float = 60.0) -> None:
        answer = self.ask("POST", "/deployments/facts", {"names": deployments, "wait": seconds})
        late = [n for n in deployments if answer[n]["state"] not in ("acknowledged", "serving")]  # type: ignore[index]
        if late:
            raise RuntimeError(f"{len(late)} deployments are not acknowledged: {answer[late[0]]}")

    def down(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(30)


@contextlib.contextmanager
def house() -> Iterator[tuple[House, str]]:
    """A Signalbox that is not yet up, and the URL of an upstream; all gone afterwards."""
    work = Path(tempfile.mkdtemp(prefix="signalbox-bench-"))
    upstream = subprocess.Popen([sys.executable, "-m", "bench.upstream", "0"], stdout=subprocess.PIPE)
    assert upstream.stdout is not None
    port = int(upstream.stdout.readline())
    made = House(work / "data")
    try:
        yield made, f"http://127.0.0.1:{port}"
    finally:
        made.down()
        upstream.terminate()
        upstream.wait()
        upstream.stdout.close()
        shutil.rmtree(work, ignore_errors=True)
