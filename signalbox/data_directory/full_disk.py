"""What to do about an error that a full disk caused."""

import errno
import os
from pathlib import Path

from streams.log import LogUnavailable

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
LITTLE = 1 << 20
"""With fewer free bytes the disk is full for SQLite, whose errors do not always say so."""


def remedy(error: BaseException, data: Path) -> str:
    """A sentence with the free space of the disk of the data directory and the way out; empty when `error`
    has another cause."""
    free = _free_bytes(data)
    if free is None or not (_is_full(error) or (isinstance(error, LogUnavailable) and free < LITTLE)):
        return ""
    return (
        f"{free:,} bytes are free on the disk of the data directory {data.absolute()}: free some space and "
        "start again (nothing that was accepted is lost), or choose a directory on another disk with --data "
        "DIR or SIGNALBOX_DATA"
    )


def _is_full(error: BaseException | None) -> bool:
    """Whether it, or a cause of it, is that there is no space left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def _free_bytes(data: Path) -> int | None:
    """The free bytes for this process where the directory is, or will be created."""
    for place in (data, *data.absolute().parents):
        try:
            found = os.statvfs(place)
        except OSError:
            continue
        return found.f_bavail * found.f_frsize
    return None
