"""Who may give commands: what tokens prove, and what they do not."""

import base64
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey

from schemas.envelope import Envelope
from streams.kafka.security import keys
from streams.kafka.security.authority import (
    LIFE_SECONDS,
    REUSE_SECONDS,
    Authority,
    CannotSign,
    Unauthorized,
    issued,
    open_authority,
)
from streams.kafka.security.binding import authorization, digest, with_secret
from streams.kafka.security.keys import (
    KeyFileError,
    SigningKey,
    TrustedKey,
    TrustedKeys,
    kept_text,
    own_trusted,
)
from tests.streams.envelopes import envelope

NOW = 1_795_000_000.0
BODY = b'{"name": "shop"}'
TOKEN_KEY = "the key that secrets of tokens follow from"


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


def signing(issuer: str = "signalbox") -> SigningKey:
    key = keys.new_key()
    return SigningKey(key.thumbprint(), issuer, key)


def trusted(key: SigningKey, *organizations: str, speaks_for: keys.SpeaksFor = "services") -> TrustedKey:
    named = frozenset(organizations) if organizations else None
    return TrustedKey(key.kid, key.issuer, named, speaks_for, key.key)


@dataclass
class Harness:
    """Our API's key, and the key of a service's issuer that is trusted for `acme` alone."""

    clock: Clock = field(default_factory=Clock)
    ours: SigningKey = field(default_factory=signing)
    billing: SigningKey = field(default_factory=lambda: signing("billing-team"))

    @property
    def authority(self) -> Authority:
        known = [own_trusted(self.ours), trusted(self.billing, "acme")]
        return Authority(self.ours, {k.kid: k for k in known}, TOKEN_KEY, self.clock)

    def token(self, by: SigningKey | None = None, given: Envelope | None = None, **changed: Any) -> str:
        """A good token of a service, but for what is changed, bound to a command; None leaves a claim out."""
        made = self.unbound(by, **changed)
        return authorization(with_secret(TOKEN_KEY, made), given or command(), BODY)

    def unbound(self, by: SigningKey | None = None, **changed: Any) -> str:
        """The same without a proof."""
        key = by or self.ours
        claims = {
            "iss": key.issuer,
            "sub": "billing",
            "org": ["acme"],
            "scope": "commands",
            "nbf": int(NOW),
            "exp": int(NOW + 60),
            **changed,
        }
        return signed(key.key, key.kid, {n: v for n, v in claims.items() if v is not None})


def signed(key: OKPKey, kid: str, claims: dict[str, Any], alg: str = "Ed25519") -> str:
    return jwt.encode({"alg": alg, "kid": kid}, claims, key, algorithms=["Ed25519", "EdDSA"])


def command(organization: str = "acme", **claimed: str) -> Envelope:
    return replace(envelope(key=organization), **{"id": "c1", **claimed})


@pytest.fixture
def harness() -> Harness:
    return Harness()


def why(authority: Authority, token: str, given: Envelope | None = None) -> str:
    with pytest.raises(Unauthorized) as refused:
        authority.verify(token, given or command(), BODY)
    if token:
        assert token not in str(refused.value)
    return str(refused.value)


def test_our_api_signs_with_the_name_of_its_caller(harness: Harness) -> None:
    asked = command(authtype="user", authid="ann")
    authority = harness.authority
    assert authority.verify(authority.sign(asked, BODY), asked, BODY) == asked


def test_the_claims_of_a_sender_about_itself_are_ignored(harness: Harness) -> None:
    proven = harness.authority.verify(harness.token(), command(authtype="user", authid="admin"), BODY)
    assert (proven.authtype, proven.authid) == ("service", "billing")


def test_a_token_signed_for_one_organization_is_no_good_in_another(harness: Harness) -> None:
    token = harness.authority.sign(command("acme", authtype="user", authid="ann"), BODY)
    assert "not valid for the organization 'umbrella'" in why(harness.authority, token, command("umbrella"))


def test_a_token_may_be_good_for_all_organizations(harness: Harness) -> None:
    asked = command("umbrella")
    assert harness.authority.verify(harness.token(org="*", given=asked), asked, BODY).authid == "billing"


