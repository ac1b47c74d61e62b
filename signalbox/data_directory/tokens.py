"""Secrets in the data directory, created at the first start, readable by their owner only."""

import hmac
import secrets
from pathlib import Path

from schemas.aggregates.gateway import TOKEN_PREFIX
from schemas.codecs.canonical import sha256_hex
from signalbox.settings import SettingsError
from streams.whole_file import write_whole

_REMOVE = "Restore it from a backup, or remove it to have a new one created."
_REGISTER = (
    "Restore it from a backup. Without one, remove the file; a gateway that was registered before rejects "
    "nodes with it: undeploy its APIs, remove the gateway, apply it again and write the token that is "
    "printed to the file."
)


def shared_gateway_token(file: Path) -> str:
    """The gateway's token for a process that does not check its registration; created when missing.

    Raises OSError, and SettingsError when it is damaged.
    """
    return kept_secret(file, TOKEN_PREFIX, _REGISTER)


def kept_secret(file: Path, prefix: str, way_out: str = _REMOVE) -> str:
    """The secret in `file`; created when missing. Raises OSError, and SettingsError when it is damaged."""
    try:
        return _read(file, way_out)
    except FileNotFoundError:
        secret = prefix + secrets.token_urlsafe(32)
    if write_whole(file, f"{secret}\n".encode(), replace=False, durable=True):
        return secret
    return _read(file, way_out)  # of two processes that start together, the first one's is used


def gateway_token(file: Path, registered: str | None, *, needed: bool) -> str:
    """The token of the gateway here; `registered` is the SHA-256 of the one it was registered with.

    It is created only while the gateway is not registered: xDS would reject a later one. If the file does
    not have the registered token: empty, unless `needed`. Raises OSError, and SettingsError.
    """
    if registered is None:
        return kept_secret(file, TOKEN_PREFIX)
    try:
        token = _content(file)
        if sha256_hex(token.encode()) == registered:
            return token
        problem = "is not the token that the gateway was registered with"
    except FileNotFoundError:
        problem = "is missing, and the gateway is registered with the token that was in it"
    except _Damaged as damaged:
        problem = f"is damaged: it {damaged}. The gateway is registered with the token that was in it"
    if not needed:
        return ""
    raise SettingsError(
        f"{file} {problem}: xDS would reject its Envoy with another one. Restore the file from a backup; "
        "without one, start with --no-envoy, undeploy its APIs, remove the gateway, apply it again and "
        "write the token that is printed to the file."
    )


class _Damaged(Exception):
    """The content of a file is not a secret; the text describes it."""


def _read(file: Path, way_out: str) -> str:
    try:
        return _content(file)
    except _Damaged as damaged:
        raise SettingsError(f"{file} is damaged: it {damaged}. {way_out}") from damaged


def _content(file: Path) -> str:
    """Raises FileNotFoundError, _Damaged."""
    secret = file.read_bytes().decode("ascii", "replace").strip()
    if not secret or not secret.isprintable() or not secret.isascii():
        raise _Damaged("does not hold a secret of Signalbox" if secret else "is empty")
    return secret


def probe_secret(key: str, gateway: str) -> str:
    """The secret of a gateway's probe routes: different per gateway, the same after a restart."""
    # By its name the digest is OpenSSL's, in one call; by a constructor it is composed in Python.
    return hmac.digest(key.encode(), gateway.encode(), "sha256").hex()[:32]
