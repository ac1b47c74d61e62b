"""Secrets kept in the data directory, made at first start, readable by their owner alone."""

import hmac
import os
import secrets
from hashlib import sha256
from pathlib import Path

from signalbox.settings import SettingsError


def kept_secret(file: Path, prefix: str) -> str:
    """The secret in `file`; made when missing. Raises OSError, and SettingsError when it is damaged."""
    try:
        return _read(file)
    except FileNotFoundError:
        secret = prefix + secrets.token_urlsafe(32)
    # Complete before it has its name, so that a crash never leaves half a secret.
    unfinished = file.with_suffix(f".{secrets.token_hex(4)}.new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secret + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        file.hardlink_to(unfinished)
    except FileExistsError:
        return _read(file)  # of two processes that start together, the first one's stands
    finally:
        unfinished.unlink(missing_ok=True)
    return secret


def _read(file: Path) -> str:
    secret = file.read_bytes().decode("ascii", "replace").strip()
    if not secret or not secret.isprintable() or not secret.isascii():
        what = "holds what is no secret of ours" if secret else "is empty"
        raise SettingsError(
            f"{file} is damaged: it {what}. Restore it from a backup, or remove it to have a new one made."
        )
    return secret


def probe_secret(key: str, gateway: str) -> str:
    """What opens a gateway's probe routes: different for every gateway, the same after a restart."""
    return hmac.digest(key.encode(), gateway.encode(), sha256).hex()[:32]
