"""Authorization of commands on Kafka: signed tokens in the CloudEvents extension `authorization`.

A token is a JWT (RFC 7519) signed with Ed25519. Its claims: `iss` and `sub` (issuer and subject), `org` (a
list of organizations, or `"*"`), `scope` (`commands`), `nbf` and `exp` (Unix seconds) and `jti`.
Signalbox's API signs with the names of its callers (`authtype`, `authid`); other issuers only issue tokens
for services. Attributes that the sender sets about itself are ignored. A token is never stored in an event.

Readers of the commands topic can read the tokens on it, so a token is valid only for its own command: by a
proof beside it (`streams.kafka.security.binding`), or by the claim `command`, in which its issuer named the
command. An unbound token is accepted only if its key is trusted with `bearer`.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hmac import compare_digest
from math import isfinite
from pathlib import Path
from time import time
from typing import Any, TypeVar, cast

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import OKPKey
from joserfc.jws import extract_compact

from schemas.envelope import Envelope
from schemas.identity import uuid7
from streams.kafka.security.binding import (
    SEPARATOR,
    TOKEN_KEY,
    authorization,
    digest,
    proof,
    secret_of,
    with_secret,
)
from streams.kafka.security.keys import (
    SigningKey,
    TrustedKey,
    TrustedKeys,
    kept_signing_key,
    kept_text,
    own_trusted,
    read_trusted,
    trust,
)

K = TypeVar("K")
V = TypeVar("V")

SCOPE = "commands"
SERVICE = "service"
"""The `authtype` of a service."""

LIFE_SECONDS = 3600.0
"""The validity of Signalbox's own tokens: commands may wait that long for their decision."""

REUSE_SECONDS = 600.0
SKEW_SECONDS = 60.0
"""The tolerated lead of an issuer's clock over this machine's."""

MOST_CACHED = 10_000
DIGEST_LENGTH = 64
LONGEST = 8_192
UNBOUND = (
    "the token is bound to no command, so that any reader could use it: send the proof that "
    "`signalbox token create` makes possible, or have its key trusted with --bearer"
)
OTHER_COMMAND = "the token is bound to another command, or the proof was made with another secret"

ALGORITHMS = ("Ed25519", "EdDSA")
"""Two names of the same algorithm for Ed25519 keys: the first is of RFC 9864, most libraries use the
other."""

# EdDSA does not name the curve; the trusted keys here do.
warnings.filterwarnings("ignore", "EdDSA is deprecated", SecurityWarning)


class Unauthorized(Exception):
    """The sender may not send the command; the sentence is the reason, without the token."""


class _UnknownKey(Unauthorized):
    """The token's key is not trusted."""


class CannotSign(Exception):
    """This process has no signing key."""


@dataclass(frozen=True, slots=True)
class _Grant:
    """The content of a verified token. `organizations` is None for all of them; times in Unix seconds.

    `command`: the digest of the one command it is for, else empty. `secret`: the key of proofs; `bearer`:
    no proof is needed.
    """

    organizations: frozenset[str] | None
    authtype: str
    authid: str
    not_before: float
    expires: float
    command: str
    bearer: bool
    secret: str = field(default="", repr=False)


