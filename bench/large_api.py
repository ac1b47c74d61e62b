"""Deployment of an API of 5,000 operations: its duration, and the latency of other requests meanwhile."""

import threading
import time

from bench.change import changing
from bench.figure import Figure, median
from tests.support.connection import Connection
from tests.support.running_signalbox import RunningSignalbox, running_signalbox

OPERATIONS = 5_000
ROUNDS = 5


def definition(name: str, upstream: str, operations: int, display_name: str) -> str:
    """An API whose operations are spread over paths with and without parameters."""
    lines = [
        "apiVersion: signalbox.io/v1",
        "kind: API",
        f"metadata: {{name: {name}}}",
        "spec:",
        f"  displayName: {display_name}",
        "  version: v1",
        f"  context: /{name}",
        f"  upstream: {{url: {upstream}}}",
        "  operations:",
        "    - {method: GET, path: /items}",
    ]
    for n in range(1, operations):
        method, path = ("GET", "POST", "DELETE")[n % 3], f"/r{n // 6}" + ("/{id}" if n % 6 > 2 else "")
        lines.append(f'    - {{method: {method}, path: "{path}"}}')
    return "\n".join(lines) + "\n"


class HealthChecks:
    """Requests `/healthz/live` every few milliseconds and records the longest response time."""

    def __init__(self, port: int) -> None:
        self.longest = 0.0
        self._connection = Connection(port, 60.0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "HealthChecks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()

    def _ask(self) -> None:
        while not self._ended.wait(0.002):
            began = time.perf_counter()
            status, _, _ = self._connection.ask("GET", "/healthz/live")
            if status != 200:
                raise RuntimeError(f"/healthz/live answers {status}")
            self.longest = max(self.longest, time.perf_counter() - began)


def _published(made: RunningSignalbox, upstream: str, number: int) -> int:
    content = definition("large", upstream, OPERATIONS, f"large {number}")
    answer = made.ask(
        "POST", "/apply", {"documents": [{"source": "large", "content": content}], "deploy": None}
    )
    return int(answer["items"][0]["revision"])


def run() -> list[Figure]:
    with running_signalbox() as (made, upstream):
        made.up()
        with HealthChecks(made.http) as publishing:
            revisions = [_published(made, upstream, number) for number in (1, 2)]
        made.until_quiet()
        with changing(made) as client, HealthChecks(made.http) as deploying:
            times = [client.deploy("large", revisions[i % 2])[0] / 1000 for i in range(ROUNDS)]
    label = f"an API of {OPERATIONS:,} operations"
    return [
        Figure(f"{label}: deployment sent → answered, p50", median(times), "s", 1),
        Figure(
            f"{label}: longest answer of /healthz/live while it is deployed",
            deploying.longest * 1000,
            "ms",
            50,
        ),
        Figure(
            f"{label}: longest answer of /healthz/live while it is published", publishing.longest * 1000, "ms"
        ),
    ]
