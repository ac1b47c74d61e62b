"""A server of a directory: it lives as long as the process that started it, and alone."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from signalbox.devservers.bound_process import BoundProcess, DirectoryLock
from signalbox.devservers.errors import StartFailed
from signalbox.machine.processes import process
from tests.signalbox.devservers.eventually import eventually

ROOT = Path(__file__).parents[3]
STARTS_AND_WAITS = """
import signal, sys
from pathlib import Path
from tests.signalbox.devservers.test_bound_process import tied
print(tied(Path(sys.argv[1])).pid, flush=True)
signal.pause()
"""

OBEDIENT = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit("asked to end"))
print("here", flush=True)
signal.pause()
"""
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
signal.pause()
"""


def tied(directory: Path, *argv: str) -> BoundProcess:
    """Runs `argv`, which is a long sleep, with the lock of the directory."""
    lock = DirectoryLock(directory / "lock")
    assert lock.take(0)
    try:
        return BoundProcess(
            argv or ("/bin/sleep", "1000"),
            log=directory / "log",
            when_orphaned=signal.SIGKILL,
            environment=os.environ,
            directory=directory,
            lock=lock,
        )
    finally:
        lock.release()


def test_it_dies_with_the_process_that_started_it_and_lets_the_directory_go(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTS_AND_WAITS, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert not DirectoryLock(tmp_path / "lock").take(0)
        starter.kill()
    eventually(lambda: process(pid) is None)
    lock = DirectoryLock(tmp_path / "lock")
    assert lock.take(5)
    lock.release()


def test_it_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    made: list[BoundProcess] = []
    thread = threading.Thread(target=lambda: made.append(tied(tmp_path, sys.executable, "-c", OBEDIENT)))
    thread.start()
    thread.join()
    (child,) = made
    eventually(lambda: "here" in (tmp_path / "log").read_text())
    assert child.end(signal.SIGTERM, 5)
    assert "asked to end" in (tmp_path / "log").read_text(), "it was killed before"
    assert not child.running


def test_one_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    child = tied(tmp_path, sys.executable, "-c", STUBBORN)
    eventually(lambda: "deaf" in (tmp_path / "log").read_text())
    assert not child.end(signal.SIGTERM, 0.2)
    assert not child.running


def test_a_program_that_is_not_there_is_named_in_the_log(tmp_path: Path) -> None:
    child = tied(tmp_path, "/no/such/program")
    eventually(lambda: not child.running)
    assert "/no/such/program cannot be run: No such file or directory" in (tmp_path / "log").read_text()


def test_a_log_that_cannot_be_written_is_a_failed_start(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(StartFailed, match="/bin/sleep cannot be started"):
        tied(tmp_path)
