"""Who may give commands over Kafka: signed tokens in the CloudEvents extension `authorization`.

A token is a JWT (RFC 7519) signed with Ed25519. Its claims: `iss` and `sub` (who signed, and for whom), `org`
(a list of organizations, or `"*"`), `scope` (`commands`), `nbf` and `exp` (Unix seconds) and `jti`. Our API
signs with the names of its callers (`authtype`, `authid`); any other issuer speaks for services alone. What
the sender of a command claims about itself counts for nothing. A token is never stored in an event.

Whoever reads the commands topic reads the tokens on it, so a token is good for the command it came with
alone: by a proof beside it (`streams.kafka.binding`), or by the claim `command`, in which its issuer named
the command. One that is bound to none is taken only of a key that is trusted with `bearer`.
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
from streams.kafka.binding import SEPARATOR, TOKEN_KEY, authorization, digest, proof, secret_of, with_secret
from streams.kafka.keys import (
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
"""How long a token of ours is good: commands may have to wait that long to be decided."""

REUSE_SECONDS = 600.0
SKEW_SECONDS = 60.0
"""How far the clock of an issuer may be ahead of ours."""

MOST_CACHED = 10_000
DIGEST_LENGTH = 64
LONGEST = 8_192
UNBOUND = (
    "the token is bound to no command, so that whoever reads it could use it: send the proof that "
    "`signalbox token create` makes possible, or have its key trusted with --bearer"
)
OTHER_COMMAND = "the token is bound to another command than this one, or the secret is not its own"

ALGORITHMS = ("Ed25519", "EdDSA")
"""Two names of one thing while keys are Ed25519 ones: RFC 9864 has the first, most libraries the other."""

# EdDSA leaves open which curve is meant; the trusted keys here say it.
warnings.filterwarnings("ignore", "EdDSA is deprecated", SecurityWarning)


class Unauthorized(Exception):
    """A command that its sender may not give; the sentence says why, and never what the token was."""


class _UnknownKey(Unauthorized):
    """The token names none of our keys."""


class CannotSign(Exception):
    """This process has no key to sign with."""


@dataclass(frozen=True, slots=True)
class _Grant:
    """What a verified token says. `organizations` is None for all of them; times in Unix seconds.

    `command` is the digest of the one command it is for, empty when it names none. `secret` is what proofs
    are made with; `bearer`: none is needed.
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
    """Signs commands of this process, and tells who gave those that come in.

    `trusted_keys` answers the keys by `kid`; `TrustedKeys` also notices when they change. `token_key` is what
    the secrets of tokens follow from.
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
        """The authorization of a command whose data travel as `body`: a token for whoever it is from, in its
        organization alone, the same one for some minutes, with a proof. Raises CannotSign.
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
        """`envelope` with the `authtype` and `authid` that its token proves; `body`: its data as they came.

        `at` is when the command was handed in (Unix seconds, by a clock that is not the sender's), now when
        left out: a command may wait longer for its decision than its token is good. Raises Unauthorized.
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
                # Its owner may have been trusted a moment ago, as our own API is at its first start.
                grant = _grant(token, self._keys(at_once=True))
            grant = replace(grant, secret=secret_of(self._token_key, token))
            _kept(self._grants, token, grant)
        else:
            self._grants.move_to_end(token)
        now = self._clock() if at is None else at
        if now >= grant.expires:
            raise Unauthorized(f"the token of {grant.authid!r} has expired")
        if now < grant.not_before - SKEW_SECONDS:
            raise Unauthorized(f"the token of {grant.authid!r} is not good yet")
        if grant.organizations is not None and envelope.partitionkey not in grant.organizations:
            raise Unauthorized(
                f"the token of {grant.authid!r} is not good for the organization {envelope.partitionkey!r}"
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
            # A key that is no longer trusted takes its tokens with it.
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
    """The authority of a process: `signing` is made when missing, and its public part trusted.

    `signing` is None for a process that signs nothing. `token_key`, beside `trusted` when none is named, is
    made when missing. Raises streams.kafka.keys.KeyFileError.
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
    """A token for `subject` in `organizations` (None: all), good for `seconds` from `now` on."""
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
    """What `token` proves. Raises Unauthorized."""
    if len(token) > LONGEST:
        raise Unauthorized(f"a token has up to {LONGEST} characters; this one has {len(token)}")
    try:
        header = extract_compact(token.encode()).headers()
    except (JoseError, ValueError, TypeError, UnicodeError) as error:
        raise Unauthorized("the token is no signed JWT") from error
    # What the token says of itself chooses nothing but which of our keys it is to be checked with.
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
        raise Unauthorized("the token's signature is not right") from error


def _checked(claims: Mapping[str, Any], by: TrustedKey) -> _Grant:
    """The grant in `claims`, no more of it than the key may give."""
    if claims.get("iss") != by.issuer:
        raise Unauthorized(f"the token's key belongs to {by.issuer!r}, and it says to be from somebody else")
    scopes: object = claims.get("scope")
    if not isinstance(scopes, str) or SCOPE not in scopes.split():
        raise Unauthorized(f"the token is not for giving commands (scope `{SCOPE}`)")
    subject: object = claims.get("sub")
    authtype: object = claims.get("authtype", SERVICE)
    authid: object = claims.get("authid", subject)
    if not isinstance(subject, str) or not isinstance(authtype, str) or not isinstance(authid, str):
        raise Unauthorized("the token does not say who it is for (`sub`)")
    if by.speaks_for != "users" and (authtype != SERVICE or authid != subject or not subject):
        raise Unauthorized(f"{by.issuer!r} speaks for services only, each by its own name (`sub`)")
    return _Grant(
        organizations=_organizations(claims.get("org"), by),
        authtype=authtype,
        authid=authid,
        not_before=_seconds(claims, "nbf", 0.0),
        expires=_seconds(claims, "exp", None),
        command=_command(claims),
        # What our API signs for people always comes with a proof.
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
        raise Unauthorized('the token does not say which organizations it is good for (`org`: a list or "*")')
    named = frozenset(str(name) for name in cast("list[object]", claimed))
    return named if by.organizations is None else named & by.organizations


def _seconds(claims: Mapping[str, Any], name: str, default: float | None) -> float:
    value: object = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise Unauthorized(f"the token does not say until when it is good (`{name}`)")
    return float(value)


def _kept(cache: OrderedDict[K, V], key: K, value: V) -> None:
    cache[key] = value
    if len(cache) > MOST_CACHED:
        cache.popitem(last=False)
