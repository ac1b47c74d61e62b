"""Keys for commands: Signalbox's own signing key, and the trusted public keys.

`signing.jwk` is a private key (Ed25519, RFC 8037) that only its owner can read. `trusted.jwks` is a set of
public keys, each with its rights: `iss` (the issuer in its tokens), `organizations` (names, or `"*"`),
`speaks_for` (`services`, or `users` for an API that signs with the names of its callers) and
`bearer`.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import orjson
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from streams.whole_file import write_whole

ISSUER = "signalbox"
"""The issuer of Signalbox's own tokens."""

SHORTEST_TEXT = 32
RELOAD_SECONDS = 2.0
"""Seconds until a change of the trusted keys is loaded."""

SpeaksFor = Literal["services", "users"]


class KeyFileError(Exception):
    """A file of keys cannot be used; the sentence has its name and the reason."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, and the name of its issuer."""

    kid: str
    issuer: str
    key: OKPKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key and the rights of tokens signed with it. `organizations` is None for all of them."""

    kid: str
    issuer: str
    organizations: frozenset[str] | None
    speaks_for: SpeaksFor
    key: OKPKey = field(repr=False)
    bearer: bool = False
    """Its tokens are accepted without a proof: any reader of the commands topic can use them."""

    def document(self) -> dict[str, Any]:
        """The key as it is in `trusted.jwks`."""
        organizations = "*" if self.organizations is None else sorted(self.organizations)
        return {
            **_public(self.key, self.kid),
            "iss": self.issuer,
            "organizations": organizations,
            "speaks_for": self.speaks_for,
            **({"bearer": True} if self.bearer else {}),
        }


def new_key() -> OKPKey:
    return OKPKey.generate_key("Ed25519")


def private_document(key: OKPKey, issuer: str) -> dict[str, Any]:
    """A private key in its file form."""
    return {**_public(key, key.thumbprint()), "iss": issuer, **key.as_dict(private=True)}


def public_document(key: OKPKey, issuer: str) -> dict[str, Any]:
    """A public key in its file form, for processes that are to trust it."""
    return {**_public(key, key.thumbprint()), "iss": issuer}


def _public(key: OKPKey, kid: str) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": "Ed25519"}


def kept_signing_key(file: Path) -> SigningKey:
    """The key in `file`; a missing one is created, readable by its owner only. Raises KeyFileError."""
    if not file.exists():
        # Of two processes that start together, the first one's key is used.
        _written(file, private_document(new_key(), ISSUER), replace=False)
    return signing_key(file)


def kept_text(file: Path) -> str:
    """The secret text in `file`; a missing one is created, readable by its owner only. Raises
    KeyFileError."""
    try:
        if not file.exists():
            _written_whole(file, (secrets.token_urlsafe(32) + "\n").encode(), replace=False, mode=0o600)
        text = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{file} cannot be read: {error}") from error
    if len(text) < SHORTEST_TEXT:
        raise KeyFileError(f"{file} has no key of Signalbox: restore it from a backup")
    return text


def signing_key(file: Path) -> SigningKey:
    """Raises KeyFileError."""
    document = _object(file)
    key = _key(document, str(file))
    if not key.is_private:
        raise KeyFileError(f"{file} has a public key; signing needs the private one")
    return SigningKey(key.thumbprint(), str(document.get("iss") or ISSUER), key)


def write_private(file: Path, key: OKPKey, issuer: str) -> None:
    """Writes a new file that only its owner can read. Raises KeyFileError when it exists."""
    if not _written(file, private_document(key, issuer), replace=False):
        raise KeyFileError(f"{file} exists; a key is never overwritten")


def trusted_key(document: Mapping[str, Any], where: str) -> TrustedKey:
    """A key of a set of trusted ones. Raises KeyFileError with its location `where`."""
    key = _key(document, where)
    if key.is_private:
        raise KeyFileError(f"{where} is a private key; only its public part belongs here")
    issuer, organizations = document.get("iss"), document.get("organizations")
    speaks_for = document.get("speaks_for", "services")
    if not isinstance(issuer, str) or not issuer:
        raise KeyFileError(f"{where} has no `iss`: the name of its issuer")
    if organizations != "*" and not _names(organizations):
        raise KeyFileError(f'{where} has no `organizations`: a list of names, or "*" for all')
    if speaks_for not in ("services", "users"):
        raise KeyFileError(f"{where}: `speaks_for` must be services or users, not {speaks_for!r}")
    return TrustedKey(
        kid=key.thumbprint(),
        issuer=issuer,
        organizations=None if organizations == "*" else frozenset(cast("list[str]", organizations)),
        speaks_for=speaks_for,
        key=key,
        bearer=document.get("bearer") is True,
    )


def read_trusted(file: Path) -> dict[str, TrustedKey]:
    """The trusted keys by `kid`; none when there is no file. Raises KeyFileError."""
    if not file.exists():
        return {}
    keys: object = _object(file).get("keys")
    if not isinstance(keys, list):
        raise KeyFileError(f"{file} is not a set of keys: it has no list `keys`")
    found: dict[str, TrustedKey] = {}
    for number, document in enumerate(cast("list[object]", keys)):
        where = f"{file}, key {number}"
        if not isinstance(document, dict):
            raise KeyFileError(f"{where} is not a JSON object")
        trusted = trusted_key(cast("dict[str, Any]", document), where)
        found[trusted.kid] = trusted
    return found


def write_trusted(file: Path, keys: Sequence[TrustedKey]) -> None:
    """Replaces the file in one step. Raises KeyFileError."""
    _written(file, {"keys": [k.document() for k in keys]}, replace=True, mode=0o644)


def trust(file: Path, key: TrustedKey) -> bool:
    """Adds `key`, or changes its rights; False when nothing changed. Raises KeyFileError."""
    present = read_trusted(file)
    before = present.get(key.kid)
    if before is not None and before.document() == key.document():
        return False
    write_trusted(file, list({**present, key.kid: key}.values()))
    return True


def own_trusted(key: SigningKey) -> TrustedKey:
    """Signalbox's own key as a trusted key: for users, in every organization."""
    public = OKPKey.import_key(cast("dict[str, Any]", key.key.as_dict(private=False)))
    return TrustedKey(key.kid, key.issuer, None, "users", public)