def test_one_token_serves_a_caller_for_minutes(harness: Harness) -> None:
    authority, asked = harness.authority, command(authtype="user", authid="ann")
    first = authority.sign(asked, BODY)
    assert authority.sign(asked, BODY) == first
    assert authority.sign(asked, b"{}").partition("~")[0] == first.partition("~")[0]
    assert authority.sign(command(authtype="user", authid="bob"), BODY) != first
    harness.clock.now += REUSE_SECONDS
    assert authority.sign(asked, BODY) != first


def test_a_process_without_a_key_signs_nothing(harness: Harness) -> None:
    with pytest.raises(CannotSign, match="SIGNALBOX_SIGNING_KEY"):
        Authority(None, {}, TOKEN_KEY).sign(command(), BODY)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"exp": int(NOW)}, "has expired"),
        ({"exp": None}, "no valid time"),
        ({"exp": float("inf")}, "no valid time"),
        ({"exp": True}, "no valid time"),
        ({"nbf": int(NOW + 120)}, "not valid yet"),
        ({"scope": "metrics"}, "not for giving commands"),
        ({"scope": None}, "not for giving commands"),
        ({"org": ["umbrella"]}, "not valid for the organization 'acme'"),
        ({"org": "acme"}, "has no organizations"),
        ({"org": None}, "has no organizations"),
        ({"iss": "billing-team"}, "belongs to 'signalbox'"),
        ({"sub": None}, "has no subject"),
    ],
)
def test_a_token_that_does_not_say_enough_is_refused(
    harness: Harness, changed: dict[str, Any], reason: str
) -> None:
    assert reason in why(harness.authority, harness.token(**changed))


def test_a_command_without_a_token_is_refused(harness: Harness) -> None:
    assert "has no token" in why(harness.authority, "")


def test_a_key_that_is_not_trusted_is_refused(harness: Harness) -> None:
    assert "not trusted" in why(harness.authority, harness.token(signing()))


def test_a_stranger_that_uses_the_name_of_a_trusted_key_is_refused(harness: Harness) -> None:
    stranger = SigningKey(harness.ours.kid, harness.ours.issuer, keys.new_key())
    assert "signature" in why(harness.authority, harness.token(stranger))


def test_a_token_that_was_changed_is_refused(harness: Harness) -> None:
    header, payload, signature = harness.unbound().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    forged = base64.urlsafe_b64encode(json.dumps(claims | {"org": "*"}).encode()).decode().rstrip("=")
    assert "signature" in why(harness.authority, f"{header}.{forged}.{signature}", command("umbrella"))


def test_an_unsigned_token_is_refused(harness: Harness) -> None:
    _, payload, _ = harness.unbound().split(".")
    none = {"alg": "none", "kid": harness.ours.kid}
    header = base64.urlsafe_b64encode(json.dumps(none).encode()).decode().rstrip("=")
    assert "Ed25519, not 'none'" in why(harness.authority, f"{header}.{payload}.")


def test_a_public_key_does_not_serve_as_a_shared_secret(harness: Harness) -> None:
    x = base64.urlsafe_b64decode(str(harness.ours.key.as_dict()["x"]) + "==")
    forged = jwt.encode(
        {"alg": "HS256", "kid": harness.ours.kid},
        {"iss": "signalbox", "sub": "a", "org": "*", "scope": "commands", "exp": int(NOW + 60)},
        OctKey.import_key(x),
    )
    assert "Ed25519, not 'HS256'" in why(harness.authority, forged)


@pytest.mark.parametrize("text", ["x", "a.b.c", "....", "é" * 40, "{}", "a" * 9000])
def test_an_invalid_token_is_refused_in_a_sentence(harness: Harness, text: str) -> None:
    assert why(harness.authority, text)


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def test_the_older_name_of_the_algorithm_is_understood(harness: Harness) -> None:
    claims = {"iss": "signalbox", "sub": "billing", "org": ["acme"], "scope": "commands", "exp": int(NOW + 9)}
    made = with_secret(TOKEN_KEY, signed(harness.ours.key, harness.ours.kid, claims, alg="EdDSA"))
    token = authorization(made, command(), BODY)
    assert harness.authority.verify(token, command(), BODY).authid == "billing"


