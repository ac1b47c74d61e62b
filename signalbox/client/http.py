"""Commands over HTTP, through the command line's client."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import orjson

from schemas.canonical import digest
from schemas.envelope import Envelope
from schemas.outcome import Complaint, Outcome
from signalbox.cli.client import Answer, Client, Refused, path
from signalbox.cli.connection import Connection
from signalbox.cli.documents import documents, is_object
from signalbox.cli.failure import Failure
from signalbox.client.answers import REUSED, Rejected
from signalbox.client.transport import Unreachable
from streams.log import MessageTooLarge

T = TypeVar("T")

LARGEST = 10 * 1024 * 1024
"""Bytes of a body that the server takes."""

LONGEST_WAIT = 60.0
AT_ONCE = 16
"""Requests under way; further ones wait."""

MARGIN_SECONDS = 5.0
_POLLS = (0.05, 0.1, 0.2, 0.5)
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_PRINTABLE = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')


class HttpTransport:
    """Implements `signalbox.client.transport.Transport`."""

    def __init__(self, url: str, token: str, organization: str) -> None:
        self._client = Client(Connection(url.rstrip("/"), organization, token))
        self._threads = ThreadPoolExecutor(AT_ONCE, "signalbox-client")

    async def start(self) -> None:
        """Nobody is asked before there is a command."""

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def send(self, envelope: Envelope, seconds: float, *, again: bool) -> Outcome | None:
        size = len(orjson.dumps(envelope.data))
        if size > LARGEST:
            raise MessageTooLarge(f"A command of {size:,} bytes is too large; the server takes {LARGEST:,}.")
        headers = _headers(envelope)
        wait = min(seconds, LONGEST_WAIT)
        if wait > 0:
            headers["prefer"] = f"wait={max(1, int(wait))}"
        try:
            answer = await self._ask(
                envelope.id,
                partial(
                    self._client.ask,
                    "POST",
                    self._client.organization("commands"),
                    envelope.data,
                    headers,
                    wait + MARGIN_SECONDS,
                ),
            )
        except _StillRunning:
            return None
        return _outcome(answer.body, digest(envelope.data))

    async def answer(self, id: str, seconds: float) -> Outcome | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        polls = iter(_POLLS)
        asked = {"organization": self._client.connection.organization}
        while True:
            try:
                answer = await self._ask(id, partial(self._client.get, path("operations", id), asked))
            except Rejected as refused:
                if refused.rule != "not-found":
                    raise
                outcome = None  # not handed in yet, as far as the server knows
            else:
                outcome = _outcome(answer.body, "")
            pause = next(polls, _POLLS[-1])
            if outcome is not None or loop.time() + pause > deadline:
                return outcome
            await asyncio.sleep(pause)

    async def _ask(self, id: str, work: Callable[[], Answer]) -> Answer:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except Refused as refused:
            raise _reason(id, refused) from refused
        except Failure as failure:
            raise Unreachable(failure.message) from failure


class _StillRunning(Exception):
    """The command is on the log, and not decided."""


def _headers(envelope: Envelope) -> dict[str, str]:
    """Binary mode: the attributes as headers, percent-encoded as the HTTP binding says (section 3.1.3.2)."""
    return {
        f"ce-{name}": quote(value, safe=_PRINTABLE)
        for name, value in envelope.attributes().items()
        if name != "datacontenttype"
    }


def _reason(id: str, refused: Refused) -> Exception:
    if refused.rule == "still-running":
        return _StillRunning()
    if refused.status in _PASSING:
        return Unreachable(refused.message)
    rule = REUSED if refused.rule == "idempotency-key-reused" else refused.rule
    return _rejected(id, rule, refused.problem, refused.message)


def _rejected(id: str, rule: str, problem: Mapping[str, Any], otherwise: str) -> Rejected:
    return Rejected(id, rule, str(problem.get("detail") or otherwise), _complaints(problem))


def _complaints(problem: Mapping[str, Any]) -> tuple[Complaint, ...]:
    return tuple(
        Complaint(pointer=str(e.get("pointer", "")), detail=str(e.get("detail", "")))
        for e in documents(problem.get("errors"))
    )


def _outcome(operation: Any, digest_: str) -> Outcome | None:
    """The outcome in what the API says of a command; None while it is not decided."""
    if not is_object(operation) or operation.get("state") not in ("accepted", "rejected"):
        return None
    known: object = operation.get("problem")
    problem: Mapping[str, Any] = known if is_object(known) else {}
    return Outcome(
        organization=operation["organization"],
        name=operation["id"],
        command=operation["command"],
        subject=operation["subject"],
        digest=digest_,
        accepted=operation["state"] == "accepted",
        requested_at=operation["requested_at"],
        decided_at=operation["decided_at"],
        position=operation["position"],
        events=operation["events"],
        version=operation["version"],
        rule=str(problem.get("type", "")).rpartition("/")[2],
        message=str(problem.get("detail", "")),
        errors=_complaints(problem),
    )