class TrustedKeys:
    """The trusted keys of a file, read again when it changes.

    `version` counts the changes. While a changed file cannot be read, the previous keys are used and
    `trouble` is the reason.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises KeyFileError."""
        self._file = file
        self._clock = clock
        self._looked = clock()
        self._stamp = _stamp(file)
        self._keys = read_trusted(file)
        self.version = 0
        self.trouble = ""

    def current(self, *, at_once: bool = False) -> Mapping[str, TrustedKey]:
        """The current keys, at most a moment old."""
        now = self._clock()
        if at_once or now - self._looked >= RELOAD_SECONDS:
            self._looked = now
            stamp = _stamp(self._file)
            if stamp != self._stamp:
                self._reload(stamp)
        return self._keys

    def _reload(self, stamp: tuple[int, int, int]) -> None:
        try:
            self._keys = read_trusted(self._file)
        except KeyFileError as error:
            self.trouble = str(error)
            return
        self._stamp = stamp
        self.version += 1
        self.trouble = ""


def _stamp(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _names(value: object) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(name, str) and name for name in cast("list[object]", value))


def _object(file: Path) -> dict[str, Any]:
    try:
        content: object = orjson.loads(file.read_bytes())
    except OSError as error:
        raise KeyFileError(f"{file} cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise KeyFileError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise KeyFileError(f"{file} is not a JSON object")
    return cast("dict[str, Any]", content)


def _key(document: Mapping[str, Any], where: str) -> OKPKey:
    if document.get("kty") != "OKP" or document.get("crv") != "Ed25519":
        raise KeyFileError(f"{where} is no Ed25519 key (`kty` OKP, `crv` Ed25519)")
    try:
        key = OKPKey.import_key(
            {name: document[name] for name in ("kty", "crv", "x", "d") if name in document}
        )
        key.thumbprint()
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise KeyFileError(f"{where} is no Ed25519 key: {error}") from error
    return key


def _written(file: Path, document: Mapping[str, Any], *, replace: bool, mode: int = 0o600) -> bool:
    """Writes `file` atomically; False when it exists and is not to be replaced."""
    content = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return _written_whole(file, content, replace=replace, mode=mode)


def _written_whole(file: Path, content: bytes, *, replace: bool, mode: int) -> bool:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return write_whole(file, content, mode=mode, replace=replace, durable=True)
    except OSError as error:
        raise KeyFileError(f"{file} cannot be written: {error.strerror}") from error
