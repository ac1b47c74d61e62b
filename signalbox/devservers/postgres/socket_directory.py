"""Directories for Unix sockets: the path must be short, and the directory private."""

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from signalbox.devservers.account import Account
from signalbox.devservers.errors import StartFailed

LONGEST = 85
"""Bytes of the directory's path. The kernel's limit is about 104 with the socket's name."""


def socket_directory(directory: Path, account: Account) -> Path:
    """A private directory of `account`: in `directory`, or beside temporary files when that is too long.

    Raises StartFailed when another user owns it.
    """
    inside = directory / "socket"
    if len(os.fsencode(inside)) <= LONGEST:
        return _private(inside, account)
    short = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    return _private(Path(tempfile.gettempdir()) / f"signalbox-{short}", account)


def _private(path: Path, account: Account) -> Path:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        os.chown(path, account.uid, account.gid)
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != account.uid or stat.S_IMODE(facts.st_mode) & 0o077:
        raise StartFailed(f"{path} is not a private folder of the server's user: remove it and start again")
    return path
