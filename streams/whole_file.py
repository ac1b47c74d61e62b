"""Writes files atomically: they are complete or do not exist."""

import os
import secrets
from pathlib import Path


def write_whole(
    file: Path, content: bytes, *, mode: int = 0o600, replace: bool = True, durable: bool = False
) -> bool:
    """Writes `file` in one step; False when it exists and is not to be replaced. Raises OSError.

    `durable`: its content survives a power failure.
    """
    unfinished = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        if replace:
            unfinished.replace(file)
        else:
            file.hardlink_to(unfinished)
    except FileExistsError:
        return False
    finally:
        unfinished.unlink(missing_ok=True)
    return True
