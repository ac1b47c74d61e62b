"""Loading APIs: one by one until all answer; `signalbox apply` of a folder until all are acknowledged; then a
restart with all of them."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson

from bench.change import until_answered
from bench.figure import Figure
from tests.support.connection import Answer, Connection
from tests.support.running_signalbox import ORGANIZATION, RunningSignalbox, definition, running_signalbox

CALLERS = 8


def run(count: int = 10_000, one_by_one: int = 1_000) -> list[Figure]:
    with running_signalbox() as (made, upstream):
        made.up()
        seconds = load(made, upstream, one_by_one)
    name = f"load of {one_by_one:,} APIs, PUT and deployment each, {CALLERS} connections, until all answer"
    return [Figure(name, seconds, "s", 3), *_folder(count)]


def _folder(count: int) -> list[Figure]:
    with running_signalbox() as (made, upstream):
        made.up()
        seconds = apply(made, definitions(made, upstream, count))
        peak = made.memory()
        figures = [
            Figure(f"apply of {count:,} definitions until all are acknowledged", seconds, "s", 12),
            Figure(f"memory of the process after that, {count:,} APIs", peak, "MB", 400),
        ]
        return [*figures, *restart(made, count)]


def definitions(made: RunningSignalbox, upstream: str, count: int) -> Path:
    """A folder with a file per API: `api-0`, `api-1` and so on."""
    folder = made.data.parent / "apis"
    folder.mkdir()
    for i in range(count):
        (folder / f"api-{i:05d}.yaml").write_text(definition(f"api-{i}", upstream))
    return folder


def apply(made: RunningSignalbox, folder: Path) -> float:
    token = (made.data / "admin.token").read_text().strip()
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "signalbox", "apply", "-f", str(folder), "--deploy", "--to", "local"],
        env={"SIGNALBOX_URL": f"http://127.0.0.1:{made.http}", "SIGNALBOX_TOKEN": token, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"apply: {done.stdout[-1500:]} {done.stderr[-1500:]}")
    return seconds


def load(made: RunningSignalbox, upstream: str, count: int) -> float:
    headers = {"authorization": f"Bearer {made.token}"}

    def call(caller: int) -> None:
        connection = made.connection()
        for i in range(caller, count, CALLERS):
            name = f"api-{i}"
            content = definition(name, upstream).encode()
            yaml, json = ({**headers, "content_type": f"application/{kind}"} for kind in ("yaml", "json"))
            path = f"{ORGANIZATION}/apis/{name}"
            require(201, connection.ask("PUT", path, content, prefer="wait=30", **yaml))
            body = orjson.dumps({"api": name, "gateway": "local"})
            require(202, connection.ask("POST", f"{ORGANIZATION}/deployments", body, **json))
        connection.close()

    began = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as callers:
        list(callers.map(call, range(CALLERS)))
    listener = until_listening(made)
    for i in range(count):
        until_answered(listener, f"/api-{i}/items", f"api-{i}@1")
    seconds = time.perf_counter() - began
    listener.close()
    return seconds


def require(status: int, answer: Answer) -> None:
    if answer[0] != status:
        raise RuntimeError(f"{answer[0]} {answer[2][:300]!r}")


def restart(made: RunningSignalbox, count: int) -> list[Figure]:
    """Stops everything, Envoy too, and starts again until the last API answers."""
    made.down()
    began = time.perf_counter()
    ready = made.up()
    connected = time.perf_counter()
    listener = until_listening(made)
    for i in (0, count // 2, count - 1):
        until_answered(listener, f"/api-{i}/items", f"api-{i}@1")
    in_sync = time.perf_counter() - began
    listener.close()
    return [
        Figure(f"restart with {count:,} APIs until ready", ready, "s"),
        Figure(f"restart with {count:,} APIs until Envoy, started anew, serves them", in_sync, "s", 3),
        Figure("of that after being ready", time.perf_counter() - connected, "s"),
        Figure(f"memory of the process after a restart with {count:,} APIs", made.memory(), "MB", 250),
    ]


def until_listening(made: RunningSignalbox, seconds: float = 60.0) -> Connection:
    end = time.monotonic() + seconds
    while True:
        try:
            return made.listener()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.005)
