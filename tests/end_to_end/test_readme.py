"""The README's first steps do what it says. Only ports and places are others than in the text."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from signalbox.machine.processes import process
from tests.support.calls import until
from tests.support.hang_guard import HANG_SECONDS
from tests.support.running_signalbox import ROOT, RunningSignalbox

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = ("make", "curl", "signalbox")


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between fences, and the paragraph before it."""

    language: str
    text: str
    before: str

    @property
    def commands(self) -> list[str]:
        lines = [line for line in self.text.splitlines() if line.strip()]
        is_shell = self.language == "sh" or (not self.language and lines[0].split()[0] in PROGRAMS)
        return lines if is_shell else []


def blocks() -> list[Block]:
    text = (ROOT / "README.md").read_text()
    found: list[Block] = []
    last = 0
    for match in FENCE.finditer(text):
        found.append(Block(match[1], match[2], text[last : match.start()].strip().rpartition("\n\n")[2]))
        last = match.end()
    return found


def commands(program: str) -> list[str]:
    return [line for block in blocks() for line in block.commands if line.split()[0] == program]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reader is: `.signalbox` will be here, and `signalbox` is this working tree's."""
    place = tmp_path_factory.mktemp("readme")
    programs = place / "bin"
    programs.mkdir()
    program = programs / "signalbox"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m signalbox "$@"\n')
    program.chmod(0o755)
    return place


@pytest.fixture(scope="module")
def up(envoy: Path, place: Path) -> Iterator[RunningSignalbox]:
    """`make up`, as the first block says, until the end of the tests."""
    if shutil.which("make") is None or shutil.which("curl") is None:
        pytest.skip("make and curl are needed")
    harness = RunningSignalbox(place / ".signalbox")
    try:
        make_up(harness)
        yield harness
    finally:
        if harness.process is not None and harness.process.poll() is None:
            os.killpg(harness.process.pid, signal.SIGINT)
            harness.process.wait(HANG_SECONDS)
        harness.raze()


def make_up(harness: RunningSignalbox) -> None:
    """Returns when it is ready."""
    begin_make_up(harness)
    harness.until_ready()


def begin_make_up(harness: RunningSignalbox) -> None:
    (make_up,) = commands("make")
    options = (
        f"--data {harness.data} --http 127.0.0.1:{harness.http} --xds 127.0.0.1:{harness.xds} "
        f"--gateway 127.0.0.1:{harness.gateway}"
    )
    with harness.log_file.open("ab") as log:
        harness.process = subprocess.Popen(
            # The environment is set up already: `-o` leaves it as it is.
            [*make_up.split(), "-o", ".venv/.ready", f"BIN={harness.data.parent / 'bin'}", f"ARGS={options}"],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def shell(harness: RunningSignalbox, command: str) -> str:
    """Runs a line of the README; its output. Raises when it fails."""
    for number, port in ((8000, harness.gateway), (8080, harness.http)):
        command = command.replace(f":{number}/", f":{port}/")
    place = harness.data.parent
    environment = {
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "SIGNALBOX_URL": f"http://127.0.0.1:{harness.http}",
        "HOME": str(place),
    }
    done = subprocess.run(
        ["sh", "-c", command], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_curl_answers_by_the_revision_that_is_shown(up: RunningSignalbox):
    (curl,) = commands("curl")
    (header,) = [b.text.strip() for b in blocks() if b.text.startswith("x-signalbox-revision")]
    name, _, revision = header.partition(": ")
    path = re.sub(r".*?://[^/]+", "", curl.split()[-1])
    up.answered(path, revision)
    answer = shell(up, curl)
    assert answer.startswith("HTTP/1.1 200")
    assert f"{name}: {revision}" in answer


def test_the_curl_command_that_up_prints_works(up: RunningSignalbox):
    printed = until(
        lambda: re.search(r"^\s*(curl http://\S+)$", up.log_file.read_text(), re.MULTILINE), "a curl"
    )
    assert shell(up, f"{printed[1]} --silent --fail")


@pytest.fixture(scope="module")
def orders(up: RunningSignalbox, upstream: str) -> RunningSignalbox:
    """The shown API is written to a file, and applied with the shown command."""
    (block,) = [b for b in blocks() if b.language == "yaml"]
    (file,) = re.findall(r"`(\S+\.yaml)`", block.before)
    assert "http://127.0.0.1:9000" in block.text
    (up.data.parent / file).write_text(block.text.replace("http://127.0.0.1:9000", upstream))
    (apply,) = [line for line in commands("signalbox") if " apply " in line]
    reported = shell(up, apply)
    for fact in ("requested", "decided", "published", "acknowledged"):
        assert fact in reported
    return up


def test_the_api_that_is_written_there_is_reached(orders: RunningSignalbox):
    (block,) = [b for b in blocks() if b.language == "yaml"]
    spec = yaml.safe_load(block.text)["spec"]
    for operation in spec["operations"]:
        path = spec["context"] + re.sub(r"\{\w+\}", "1", operation["path"])
        assert f"http://127.0.0.1:8000{path}" in (ROOT / "README.md").read_text()
        orders.answered(path, "orders@1")


def test_applying_the_same_again_changes_nothing(orders: RunningSignalbox):
    calls = orders.calls()
    end = calls.end()
    (apply,) = [line for line in commands("signalbox") if " apply " in line]
    shell(orders, apply)
    assert calls.end() == end
    calls.close()


@pytest.mark.parametrize("command", [c for c in commands("signalbox") if " apply " not in c])
def test_the_other_commands_show_it(orders: RunningSignalbox, command: str):
    message = {"get": "orders", "describe": "Orders", "history": "revision 1"}[command.split()[1]]
    assert message in shell(orders, command)


def test_ctrl_c_stops_everything_and_keeps_all_data(orders: RunningSignalbox):
    envoy = orders.envoy()
    assert orders.process is not None
    os.killpg(orders.process.pid, signal.SIGINT)
    orders.process.wait(HANG_SECONDS)
    until(lambda: process(envoy) is None, "Envoy has ended")
    assert orders.through("/hello/world")[0] == 0

    begin_make_up(orders)
    statuses: list[int] = []

    def answered() -> bool:
        statuses.append(orders.through("/hello/world")[0])
        return statuses[-1] == 200

    until(answered, "the sample", pause=0.01)
    assert 503 not in statuses
    orders.until_ready()
    assert orders.ask("GET", "/apis/orders")["revision"] == 1
