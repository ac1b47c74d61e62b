"""The data directory of an embedded Signalbox, while this process works in it."""

import logging
from collections.abc import Callable
from pathlib import Path

from streams.log import LogDamaged, LogUnavailable
from streams.sqlite.checks.ahead_of_log import CONFIG, READ_MODELS
from streams.sqlite.checks.seal import SEAL, compared, seal, unseal
from streams.sqlite.checks.set_aside import set_aside
from streams.sqlite.database import make_directory
from streams.sqlite.documents import DOCUMENTS
from streams.sqlite.lock import DirectoryLock
from streams.sqlite.schema import LOG
from streams.threads import in_thread

DATABASES = (LOG.file, DOCUMENTS.file, CONFIG, READ_MODELS)
COMPUTED = frozenset({CONFIG, READ_MODELS})
"""The files that are computed again when they are damaged."""

logger = logging.getLogger("signalbox")


def _unproved() -> bool:
    return False


class DataDirectory:
    """Holds the lock, and closes the directory after all its files; it is sealed if `sound()`."""

    def __init__(self, path: Path, lock: DirectoryLock, cleanly_closed: frozenset[str]) -> None:
        """Use `open`. `cleanly_closed`: the databases that are unchanged since they were closed in order."""
        self._path = path
        self.lock = lock
        self.cleanly_closed = cleanly_closed
        self.sound: Callable[[], bool] = _unproved

    @classmethod
    async def open(cls, path: Path) -> "DataDirectory":
        """Creates a missing directory. Files damaged since they were closed in order are set aside if they
        can be computed again.

        Raises DirectoryInUse, LogUnavailable, and LogDamaged when that cannot be.
        """
        make_directory(path)
        try:
            lock = DirectoryLock(path)
        except OSError as error:
            raise LogUnavailable(f"{path}: {error.strerror}") from error
        try:
            cleanly_closed = await in_thread(_unsealed, path)
        except OSError as error:
            lock.release()
            raise LogUnavailable(f"{path}: {error.strerror}") from error
        except BaseException:
            lock.release()
            raise
        return cls(path, lock, cleanly_closed)

    async def close(self) -> None:
        try:
            if self.sound():
                await in_thread(seal, self._path, DATABASES)
        except OSError as error:
            logger.warning("%s is not sealed, so the next start can verify less: %s", self._path, error)
        finally:
            self.lock.release()


def _unsealed(path: Path) -> frozenset[str]:
    intact, found = compared(path)
    for file, difference in found.items():
        if file in COMPUTED:
            set_aside(path / file, difference)
    lost = {file: difference for file, difference in found.items() if file not in COMPUTED}
    if lost:
        file, difference = next(iter(lost.items()))
        raise LogDamaged(
            f"{path / file} is damaged: {difference}. `signalbox doctor` shows where. Restore the data "
            f"directory from a backup; to start with the rest, remove {path / SEAL}: then a damaged record "
            "or document is an error when it is read."
        )
    unseal(path)
    return intact
