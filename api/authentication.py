"""Authentication of callers by bearer tokens (RFC 6750), which are compared by SHA-256."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Problem
from schemas.codecs.canonical import sha256_hex

PUBLIC = frozenset({"/", "/healthz/live", "/healthz/ready", "/openapi.json", "/asyncapi.json", "/schemas"})
PUBLIC_BELOW = "/schemas/"
"""Paths that need no token, and the prefix of others."""

SCOPE_KEY = "signalbox.principal"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. `organizations` is None when it may see all of them."""

    name: str
    organizations: frozenset[str] | None = None
    roles: frozenset[str] = frozenset()

    def may_access(self, organization: str) -> bool:
        return self.organizations is None or organization in self.organizations


class Authenticator(Protocol):
    """Identifies callers by their tokens."""

    def principal(self, token: str) -> Principal | None:
        """The caller with this token; None if there is none."""
        ...


class DigestAuthenticator:
    """Callers by the SHA-256 of their tokens. Every digest is compared, each in constant time, so
    that the duration does not depend on the token."""

    def __init__(self, principals: Mapping[str, Principal]) -> None:
        self._principals = {digest.encode(): principal for digest, principal in principals.items()}

    def principal(self, token: str) -> Principal | None:
        given = sha256_hex(token.encode("utf-8", "surrogateescape")).encode()
        found = None
        for digest, principal in self._principals.items():
            if hmac.compare_digest(digest, given):
                found = principal
        return found


class FileTokenAuthenticator(DigestAuthenticator):
    """The administrator's token, read once from a file such as `DIR/admin.token`.

    Raises OSError when the file cannot be read, ValueError when it is empty.
    """

    def __init__(self, path: Path, principal: Principal | None = None) -> None:
        token = path.read_text("utf-8").strip()
        if not token:
            raise ValueError(f"{path} holds no token")
        admin = principal or Principal("admin", None, frozenset({"admin"}))
        super().__init__({sha256_hex(token.encode()): admin})


class Authentication:
    """ASGI: refuses requests without a valid token, except to the public paths."""

    def __init__(self, app: ASGIApp, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path not in PUBLIC and not path.startswith(PUBLIC_BELOW):
            scope[SCOPE_KEY] = self._caller(scope)
        await self._app(scope, receive, send)

    def _caller(self, scope: Scope) -> Principal:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if not given:
            raise _unauthorized("Send `Authorization: Bearer <token>`.", "")
        scheme, _, token = given[0].decode("latin-1").partition(" ")
        if len(given) > 1 or scheme.lower() != "bearer" or not token.strip():
            raise _unauthorized("Send one `Authorization: Bearer <token>`.", ', error="invalid_request"')
        principal = self._authenticator.principal(token.strip())
        if principal is None:
            raise _unauthorized("The token is not valid.", ', error="invalid_token"')
        return principal


def _unauthorized(detail: str, error: str) -> Problem:
    return Problem(
        401, "unauthorized", detail, headers={"WWW-Authenticate": f'Bearer realm="signalbox"{error}'}
    )
