"""`signalbox token`: services get tokens that the decider takes."""

import json
from pathlib import Path
from time import time

import pytest

from schemas.envelope import Envelope
from streams.kafka.security.authority import Authority, Unauthorized, issued, open_authority
from streams.kafka.security.binding import authorization
from streams.kafka.security.keys import signing_key
from tests.signalbox.conftest import Run
from tests.streams.envelopes import envelope

DATA = Path(".signalbox")


def decider() -> Authority:
    """The keys as a decider that starts now loads them."""
    return open_authority(None, DATA / "trusted.jwks")


def proven(token: str, command: Envelope) -> Envelope:
    """The command, given with a token as it is handed out."""
    return verified(decider(), token, command)


def verified(authority: Authority, token: str, command: Envelope) -> Envelope:
    return authority.verify(authorization(token, command, b"{}"), command, b"{}")


def test_a_token_made_here_is_taken_by_the_decider(bare: Run, outside: Path) -> None:
    made = bare("token", "create", "--organization", "acme", "--subject", "billing", "--expires", "90d")
    assert made.code == 0, made.err
    assert made.out.count("\n") == 1
    given = proven(made.out.strip(), envelope(key="acme"))
    assert (given.authtype, given.authid) == ("service", "billing")
    with pytest.raises(Unauthorized, match="umbrella"):
        proven(made.out.strip(), envelope(key="umbrella"))
    assert "expires in 90d" in made.err


def test_a_token_for_everywhere_has_to_be_asked_for(bare: Run, outside: Path) -> None:
    refused = bare("token", "create", "--subject", "billing")
    assert refused.code == 3
    assert "--organization" in refused.err
    made = bare("token", "create", "--organization", "*", "--subject", "billing")
    assert proven(made.out.strip(), envelope(key="umbrella")).authid == "billing"


@pytest.mark.parametrize("span", ["", "90", "0d", "-1d", "soon", "1y"])
def test_a_span_that_is_none_is_refused(bare: Run, outside: Path, span: str) -> None:
    refused = bare("token", "create", "--organization", "acme", "--subject", "billing", "--expires", span)
    assert refused.code == 3
    assert "90d" in refused.err
    assert refused.out == ""


def test_another_issuer_signs_with_its_own_key_once_it_is_trusted(bare: Run, outside: Path) -> None:
    made = bare("token", "key", "--issuer", "identity", "--out", "identity.jwk")
    assert made.code == 0, made.err
    assert "d" not in json.loads(made.out)  # the private part
    assert Path("identity.jwk").stat().st_mode & 0o777 == 0o600
    token = bare(
        "token", "create", "--key", "identity.jwk", "--organization", "acme", "--subject", "billing"
    ).out.strip()
    with pytest.raises(Unauthorized, match="not trusted"):
        proven(token, envelope(key="acme"))

    Path("identity.public.jwk").write_text(made.out)
    trusted = bare("token", "trust", "identity.public.jwk", "--organization", "acme")
    assert trusted.code == 0, trusted.err
    assert proven(token, envelope(key="acme")).authid == "billing"

    kid = json.loads(made.out)["kid"]
    assert kid in bare("token", "keys").out
    assert bare("token", "distrust", kid).code == 0
    with pytest.raises(Unauthorized, match="not trusted"):
        proven(token, envelope(key="acme"))


def test_the_id_of_a_key_may_begin_with_a_hyphen(bare: Run, outside: Path) -> None:
    kid = "-OTB0g4ULNmJuKGI1sHw7ci3KHpVzj4Dh2gRa5G69Qw"
    for words in (["distrust", kid], ["bearer", kid, "--off"], ["bearer", "--off", "--", kid]):
        answer = bare("token", *words)
        assert (answer.code, f"there is no key '{kid}'" in answer.err) == (1, True), answer.err


def test_a_key_is_never_overwritten(bare: Run, outside: Path) -> None:
    bare("token", "key", "--issuer", "identity", "--out", "identity.jwk")
    before = Path("identity.jwk").read_bytes()
    again = bare("token", "key", "--issuer", "identity", "--out", "identity.jwk")
    assert again.code == 1
    assert "never overwritten" in again.err
    assert Path("identity.jwk").read_bytes() == before


def test_a_private_key_is_not_taken_for_a_public_one(bare: Run, outside: Path) -> None:
    bare("token", "key", "--issuer", "identity", "--out", "identity.jwk")
    refused = bare("token", "trust", "identity.jwk", "--organization", "acme")
    assert refused.code == 1
    assert "private key" in refused.err
    assert not (DATA / "trusted.jwks").exists()


def test_the_keys_are_where_the_settings_say(
    bare: Run, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNALBOX_SIGNING_KEY", "elsewhere/own.jwk")
    monkeypatch.setenv("SIGNALBOX_TRUSTED_KEYS", "elsewhere/known.jwks")
    token = bare("token", "create", "--organization", "acme", "--subject", "billing").out.strip()
    known = open_authority(None, Path("elsewhere/known.jwks"), DATA / "tokens.key")
    assert verified(known, token, envelope(key="acme")).authid == "billing"
    assert [file.name for file in DATA.iterdir()] == ["tokens.key"]


def test_a_token_of_another_issuer_is_bound_with_a_secret_of_ours_or_taken_as_it_is(
    bare: Run, outside: Path
) -> None:
    # Given a token that another issuer made without us
    made = bare("token", "key", "--issuer", "identity", "--out", "identity.jwk")
    Path("identity.public.jwk").write_text(made.out)
    assert bare("token", "trust", "identity.public.jwk", "--organization", "acme").code == 0
    own = signing_key(Path("identity.jwk"))
    theirs = issued(own, subject="billing", organizations=["acme"], now=time(), seconds=60)
    with pytest.raises(Unauthorized, match="bound to no command"):
        proven(theirs, envelope(key="acme"))
    # When it is given a secret, then its service can prove its commands
    Path("theirs.jwt").write_text(theirs)
    bound = bare("token", "bind", "theirs.jwt")
    assert proven(bound.out.strip(), envelope(key="acme")).authid == "billing"
    # When the operator allows it, then it is taken without
    assert bare("token", "bearer", own.kid).code == 0
    assert "bearer" in bare("token", "keys").out
    assert proven(theirs, envelope(key="acme")).authid == "billing"
    assert bare("token", "bearer", own.kid, "--off").code == 0
    with pytest.raises(Unauthorized, match="bound to no command"):
        proven(theirs, envelope(key="acme"))
    assert bare("token", "bearer", "unknown").code == 1
    assert bare("token", "bind", "identity.public.jwk").code == 1