def test_another_issuer_speaks_for_services_in_its_organizations_alone(harness: Harness) -> None:
    assert (
        harness.authority.verify(harness.token(harness.billing, org="*"), command("acme"), BODY).authid
        == "billing"
    )
    everywhere = harness.token(harness.billing, org=["umbrella", "acme"])
    assert "not valid for the organization" in why(harness.authority, everywhere, command("umbrella"))
    as_ann = harness.token(harness.billing, authtype="user", authid="ann")
    assert "issues tokens for services only" in why(harness.authority, as_ann)


def test_a_known_token_still_expires_and_stays_bound_to_its_organization(harness: Harness) -> None:
    authority, token = harness.authority, harness.token()
    authority.verify(token, command(), BODY)
    assert "not valid for" in why(authority, token, command("umbrella"))
    harness.clock.now += 60
    assert "expired" in why(authority, token)


def test_a_command_that_waited_is_judged_by_when_it_was_handed_in(harness: Harness) -> None:
    authority, asked = harness.authority, command(authtype="user", authid="ann")
    token = authority.sign(asked, BODY)
    harness.clock.now += LIFE_SECONDS + 1
    assert "expired" in why(authority, token, asked)
    assert authority.verify(token, asked, BODY, at=NOW + 1) == asked


def test_the_keys_are_made_at_the_first_start_and_kept(tmp_path: Path) -> None:
    own, known = tmp_path / "signing.jwk", tmp_path / "trusted.jwks"
    first = open_authority(own, known)
    assert own.stat().st_mode & 0o777 == 0o600
    asked = command(authtype="user", authid="ann")
    again = open_authority(own, known)
    elsewhere = open_authority(None, known)
    for authority in (first, again, elsewhere):
        assert authority.verify(first.sign(asked, BODY), asked, BODY) == asked
    assert (tmp_path / "tokens.key").stat().st_mode & 0o777 == 0o600
    assert '"d"' not in known.read_text()


def test_a_key_is_trusted_and_no_longer_trusted_while_the_process_runs(tmp_path: Path) -> None:
    file, other, clock = tmp_path / "trusted.jwks", signing("billing-team"), Clock()
    made = issued(other, subject="billing", organizations=["acme"], now=NOW, seconds=60)
    token = authorization(with_secret(TOKEN_KEY, made), command(), BODY)
    public = OKPKey.import_key({**other.key.as_dict(private=False)})
    authority = Authority(None, TrustedKeys(file, clock), TOKEN_KEY, clock)
    assert "not trusted" in why(authority, token)

    assert keys.trust(file, TrustedKey(other.kid, "billing-team", None, "services", public))
    clock.now += keys.RELOAD_SECONDS
    assert authority.verify(token, command(), BODY).authid == "billing"

    keys.write_trusted(file, [])
    clock.now += keys.RELOAD_SECONDS
    assert "not trusted" in why(authority, token)


def test_a_key_that_is_trusted_serves_at_once(tmp_path: Path) -> None:
    secrets = tmp_path / "signing.jwk", tmp_path / "trusted.jwks"
    decider = open_authority(None, secrets[1])
    api = open_authority(*secrets)
    asked = command()
    assert decider.verify(api.sign(asked, BODY), asked, BODY).authid == asked.authid


def test_a_file_of_keys_that_broke_while_running_changes_nothing_and_is_reported(tmp_path: Path) -> None:
    own, file, clock = tmp_path / "signing.jwk", tmp_path / "trusted.jwks", Clock()
    token = open_authority(own, file).sign(command(authid="ann"), BODY)
    known = TrustedKeys(file, clock)
    authority = Authority(None, known, kept_text(tmp_path / "tokens.key"))
    file.write_text("{")
    clock.now += keys.RELOAD_SECONDS
    assert authority.verify(token, command(), BODY).authid == "ann"
    assert "not JSON" in known.trouble


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "not a JSON object"),
        ({"keys": {}}, "no list `keys`"),
        ({"keys": [{"kty": "RSA"}]}, "no Ed25519 key"),
        ({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "?"}]}, "no Ed25519 key"),
    ],
)
def test_a_set_of_keys_that_cannot_be_used_stops_the_start(
    tmp_path: Path, document: Any, reason: str
) -> None:
    file = tmp_path / "trusted.jwks"
    file.write_text(json.dumps(document))
    with pytest.raises(KeyFileError, match=reason):
        TrustedKeys(file)


