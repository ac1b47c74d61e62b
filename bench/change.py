"""Latency of a change: from the HTTP command to the first request that the new revision answers.

The commands are sent, and the gateway is asked, by a process of its own: `bench/clients/change.py`.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson

from bench.figure import Figure, median, percentile
from tests.support.connection import HANG_SECONDS, Connection
from tests.support.running_signalbox import (
    BELOW_ONE_SEGMENT,
    ORGANIZATION,
    OWN_HOSTS,
    SPREAD,
    Layout,
    RunningSignalbox,
    definition,
    running_signalbox,
)

ROUNDS = 200
CROWDED = ((BELOW_ONE_SEGMENT, "below one segment", (2_000, 10_000)), (OWN_HOSTS, "on own hosts", (10_000,)))
"""Where APIs are that share a unit, and how many."""


def publish(
    made: RunningSignalbox, name: str, upstream: str, display_name: str, layout: Layout = SPREAD
) -> int:
    """Publishes a new revision of an API; returns its number."""
    documents = [{"source": name, "content": definition(name, upstream, display_name, layout)}]
    answer = made.ask("POST", "/apply", {"documents": documents, "deploy": None})
    return int(answer["items"][0]["revision"])


Command = tuple[str, str, Mapping[str, str], str]
"""Method, path below the organization, header fields and body."""


class Changing:
    """Changes that a client in a process of its own measures. Times in milliseconds."""

    def __init__(self, client: "subprocess.Popen[bytes]", token: str, layout: Layout = SPREAD) -> None:
        self._client = client
        self._token = token
        self._layout = layout

    def deploy(self, name: str, revision: int) -> tuple[float, float]:
        """The times from the request, and from its acceptance, to the first answer of `revision`."""
        accepted, answered = self.change(name, revision, [deployment(name, revision)])
        return answered, answered - accepted

    def change(self, name: str, revision: int, commands: Sequence[Command]) -> tuple[float, float]:
        """The times from the first command's start to the answer to the last, and to that of `revision`."""
        host = self._layout.host.format(name)
        change = {
            "commands": [
                (method, ORGANIZATION + path, {"authorization": f"Bearer {self._token}", **fields}, body)
                for method, path, fields, body in commands
            ],
            "path": f"{self._layout.context.format(name)}/items",
            "host": "localhost" if host == "*" else host,
            "expected": f"{name}@{revision}",
        }
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        self._client.stdin.write(orjson.dumps(change) + b"\n")
        self._client.stdin.flush()
        accepted, answered = orjson.loads(self._client.stdout.readline())
        return accepted, answered


def deployment(name: str, revision: int, **fields: str) -> Command:
    body = orjson.dumps({"api": name, "revision": revision, "gateway": "local"}).decode()
    return "POST", "/deployments", {"content-type": "application/json", **fields}, body


