"""Servers that all processes of a run share: pytest-xdist runs the tests in several."""

import fcntl
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO

import pytest


def run_directory(config: pytest.Config, factory: pytest.TempPathFactory) -> Path:
    """The temporary directory of the whole run."""
    own = factory.getbasetemp()
    return own.parent if hasattr(config, "workerinput") else own


@contextmanager
def alone(file: Path) -> Generator[None]:
    """Locks `file`: for only one process of the run at a time."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def shared(note: Path, made: Callable[[], AbstractContextManager[Path]]) -> Generator[Path]:
    """The directory that `made` yields; only the first process of the run that needs it calls `made`.

    The others find it in the file `note`. The first process ends it, after all others have left.
    """
    with (
        ExitStack() as own,
        note.with_suffix(".lock").open("w") as lock,
        note.with_suffix(".users").open("w") as users,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        first = not note.exists()
        if first:
            note.write_text(str(own.enter_context(made())))
        fcntl.flock(lock, fcntl.LOCK_UN)
        try:
            yield Path(note.read_text())
        finally:
            if first:
                _until_last(lock, users)
                note.unlink()


def _until_last(lock: IO[str], users: IO[str]) -> None:
    """Returns when no other process uses it, holding the lock that keeps new ones from joining."""
    while True:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(0.05)
