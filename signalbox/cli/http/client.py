"""The HTTP client of the command line. Standard library only, so that it starts fast."""

import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode

from signalbox.cli.failure import Failure
from signalbox.cli.http.connection import Connection, local_token
from signalbox.cli.http.documents import Document, documents, is_object
from signalbox.cli.http.sending import Interrupted, opener

SECONDS = 30.0
PAGE = 500


class Refused(Failure):
    """The server answered with a problem (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any], hint: str = "") -> None:
        self.status = status
        self.problem = problem
        self.rule = str(problem.get("type", "")).rpartition("/")[2]
        self.errors = documents(problem.get("errors"))
        message = str(problem.get("detail") or problem.get("title") or f"the server answered {status}")
        places = [_place(error) for error in self.errors]
        super().__init__(
            "\n  ".join([message, *(p for p in places if p.partition(": ")[2] not in message)]), hint
        )


def _place(error: Mapping[str, Any]) -> str:
    where = error.get("pointer") or error.get("parameter") or ""
    return f"{where}: {error.get('detail', '')}"


class NoAnswer(Failure):
    """The request was sent, as far as is known, and may have been handled."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is the decoded JSON of the answer; None without a body."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def etag(self) -> str:
        return self.headers.get("etag", "")


class Client:
    """Safe to use from several threads. Paths are relative to `/api/v1`, quoted by `path`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        # Proxies of the environment are not used for requests to this machine.
        proxies = urllib.request.ProxyHandler({}) if connection.local else urllib.request.ProxyHandler()
        self._opener = opener(proxies)

    def organization(self, *parts: str) -> str:
        return path("organizations", self.connection.organization, *parts)

    def get(self, where: str, query: Mapping[str, str | None] | None = None, **headers: str) -> Answer:
        asked = urlencode({k: v for k, v in (query or {}).items() if v is not None})
        return self.ask("GET", f"{where}?{asked}" if asked else where, headers=headers)

    def items(
        self, where: str, query: Mapping[str, str | None] | None = None, most: int | None = None
    ) -> Iterator[Document]:
        """The items of a list, page by page, at most `most`."""
        cursor: str | None = None
        left = most
        while True:
            limit = str(PAGE if left is None else min(PAGE, left))
            page = self.get(where, {**(query or {}), "limit": limit, "cursor": cursor}).body
            yield from page["items"]
            cursor = page.get("next_cursor")
            if left is not None:
                left -= len(page["items"])
            if cursor is None or (left is not None and left <= 0):
                return

    def ask(
        self,
        method: str,
        where: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = SECONDS,
    ) -> Answer:
        """Raises Refused for a problem, Failure when there is no (usable) answer."""
        sent = {"accept": "application/json, application/cloudevents-batch+json", **(headers or {})}
        if self.connection.token:
            sent["authorization"] = f"Bearer {self.connection.token}"
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            sent["content-type"] = "application/json"
        url = f"{self.connection.url}/api/v1{where}"
        request = urllib.request.Request(url, content, sent, method=method)
        return self._accepted(request, seconds, len(content or b""))

    def page(self, where: str, seconds: float = SECONDS) -> Answer:
        """The page at `where`, outside of `/api/v1`. Raises Refused, Failure."""
        accept = {"accept": "application/json"}
        request = urllib.request.Request(f"{self.connection.url}{where}", headers=accept)
        return self._accepted(request, seconds)

    def reachable(self, seconds: float = 2.0) -> Answer:
        """The server's readiness. Raises Failure when there is no answer."""
        request = urllib.request.Request(f"{self.connection.url}/healthz/ready")
        answer = self._sent(request, seconds)
        return Answer(answer.status, {}, answer.body.decode(errors="replace"))

    def _accepted(self, request: urllib.request.Request, seconds: float, size: int = 0) -> Answer:
        answer = self._sent(request, seconds, size)
        if not 200 <= answer.status < 300:
            raise self._refused(answer.status, answer.body)
        return _decoded(answer)

    def _sent(self, request: urllib.request.Request, seconds: float, size: int = 0) -> Answer:
        """The answer of any status, with its body as bytes. `size` is that of the request's body. Raises
        Failure when there is no answer."""
        try:
            with self._opener.open(request, timeout=seconds) as response:
                return Answer(response.status, dict(response.headers.items()), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers.items()), error.read())
        except (urllib.error.URLError, HTTPException, OSError) as error:
            raise self._unreachable(error, size) from error

    def _refused(self, status: int, content: bytes) -> Refused:
        try:
            problem: Any = json.loads(content)
        except ValueError:
            problem = None
        known: Mapping[str, Any] = problem if is_object(problem) else {}
        hints = {
            401: "set SIGNALBOX_TOKEN, choose a --profile, or run this where `signalbox up` runs "
            f"(it keeps the token in {local_token(os.environ)}; SIGNALBOX_DATA names its data directory)",
            403: f"the token is not for organization {self.connection.organization!r}; set SIGNALBOX_ORG",
            503: "this is temporary; try again in a moment, or run `signalbox doctor`",
        }
        if status >= 500:
            hints.setdefault(status, "see the server's log; `signalbox doctor` looks for the cause")
        if status == 401 and not self.connection.token:
            known = {**known, "detail": "the server requires a token, and there is none"}
        return Refused(status, known, hints.get(status, ""))

    def _unreachable(self, error: Exception, sent: int = 0) -> Failure:
        if isinstance(error, Interrupted):
            return Failure(
                f"{self.connection.url} closed the connection while a request of {sent:,} bytes was sent",
                "it may be too large, or the server stopped: send fewer or smaller files, and see its log",
            )
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        description = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        kind = Failure if isinstance(reason, ConnectionRefusedError | socket.gaierror) else NoAnswer
        return kind(
            f"no answer from {self.connection.url} ({description.lower()})",
            "is `signalbox up` running? If it listens elsewhere, set SIGNALBOX_URL",
        )


def _decoded(answer: Answer) -> Answer:
    named = {name.lower(): value for name, value in answer.headers.items()}
    try:
        return Answer(answer.status, named, json.loads(answer.body) if answer.body else None)
    except ValueError as error:
        raise Failure(
            f"the server's answer is not JSON ({named.get('content-type', 'of no type')})",
            "is SIGNALBOX_URL the address of a Signalbox?",
        ) from error


def path(*parts: str) -> str:
    return "".join("/" + quote(part, safe="") for part in parts)
