"""Binds tokens to one command, so that readers of the topic cannot use them for other commands.

A service gets `JWT~SECRET`. With a command it sends `JWT~PROOF`, where the proof is an HMAC-SHA-256 (64
hexadecimal digits) with the secret over the content of the command. The secret is never sent: it is derived
from the JWT and from `tokens.key`, which deciders have.
"""

import hashlib
import hmac
from functools import lru_cache

from schemas.envelope import Envelope

SEPARATOR = "~"
VERSION = "signalbox-command-v1"
TOKEN_KEY = "tokens.key"
MOST_KEYED = 1_000


def secret_of(token_key: str, token: str) -> str:
    """The secret of a JWT: 64 hexadecimal digits."""
    return hmac.digest(token_key.encode(), token.encode(), "sha256").hex()


def with_secret(token_key: str, token: str) -> str:
    """A JWT with its secret, as issued to a service."""
    return f"{token}{SEPARATOR}{secret_of(token_key, token)}"


def digest(envelope: Envelope, body: bytes) -> str:
    """SHA-256 (hexadecimal) of the content of a command: the lines in `docs/publishing-commands.md`.

    `body`: the data as sent.
    """
    return hashlib.sha256(_text(envelope, body)).hexdigest()


def proof(secret: str, envelope: Envelope, body: bytes) -> str:
    """The proof that the sender of the command has the secret."""
    keyed = _keyed(secret).copy()
    keyed.update(_text(envelope, body))
    return keyed.hexdigest()


@lru_cache(MOST_KEYED)
def _keyed(secret: str) -> hmac.HMAC:
    """Copied for each proof: a token has the same secret with every command."""
    return hmac.new(secret.encode(), digestmod="sha256")


def authorization(handed: str, envelope: Envelope, body: bytes) -> str:
    """The attribute `authorization` of a command, for a token as issued.

    A token without a secret is sent unchanged.
    """
    token, _, secret = handed.partition(SEPARATOR)
    return f"{token}{SEPARATOR}{proof(secret, envelope, body)}" if secret else handed


def _text(envelope: Envelope, body: bytes) -> bytes:
    signed = (VERSION, envelope.partitionkey, envelope.id, envelope.type, envelope.subject)
    return "\n".join((*signed, hashlib.sha256(body).hexdigest())).encode()
