"""One process per data directory."""

import contextlib
import fcntl
import os
from pathlib import Path

LOCK_FILE = "lock"


class DirectoryInUse(Exception):
    """Another process uses the data directory; `pid` is None when it could not be read."""

    def __init__(self, directory: Path, pid: int | None) -> None:
        holder = "another process" if pid is None else f"process {pid}"
        super().__init__(f"data directory {directory} is in use by {holder}; choose another with --data")
        self.directory = directory
        self.pid = pid


class DirectoryLock:
    """Locks the directory until it is released or the process ends, even by a crash (flock(2)).

    The file is not removed: otherwise two processes could lock two files of the same name.
    """

    def __init__(self, directory: Path) -> None:
        """Raises DirectoryInUse, or OSError when the lock file cannot be created."""
        self.directory = directory
        self._fd = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _holder(self._fd)
            os.close(self._fd)
            raise DirectoryInUse(directory, pid) from None
        # Only information for users: the lock is valid without it, also on a full disk.
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _holder(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None