@contextmanager
def changing(made: RunningSignalbox, layout: Layout = SPREAD) -> Iterator[Changing]:
    program = Path(__file__).parent / "clients" / "change.py"
    with subprocess.Popen(
        [sys.executable, "-I", str(program), str(made.http), str(made.gateway)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as client:
        yield Changing(client, made.token, layout)


def until_answered(
    listener: Connection, path: str, revision: str, seconds: float = HANG_SECONDS, host: str = "localhost"
) -> None:
    """Sends requests until `revision` answers."""
    request = f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status, headers, _ = listener.exchange(request)
        if status == 200 and headers.get("x-signalbox-revision") == revision:
            return
        time.sleep(0.0002)
    raise TimeoutError(f"{path} is not answered by {revision}")


def existing(
    made: RunningSignalbox, upstream: str, name: str, rounds: int, layout: Layout = SPREAD
) -> list[tuple[float, float]]:
    """Changes one API back and forth between two revisions."""
    revisions = [publish(made, name, upstream, f"{name} {number}", layout) for number in (1, 2)]
    with changing(made, layout) as client:
        return [client.deploy(name, revisions[i % 2]) for i in range(rounds + 4)][4:]


def fresh(
    made: RunningSignalbox, upstream: str, rounds: int, layout: Layout = SPREAD, name: str = "fresh"
) -> list[tuple[float, float]]:
    """Deploys APIs that are new to the gateway; their names begin with `name`."""
    names = [f"{name}-{i}" for i in range(rounds)]
    revisions = {name: publish(made, name, upstream, name, layout) for name in names}
    with changing(made, layout) as client:
        return [client.deploy(name, revisions[name]) for name in names]


def crowded(layout: Layout, label: str, sizes: tuple[int, ...], spread: dict[int, float]) -> list[Figure]:
    """The same for APIs that share a unit; `spread` has the figures of those that share none, by size."""
    figures: list[Figure] = []
    with running_signalbox() as (made, upstream):
        made.up()
        live = 0
        for size in sizes:
            made.load([f"api-{i}" for i in range(live, size)], upstream, layout=layout)
            live = size
            made.until_quiet()
            times = [a for _, a in existing(made, upstream, f"api-{size // 2}", ROUNDS, layout)]
            p50, where = median(times), f"change of an API, {size:,} live {label}"
            figures.append(Figure(f"{where}: accepted → answered, p50", p50, "ms"))
            figures.append(Figure(f"{where}: accepted → answered, p99", percentile(times, 0.99), "ms"))
            if size in spread:
                times_spread = p50 / spread[size]
                figures.append(Figure(f"{where}: p50 beside APIs that are spread", times_spread, "×", 1.5))
            new = median([a for _, a in fresh(made, upstream, 20, layout, f"fresh-{size}")])
            what = f"new API at {size:,} live {label}: accepted → answered, p50"
            figures.append(Figure(what, new, "ms", 30))
    return figures


def revised(made: RunningSignalbox, upstream: str, name: str, rounds: int) -> list[float]:
    """Publishes revisions of an API and deploys each, with two calls that wait on one connection: the
    milliseconds from the first call to the first answer."""
    published = publish(made, name, upstream, f"{name} before")
    form = {"content-type": "application/yaml", "if-match": "*", "prefer": "wait=30"}
    times: list[float] = []
    with changing(made) as client:
        for revision in range(published + 1, published + rounds + 5):
            content = definition(name, upstream, f"{name} changed {revision}")
            commands = ("PUT", f"/apis/{name}", form, content), deployment(name, revision, prefer="wait=30")
            times.append(client.change(name, revision, commands)[1])
    return times[4:]


def run(sizes: tuple[int, ...] = (100, 1_000, 2_000, 10_000)) -> list[Figure]:
    figures: list[Figure] = []
    medians: dict[int, float] = {}
    with running_signalbox() as (made, upstream):
        made.up()
        live = 0
        for size in sizes:
            made.load([f"api-{i}" for i in range(live, size)], upstream)
            live = size
            made.until_quiet()
            times = existing(made, upstream, f"api-{size // 2}", ROUNDS)
            accepted = [a for _, a in times]
            sent = [s for s, _ in times]
            medians[size] = median(accepted)
            most = size == 10_000
            p50, p99 = (10, 30) if most else (None, None)
            label = f"change of an API, {size:,} live"
            figures += [
                Figure(f"{label}: accepted → answered, p50", median(accepted), "ms", p50),
                Figure(
                    f"{label}: accepted → answered, p99",
                    percentile(accepted, 0.99),
                    "ms",
                    p99,
                ),
                Figure(
                    f"{label}: sent → answered, p50", median(sent), "ms", 5 if most else None, compared=most
                ),
                Figure(
                    f"{label}: sent → answered, p99",
                    percentile(sent, 0.99),
                    "ms",
                    15 if most else None,
                    compared=most,
                ),
            ]
            if size == 1_000:
                calls = revised(made, upstream, f"api-{size // 2 + 1}", 100)
                what = "new revision and deployment, two calls that wait, 1,000 live"
                figures.append(Figure(f"{what}: sent → answered, p50", median(calls), "ms", 10))
                figures.append(Figure(f"{what}: sent → answered, p99", percentile(calls, 0.99), "ms"))
        new = [a for _, a in fresh(made, upstream, 50)]
        figures.append(Figure(f"new API at {live:,}: accepted → answered, p50", median(new), "ms", 35))
        figures.append(Figure(f"new API at {live:,}: accepted → answered, p99", percentile(new, 0.99), "ms"))
    if 100 in medians and 1_000 in medians:
        ratio = max(medians[100], medians[1_000]) / min(medians[100], medians[1_000])
        figures.append(Figure("change at 100 and at 1,000 live: p50 apart by", ratio, "×", 1.5))
    for layout, label, numbers in CROWDED:
        figures += crowded(layout, label, numbers, medians)
    return figures
