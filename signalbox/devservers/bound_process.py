"""One server process per directory: it holds the directory's lock, and ends with this process."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from signalbox.devservers import exec_bound
from signalbox.devservers.errors import StartFailed


@dataclass(frozen=True, slots=True)
class User:
    """The user and group of a program; -1: those of this process."""

    uid: int = -1
    gid: int = -1


CURRENT_USER = User()


class DirectoryLock:
    """A lock held by this process and by those that inherited `descriptor`, until the last of them ends."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.descriptor = -1

    def take(self, within: float) -> bool:
        """Acquires the lock; False if it is still held after `within` seconds (ending processes hold it for
        a moment)."""
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + within
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    os.close(descriptor)
                    return False
                time.sleep(0.02)
            else:
                self.descriptor = descriptor
                return True

    def release(self) -> None:
        """Releases the lock in this process; processes that inherited it still hold it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class BoundProcess:
    """A child process that receives the signal `when_orphaned` when this process ends, even by a crash.

    The thread that starts it also waits for it: for the kernel the parent is a thread.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        when_orphaned: signal.Signals,
        environment: Mapping[str, str],
        directory: Path,
        lock: DirectoryLock,
        user: User = CURRENT_USER,
    ) -> None:
        self._started = threading.Event()
        self._ended = threading.Event()
        self._failure: OSError | subprocess.SubprocessError | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._argv = bound_to_parent(argv, when_orphaned, user)
        self._environment = dict(environment)
        self._lock = lock
        self._log = log
        self._directory = directory
        threading.Thread(target=self._run, name=f"waits for {Path(argv[0]).name}", daemon=True).start()
        self._started.wait()
        if self._failure is not None:
            raise StartFailed(f"{argv[0]} cannot be started: {self._failure}") from self._failure

    def _run(self) -> None:
        try:
            with self._log.open("ab") as log:
                self._child = subprocess.Popen(
                    self._argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    cwd=self._directory,
                    start_new_session=True,
                    pass_fds=(self._lock.descriptor,),
                )
        except (OSError, subprocess.SubprocessError) as error:
            self._failure = error
            return
        finally:
            self._started.set()
        self._child.wait()
        self._ended.set()

    @property
    def pid(self) -> int:
        return self._child.pid if self._child else 0

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    def send(self, how: signal.Signals) -> None:
        """Sends the signal, unless the process has ended."""
        if self._child is not None and self.running:
            self._child.send_signal(how)

    def end(self, how: signal.Signals, within: float) -> bool:
        """Ends the process, with SIGKILL after `within` seconds; whether SIGKILL was not needed."""
        self.send(how)
        if self._ended.wait(within):
            return True
        self.send(signal.SIGKILL)
        self._ended.wait()
        return False


def bound_to_parent(argv: Sequence[str], when_orphaned: signal.Signals, user: User) -> list[str]:
    """The command line that runs `argv` as `user`, bound to the life of the thread that starts it."""
    words = [os.getpid(), int(when_orphaned), user.uid, user.gid]
    return [sys.executable, "-I", "-S", exec_bound.__file__, *(str(word) for word in words), *argv]