def test_a_private_key_is_not_taken_among_the_trusted_ones(tmp_path: Path) -> None:
    document = keys.private_document(keys.new_key(), "billing-team") | {"organizations": ["acme"]}
    with pytest.raises(KeyFileError, match="private key"):
        keys.trusted_key(document, "the key")


OTHER: dict[str, tuple[dict[str, str], bytes]] = {
    "id": ({"id": "another"}, BODY),
    "type": ({"type": "io.signalbox.api.command.delete.v1"}, BODY),
    "subject": ({"subject": "organizations/acme/apis/other"}, BODY),
    "data": ({}, b'{"name": "theirs"}'),
}


@pytest.mark.parametrize("other", OTHER)
def test_a_token_that_is_read_on_the_topic_gives_no_other_command(harness: Harness, other: str) -> None:
    # Given a command with the token of a service, and one of our API's
    authority, changed, body = harness.authority, *OTHER[other]
    read = [harness.token(), authority.sign(command(authtype="user", authid="ann"), BODY)]
    for token in read:
        assert authority.verify(token, command(), BODY)
        # When the same token, or the JWT in it, is sent with another command, then it is refused
        stolen = replace(command(), **changed)
        with pytest.raises(Unauthorized, match="bound to another command"):
            authority.verify(token, stolen, body)
        with pytest.raises(Unauthorized, match="bound to no command"):
            authority.verify(token.partition("~")[0], stolen, body)


def test_a_token_whose_secret_is_not_its_own_is_refused(harness: Harness) -> None:
    theirs = with_secret("another key", harness.unbound())
    assert "made with another secret" in why(harness.authority, authorization(theirs, command(), BODY))
    assert "made with another secret" in why(harness.authority, harness.unbound() + "~é")


def test_an_issuer_may_name_the_command_in_the_token_itself(harness: Harness) -> None:
    token = harness.unbound(harness.billing, command=digest(command(), BODY))
    assert harness.authority.verify(token, command(), BODY).authid == "billing"
    assert "another command" in why(harness.authority, token, command(id="another"))
    assert "no SHA-256" in why(harness.authority, harness.unbound(command="orders"))


def test_a_token_without_a_proof_is_taken_only_where_the_operator_allows_it(harness: Harness) -> None:
    bearer = replace(trusted(harness.billing, "acme"), bearer=True)
    authority = Authority(None, {bearer.kid: bearer}, TOKEN_KEY, harness.clock)
    unbound = harness.unbound(harness.billing)
    assert "bound to no command" in why(harness.authority, unbound)
    assert authority.verify(unbound, command(), BODY).authid == "billing"
    # A proof that is there is checked all the same.
    assert "another command" in why(authority, harness.token(harness.billing), command(id="another"))


def test_tokens_signed_by_our_api_need_their_proof_also_where_plain_tokens_are_accepted(
    harness: Harness,
) -> None:
    own = replace(own_trusted(harness.ours), bearer=True)
    authority = Authority(harness.ours, {own.kid: own}, TOKEN_KEY, harness.clock)
    assert authority.verify(harness.unbound(), command(), BODY).authid == "billing"
    asked = command(authtype="user", authid="ann")
    token = authority.sign(asked, BODY).partition("~")[0]
    assert "bound to no command" in why(authority, token, asked)


def test_the_permission_is_kept_with_the_key(tmp_path: Path) -> None:
    file, key = tmp_path / "trusted.jwks", trusted(signing("billing-team"), "acme")
    public = replace(key, key=OKPKey.import_key({**key.key.as_dict(private=False)}))
    keys.write_trusted(file, [replace(public, bearer=True)])
    assert keys.read_trusted(file)[key.kid].bearer
    keys.write_trusted(file, [public])
    assert not keys.read_trusted(file)[key.kid].bearer
    assert "bearer" not in file.read_text()