class Authority:
    """Signs commands of this process, and verifies the senders of received ones.

    `trusted_keys` returns the keys by `kid`; `TrustedKeys` also reloads them when they change. The secrets
    of tokens are derived from `token_key`.
    """

    def __init__(
        self,
        signing_key: SigningKey | None,
        trusted_keys: "TrustedKeys | Mapping[str, TrustedKey]",
        token_key: str,
        clock: Callable[[], float] = time,
    ) -> None:
        self._signing = signing_key
        self._trusted = trusted_keys
        self._token_key = token_key
        self._clock = clock
        self._version = 0
        self._grants: OrderedDict[str, _Grant] = OrderedDict()
        self._signed: OrderedDict[tuple[str, str, str], tuple[str, float]] = OrderedDict()

    def sign(self, envelope: Envelope, body: bytes) -> str:
        """The authorization of a command with the value `body`: a token for its sender, only for its
        organization, the same one for some minutes, with a proof. Raises CannotSign.
        """
        return authorization(self._token(envelope), envelope, body)

    def _token(self, envelope: Envelope) -> str:
        """With its secret. Raises CannotSign."""
        who = (envelope.authtype, envelope.authid, envelope.partitionkey)
        now = self._clock()
        kept = self._signed.get(who)
        if kept is not None and now < kept[1]:
            self._signed.move_to_end(who)
            return kept[0]
        if self._signing is None:
            raise CannotSign("there is no key to sign commands with (SIGNALBOX_SIGNING_KEY)")
        token = issued(
            self._signing,
            subject=envelope.authid,
            organizations=[envelope.partitionkey],
            now=now,
            seconds=LIFE_SECONDS,
            authtype=envelope.authtype,
            authid=envelope.authid,
        )
        handed = with_secret(self._token_key, token)
        _kept(self._signed, who, (handed, now + REUSE_SECONDS))
        return handed

    def verify(
        self, authorization: str, envelope: Envelope, body: bytes, at: float | None = None
    ) -> Envelope:
        """`envelope` with the `authtype` and `authid` that its token proves; `body`: its value as received.

        `at`: the time of the command (Unix seconds, by a clock that is not the sender's), default now: a
        command may wait for its decision longer than its token is valid. Raises Unauthorized.
        """
        token, _, proven = authorization.partition(SEPARATOR)
        if not token:
            raise Unauthorized("the command has no token (extension attribute `authorization`)")
        trusted = self._keys()
        grant = self._grants.get(token)
        if grant is None:
            try:
                grant = _grant(token, trusted)
            except _UnknownKey:
                # Its key may be trusted since a moment ago, like that of Signalbox's API at its first start.
                grant = _grant(token, self._keys(at_once=True))
            grant = replace(grant, secret=secret_of(self._token_key, token))
            _kept(self._grants, token, grant)
        else:
            self._grants.move_to_end(token)
        now = self._clock() if at is None else at
        if now >= grant.expires:
            raise Unauthorized(f"the token of {grant.authid!r} has expired")
        if now < grant.not_before - SKEW_SECONDS:
            raise Unauthorized(f"the token of {grant.authid!r} is not valid yet")
        if grant.organizations is not None and envelope.partitionkey not in grant.organizations:
            raise Unauthorized(
                f"the token of {grant.authid!r} is not valid for the organization {envelope.partitionkey!r}"
            )
        _check_bound(grant, proven, envelope, body)
        if (envelope.authtype, envelope.authid) == (grant.authtype, grant.authid):
            return envelope
        return replace(envelope, authtype=grant.authtype, authid=grant.authid)

    def _keys(self, *, at_once: bool = False) -> Mapping[str, TrustedKey]:
        if not isinstance(self._trusted, TrustedKeys):
            return self._trusted
        keys = self._trusted.current(at_once=at_once)
        if self._trusted.version != self._version:
            # Tokens of a key that is no longer trusted are no longer valid.
            self._version = self._trusted.version
            self._grants.clear()
        return keys


def _check_bound(grant: _Grant, proven: str, envelope: Envelope, body: bytes) -> None:
    """Raises Unauthorized when a token is not for this command."""
    if proven:
        good = compare_digest(proof(grant.secret, envelope, body).encode(), proven.encode())
    elif grant.command:
        good = compare_digest(digest(envelope, body).encode(), grant.command.encode())
    elif grant.bearer:
        return
    else:
        raise Unauthorized(UNBOUND)
    if not good:
        raise Unauthorized(OTHER_COMMAND)


def open_authority(signing: Path | None, trusted: Path, token_key: Path | None = None) -> Authority:
    """The authority of a process: a missing `signing` is created, and its public part trusted.

    `signing` is None for a process that signs nothing. A missing `token_key` (default: beside `trusted`) is
    created. Raises streams.kafka.security.keys.KeyFileError.
    """
    own = None if signing is None else kept_signing_key(signing)
    if own is not None and own.kid not in read_trusted(trusted):
        trust(trusted, own_trusted(own))
    return Authority(own, TrustedKeys(trusted), kept_text(token_key or trusted.with_name(TOKEN_KEY)))


