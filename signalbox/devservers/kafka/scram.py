"""The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding."""

import base64
import hmac
import secrets
from hashlib import pbkdf2_hmac, sha256


class ScramFailed(Exception):
    """The server rejected the user, or did not prove that it has the password."""


class Scram:
    """One authentication: `first`, then `final` with the server's challenge, then `verify` with its last
    message."""

    MECHANISM = "SCRAM-SHA-256"

    def __init__(self, username: str, password: str, nonce: str = "") -> None:
        """`username` and `password` are ASCII; the nonce is random when none is given."""
        self._password = password.encode()
        self._nonce = nonce or secrets.token_hex(16)
        self._first = f"n={username.replace('=', '=3D').replace(',', '=2C')},r={self._nonce}"
        self._server_signature = b""

    def first(self) -> bytes:
        return f"n,,{self._first}".encode()

    def final(self, challenge: bytes) -> bytes:
        """Raises ScramFailed."""
        try:
            text = challenge.decode()
            fields = dict(part.split("=", 1) for part in text.split(","))
            nonce, salt, iterations = fields["r"], base64.b64decode(fields["s"]), int(fields["i"])
        except (ValueError, KeyError) as error:
            raise ScramFailed("the server's challenge cannot be read") from error
        if not nonce.startswith(self._nonce) or iterations < 1:
            raise ScramFailed("the server's challenge does not belong to this authentication")
        without_proof = f"c=biws,r={nonce}"
        signed = f"{self._first},{text},{without_proof}".encode()
        salted = pbkdf2_hmac("sha256", self._password, salt, iterations)
        client = _mac(salted, b"Client Key")
        proof = bytes(a ^ b for a, b in zip(client, _mac(sha256(client).digest(), signed), strict=True))
        self._server_signature = _mac(_mac(salted, b"Server Key"), signed)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, final: bytes) -> None:
        """Raises ScramFailed when the server does not prove that it has the password."""
        proof = b"v=" + base64.b64encode(self._server_signature)
        if not hmac.compare_digest(final.split(b",")[0], proof):
            raise ScramFailed("the server does not prove that it has the password")


def _mac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")
