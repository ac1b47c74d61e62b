"""`kill -9` and a start until the first new change is answered, memory, and whole processes of the command
line."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from bench.change import until_answered
from bench.figure import Figure, median
from tests.support.hang_guard import HANG_SECONDS
from tests.support.running_signalbox import (
    ROOT,
    RunningSignalbox,
    definition,
    resident,
    running_signalbox,
)

ROUNDS = 5

_MEASURED = """
import sys
from signalbox.cli import main
code = main(sys.argv[1:])
import time
with open("/proc/self/status") as status:
    print(status.read().split("VmHWM:")[1].split()[0], time.process_time(), file=sys.stderr)
sys.exit(code)
"""
"""A process of the command line; the last line of its errors is the most resident KB and the seconds of CPU.
The memory that the system counts for an ended process includes the one that started it."""

SECONDS = {1_000: 1.0, 10_000: 1.5}
SERVER_MB = {100: 95, 1_000: 105, 10_000: 200}
ENVOY_MB = {10_000: 350}
"""Targets by number of APIs."""


def run(sizes: tuple[int, ...] = (100, 1_000, 10_000)) -> list[Figure]:
    with running_signalbox() as (made, upstream):
        made.up()
        figures = command_line(made, upstream)
        live = 0
        for size in sizes:
            made.load([f"api-{i}" for i in range(live, size)], upstream)
            live = size
            made.until_quiet()
            at = f"{size:,} APIs"
            figures += [
                Figure(f"memory of the server after loading, {at}", made.memory(), "MB"),
                Figure(f"memory of Envoy, {at}", resident(made.envoy()), "MB", ENVOY_MB.get(size)),
            ]
            rounds = [killed_and_changed(made, upstream, f"api-{size // 2}") for _ in range(ROUNDS)]
            ready, answered = (median(times) for times in zip(*rounds, strict=True))
            figures += [
                Figure(f"kill -9, start, ready, {at}", ready, "s"),
                Figure(f"kill -9, start, first new change answered, {at}", answered, "s", SECONDS.get(size)),
                Figure(f"memory of the server after a start, {at}", made.memory(), "MB", SERVER_MB.get(size)),
            ]
        return figures


def killed_and_changed(
    made: RunningSignalbox, upstream: str, name: str, most: float = HANG_SECONDS
) -> tuple[float, float]:
    """Seconds from a start until it is ready, and until the first new revision after it is answered.

    The revision is sent again and again until it is accepted; `most`: the longest wait of each step, in
    seconds.
    """
    made.down(signal.SIGKILL)
    content = definition(name, upstream, f"started at {time.time()}")
    change = {"documents": [{"source": name, "content": content}], "deploy": {"gateway": "local"}}
    began = time.perf_counter()
    made.begin()
    answer = _until_accepted(lambda: made.ask("POST", "/apply", change), most)
    listener = made.listener()
    until_answered(listener, f"/{name}/items", f"{name}@{answer['items'][0]['revision']}", most)
    answered = time.perf_counter() - began
    listener.close()
    made.until_ready(most)
    ready = time.perf_counter() - began
    made.until_quiet(most)
    return ready, answered


def _until_accepted(
    send: Callable[[], dict[str, list[dict[str, int]]]], most: float
) -> dict[str, list[dict[str, int]]]:
    end = time.monotonic() + most
    while True:
        try:
            return send()
        except (OSError, RuntimeError):  # it does not listen yet, or is not ready
            if time.monotonic() > end:
                raise
            time.sleep(0.005)


def command_line(made: RunningSignalbox, upstream: str) -> list[Figure]:
    file = made.data.parent / "orders.yaml"
    file.write_text(definition("orders", upstream))
    verbs = (("version",), ("get", "apis"), ("apply", "-f", str(file)))
    figures: list[Figure] = []
    for verb in verbs:
        seconds, cpu, memory = zip(*(process(made, verb) for _ in range(ROUNDS)), strict=True)
        what = f"process of `signalbox {verb[0]}`" + (" of one file" if verb[0] == "apply" else "")
        figures += [
            Figure(f"{what}: time", median(seconds), "s", 0.25),
            Figure(f"{what}: CPU", median(cpu), "s"),
            Figure(f"{what}: memory", max(memory), "MB", 60),
        ]
    return figures


def process(made: RunningSignalbox, arguments: Sequence[str]) -> tuple[float, float, float]:
    """Seconds, those of CPU, and the most resident MB of a process of the command line."""
    environment = {
        **os.environ,
        "SIGNALBOX_URL": f"http://127.0.0.1:{made.http}",
        "SIGNALBOX_TOKEN": made.token,
    }
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *arguments],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - began
    memory, cpu = done.stderr.split()[-2:]
    return seconds, float(cpu), int(memory) / 1024