def issued(
    key: SigningKey,
    *,
    subject: str,
    organizations: Iterable[str] | None,
    now: float,
    seconds: float,
    **claims: str,
) -> str:
    """A token for `subject` in `organizations` (None: all), valid for `seconds` from `now` on."""
    return jwt.encode(
        {"alg": ALGORITHMS[0], "kid": key.kid, "typ": "JWT"},
        {
            "iss": key.issuer,
            "sub": subject,
            "org": "*" if organizations is None else sorted(organizations),
            "scope": SCOPE,
            "nbf": int(now),
            "exp": int(now + seconds),
            "jti": uuid7(),
            **claims,
        },
        key.key,
        algorithms=ALGORITHMS,
    )


def _grant(token: str, trusted: Mapping[str, TrustedKey]) -> _Grant:
    """The verified content of `token`. Raises Unauthorized."""
    if len(token) > LONGEST:
        raise Unauthorized(f"a token has up to {LONGEST} characters; this one has {len(token)}")
    try:
        header = extract_compact(token.encode()).headers()
    except (JoseError, ValueError, TypeError, UnicodeError) as error:
        raise Unauthorized("the token is no signed JWT") from error
    # The token's header only selects the trusted key that verifies it.
    if header.get("alg") not in ALGORITHMS:
        raise Unauthorized(f"a token is signed with Ed25519, not {str(header.get('alg'))[:20]!r}")
    by = trusted.get(str(header.get("kid")))
    if by is None:
        raise _UnknownKey("the token is signed with a key that is not trusted here")
    return _checked(_claims(token, by.key), by)


def _claims(token: str, key: OKPKey) -> Mapping[str, Any]:
    try:
        return jwt.decode(token, key, algorithms=ALGORITHMS).claims
    except (JoseError, ValueError, TypeError) as error:
        raise Unauthorized("the token's signature is wrong") from error


def _checked(claims: Mapping[str, Any], by: TrustedKey) -> _Grant:
    """The grant in `claims`, limited to the rights of the key."""
    if claims.get("iss") != by.issuer:
        raise Unauthorized(f"the token's key belongs to {by.issuer!r}; its `iss` is another one")
    scopes: object = claims.get("scope")
    if not isinstance(scopes, str) or SCOPE not in scopes.split():
        raise Unauthorized(f"the token is not for giving commands (scope `{SCOPE}`)")
    subject: object = claims.get("sub")
    authtype: object = claims.get("authtype", SERVICE)
    authid: object = claims.get("authid", subject)
    if not isinstance(subject, str) or not isinstance(authtype, str) or not isinstance(authid, str):
        raise Unauthorized("the token has no subject (`sub`)")
    if by.speaks_for != "users" and (authtype != SERVICE or authid != subject or not subject):
        raise Unauthorized(f"{by.issuer!r} issues tokens for services only, each by its own name (`sub`)")
    return _Grant(
        organizations=_organizations(claims.get("org"), by),
        authtype=authtype,
        authid=authid,
        not_before=_seconds(claims, "nbf", 0.0),
        expires=_seconds(claims, "exp", None),
        command=_command(claims),
        # Tokens of Signalbox's API for users always have a proof.
        bearer=by.bearer and authtype == SERVICE,
    )


def _command(claims: Mapping[str, Any]) -> str:
    value: object = claims.get("command", "")
    if not isinstance(value, str) or (value and len(value) != DIGEST_LENGTH):
        raise Unauthorized("the token's claim `command` is no SHA-256 of a command (64 hexadecimal digits)")
    return value


def _organizations(claimed: object, by: TrustedKey) -> frozenset[str] | None:
    if claimed == "*":
        return by.organizations
    if not isinstance(claimed, list):
        raise Unauthorized('the token has no organizations (`org`: a list or "*")')
    named = frozenset(str(name) for name in cast("list[object]", claimed))
    return named if by.organizations is None else named & by.organizations


def _seconds(claims: Mapping[str, Any], name: str, default: float | None) -> float:
    value: object = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise Unauthorized(f"the token has no valid time in the claim `{name}`")
    return float(value)


def _kept(cache: OrderedDict[K, V], key: K, value: V) -> None:
    cache[key] = value
    if len(cache) > MOST_CACHED:
        cache.popitem(last=False)
