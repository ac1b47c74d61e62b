"""The exchange that RFC 7677 shows, and servers that do not know the password."""

import pytest

from signalbox.devservers.kafka.scram import Scram, ScramFailed

NONCE = "rOprNGfwEbeRWgbNEkqO"
CHALLENGE = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
PROOF = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
PROOF += b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SIGNATURE = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def exchange() -> Scram:
    scram = Scram("user", "pencil", NONCE)
    assert scram.first() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert scram.final(CHALLENGE) == PROOF
    return scram


def test_the_exchange_of_the_rfc() -> None:
    exchange().verify(SIGNATURE)


def test_a_server_that_does_not_know_the_password_is_refused() -> None:
    with pytest.raises(ScramFailed, match="does not prove"):
        exchange().verify(SIGNATURE.replace(b"6rri", b"7rri"))


@pytest.mark.parametrize("challenge", [b"", b"r=other,s=AA==,i=4096", b"r=%b,s=AA==,i=0" % NONCE.encode()])
def test_a_challenge_that_is_none_is_refused(challenge: bytes) -> None:
    with pytest.raises(ScramFailed, match="challenge"):
        Scram("user", "pencil", NONCE).final(challenge)
