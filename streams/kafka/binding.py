"""Tokens bound to one command: who reads a command on its topic can give no other one with its token.

A service is given `JWT~SECRET`. With a command it sends `JWT~PROOF`, where the proof is an HMAC-SHA-256 (64
hexadecimal digits) with the secret over what the command says. The secret itself never travels: it follows
from the JWT and from `tokens.key`, which deciders have.
"""

import hashlib
import hmac

from schemas.envelope import Envelope

SEPARATOR = "~"
VERSION = "signalbox-command-v1"
TOKEN_KEY = "tokens.key"


def secret_of(token_key: str, token: str) -> str:
    """The secret that goes with a JWT: 64 hexadecimal digits."""
    return hmac.digest(token_key.encode(), token.encode(), "sha256").hex()


def with_secret(token_key: str, token: str) -> str:
    """A JWT as it is handed to a service: with its secret."""
    return f"{token}{SEPARATOR}{secret_of(token_key, token)}"


def digest(envelope: Envelope, body: bytes) -> str:
    """SHA-256 (hexadecimal) of what a command says: the lines that `docs/publishing-commands.md` names.

    `body` are the data as they travel.
    """
    return hashlib.sha256(_text(envelope, body)).hexdigest()


def proof(secret: str, envelope: Envelope, body: bytes) -> str:
    """That whoever gives the command knows the secret."""
    return hmac.digest(secret.encode(), _text(envelope, body), "sha256").hex()


def authorization(handed: str, envelope: Envelope, body: bytes) -> str:
    """The attribute `authorization` of a command, for a token as it was handed out.

    A token without a secret is sent as it is.
    """
    token, _, secret = handed.partition(SEPARATOR)
    return f"{token}{SEPARATOR}{proof(secret, envelope, body)}" if secret else handed


def _text(envelope: Envelope, body: bytes) -> bytes:
    said = (VERSION, envelope.partitionkey, envelope.id, envelope.type, envelope.subject)
    return "\n".join((*said, hashlib.sha256(body).hexdigest())).encode()
