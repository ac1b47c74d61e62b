"""Commands over HTTP."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote, urlsplit

import httpx
import orjson

from schemas.codecs.canonical import digest
from schemas.envelope import Envelope
from schemas.outcome import Complaint, Outcome
from signalbox_client.answers import REUSED, MessageTooLarge, Rejected
from signalbox_client.transport import Unreachable

LARGEST = 10 * 1024 * 1024
"""Bytes of a body that the server accepts."""

LONGEST_WAIT = 60.0
CONNECTIONS = 16
"""Requests in flight; further ones wait."""

MARGIN_SECONDS = 5.0
REQUEST_SECONDS = 30.0
_POLLS = (0.05, 0.1, 0.2, 0.5)
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_PRINTABLE = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')


class HttpTransport:
    """Implements `signalbox_client.transport.Transport`."""

    def __init__(self, url: str, token: str, organization: str) -> None:
        """Raises ValueError for a URL that is not an HTTP address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an HTTP address; give one like http://127.0.0.1:8080")
        self._url = url.rstrip("/")
        self._organization = organization
        self._http = httpx.AsyncClient(
            base_url=f"{self._url}/api/v1",
            headers={"authorization": f"Bearer {token}"} if token else {},
            limits=httpx.Limits(max_connections=CONNECTIONS),
            # A proxy of the environment is not for connections to this machine.
            trust_env=parts.hostname not in ("127.0.0.1", "localhost", "::1"),
        )

    async def start(self) -> None:
        """Connections are opened with the first command."""

    async def close(self) -> None:
        await self._http.aclose()

    async def send(self, envelope: Envelope, seconds: float, *, again: bool) -> Outcome | None:
        body = orjson.dumps(envelope.data)
        if len(body) > LARGEST:
            raise MessageTooLarge(
                f"A command of {len(body):,} bytes is too large; the server takes {LARGEST:,}."
            )
        headers = {**_headers(envelope), "content-type": "application/json"}
        wait = min(seconds, LONGEST_WAIT)
        if wait > 0:
            headers["prefer"] = f"wait={max(1, int(wait))}"
        request = self._http.build_request(
            "POST",
            f"/organizations/{quote(self._organization, safe='')}/commands",
            content=body,
            headers=headers,
            timeout=httpx.Timeout(wait + MARGIN_SECONDS, pool=None),
        )
        try:
            return _outcome(await self._ask(envelope.id, request), digest(envelope.data))
        except _StillRunning:
            return None

    async def answer(self, id: str, seconds: float) -> Outcome | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        polls = iter(_POLLS)
        while True:
            request = self._http.build_request(
                "GET",
                f"/operations/{quote(id, safe='')}",
                params={"organization": self._organization},
                timeout=httpx.Timeout(REQUEST_SECONDS, pool=None),
            )
            try:
                outcome = _outcome(await self._ask(id, request), "")
            except Rejected as refused:
                if refused.rule != "not-found":
                    raise
                outcome = None  # the server has not received it yet
            pause = next(polls, _POLLS[-1])
            if outcome is not None or loop.time() + pause > deadline:
                return outcome
            await asyncio.sleep(pause)

    async def _ask(self, id: str, request: httpx.Request) -> Any:
        """The JSON of the answer. Raises Rejected, Unreachable, _StillRunning."""
        try:
            answer = await self._http.send(request)
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"no answer from {self._url} ({reason})") from error
        content = _json(answer)
        if answer.is_success:
            if content is None and answer.content:
                raise Unreachable(f"the answer of {self._url} is not JSON: is it the address of a Signalbox?")
            return content
        raise _reason(id, answer.status_code, _object(content))


class _StillRunning(Exception):
    """The command is on the log, and not decided."""


def _headers(envelope: Envelope) -> dict[str, str]:
    """Binary mode: the attributes as headers, percent-encoded as the HTTP binding says (section 3.1.3.2)."""
    return {
        f"ce-{name}": quote(value, safe=_PRINTABLE)
        for name, value in envelope.attributes().items()
        if name != "datacontenttype"
    }


def _json(answer: httpx.Response) -> Any:
    """None when the answer is empty or not JSON."""
    try:
        return orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return None


def _object(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _reason(id: str, status: int, problem: Mapping[str, Any]) -> Exception:
    """The error for a problem (RFC 9457)."""
    rule = _rule(problem)
    message = str(problem.get("detail") or problem.get("title") or f"the server answered {status}")
    if rule == "still-running":
        return _StillRunning()
    if status in _PASSING:
        return Unreachable(message)
    return Rejected(id, REUSED if rule == "idempotency-key-reused" else rule, message, _complaints(problem))


def _rule(problem: Mapping[str, Any]) -> str:
    return str(problem.get("type", "")).rpartition("/")[2]


def _complaints(problem: Mapping[str, Any]) -> tuple[Complaint, ...]:
    return tuple(
        Complaint(pointer=str(e.get("pointer", "")), detail=str(e.get("detail", "")))
        for e in problem.get("errors") or ()
    )


def _outcome(operation: Any, digest_: str) -> Outcome | None:
    """The outcome in the API's representation of a command; None while it is not decided."""
    fields = _object(operation)
    if fields.get("state") not in ("accepted", "rejected"):
        return None
    problem = _object(fields.get("problem"))
    return Outcome(
        organization=fields["organization"],
        name=fields["id"],
        command=fields["command"],
        subject=fields["subject"],
        digest=fields.get("digest", digest_),
        accepted=fields["state"] == "accepted",
        requested_at=fields["requested_at"],
        decided_at=fields["decided_at"],
        position=fields["position"],
        events=fields["events"],
        version=fields["version"],
        rule=_rule(problem),
        message=str(problem.get("detail", "")),
        errors=_complaints(problem),
    )
