"""The register over HTTP: as a batch of CloudEvents, or live as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from api.endpoint import Call
from api.preconditions import parse_position, parse_whole_number
from api.problems import Problem
from api.responses import POSITION, RawResponse
from schemas.boundary import BATCH
from schemas.envelope import Envelope
from schemas.limits import LARGEST_PAGE
from streams.log import Record

LIMIT = 100
MOST = 1000
CHUNK = 500
MOST_SCANNED = 20_000
"""Records one request looks at: a filter that nothing passes must not read the whole register."""

EVENT_STREAM = "text/event-stream"


async def get(call: Call) -> ASGIApp:
    live = EVENT_STREAM in (call.header("accept") or "")
    follow = call.query("follow")
    if follow not in (None, "true", "false"):
        raise _bad("follow", "is true or false")
    resumed = call.header("last-event-id") if live else None
    given, parameter = (resumed, "Last-Event-ID") if resumed else (call.query("after"), "after")
    after = parse_position(given, parameter, call.partition) if given else 0
    if live:
        return EventStreamResponse(call, after, follow != "false")
    limit = parse_whole_number(call.query("limit"), "limit", LIMIT, 1, MOST)
    events, last, more = await _read(call, after, limit)
    headers = {POSITION: f"{call.partition}:{last}"}
    if more:
        kept = [(k, v) for k, v in call.request.query_params.multi_items() if k != "after"]
        query = urlencode([*kept, ("after", str(last))])
        headers["Link"] = f'<{call.request.scope["path"]}?{query}>; rel="next"'
    return RawResponse(200, b"[" + b",".join(events) + b"]", headers, BATCH)


def _matching(call: Call, records: Sequence[Record]) -> list[Record]:
    type_, subject = call.query("type"), call.query("subject")
    return [
        r
        for r in records
        if r.envelope.partitionkey == call.organization
        and (type_ is None or r.envelope.type == type_)
        and (subject is None or r.envelope.subject == subject)
    ]


async def _read_chunk(call: Call, after: int, limit: int) -> list[Record]:
    """The next records, of whichever organization; of one subject when that is asked for."""
    log, subject = call.services.log, call.query("subject")
    if subject is not None:
        return await log.read_subject("events", subject, after=after, limit=limit)
    return await log.read("events", call.partition, after, limit)


async def _read(call: Call, after: int, limit: int) -> tuple[list[bytes], int, bool]:
    """Up to `limit` events that are wanted, or `LARGEST_PAGE` bytes, as JSON; the position looked at last;
    whether there may be more."""
    found: list[bytes] = []
    scanned, left = 0, LARGEST_PAGE
    while scanned < MOST_SCANNED:
        records = await _read_chunk(call, after, CHUNK)
        if not records:
            return found, after, False
        scanned += len(records)
        for record in _matching(call, records):
            if len(found) == limit or left <= 0:
                return found, after, True
            found.append(orjson.dumps(record.envelope.structured()))
            left -= len(found[-1])
            after = record.position
        after = records[-1].position
    return found, after, True


def _bad(parameter: str, detail: str) -> Problem:
    return Problem(
        400,
        "invalid-parameter",
        f"`{parameter}` {detail}.",
        errors=[{"parameter": parameter, "detail": detail}],
    )


def sse_event(position: int, envelope: Envelope) -> bytes:
    """One server-sent event: its id is the position, its data the structured CloudEvent."""
    return b"id: %d\ndata: %s\n\n" % (position, envelope.to_json())


def sse_keepalive(position: int) -> bytes:
    """Moves the client's `Last-Event-ID` on without an event (an event without data is not dispatched)."""
    return b": still here\nid: %d\n\n" % position


class EventStreamResponse:
    """ASGI: events as they come. At most one chunk is held; a slow reader slows the reading.

    Ends when the process stops, when the client leaves, or (`follow` false) at the register's end.
    """

    def __init__(self, call: Call, after: int, follow: bool) -> None:
        self._call = call
        self._after = after
        self._follow = follow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
            (POSITION.lower().encode(), f"{self._call.partition}:{self._after}".encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        left = asyncio.ensure_future(_disconnected(receive))
        stopping: asyncio.Future[Any] = asyncio.ensure_future(self._call.services.stopping.wait())
        try:
            async for chunk in self._chunks(left, stopping):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if not left.done():
                await send({"type": "http.response.body", "body": b""})
        finally:
            for task in (left, stopping):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _chunks(
        self, left: "asyncio.Future[None]", stopping: "asyncio.Future[Any]"
    ) -> AsyncIterator[bytes]:
        call, after = self._call, self._after
        log, partition = call.services.log, call.partition
        yield b"retry: 1000\n\n"
        while not left.done() and not stopping.done():
            records = await log.read("events", partition, after, CHUNK)
            if records:
                after = records[-1].position
                chunk = b"".join(sse_event(r.position, r.envelope) for r in _matching(call, records))
                # Not to be held while a slow client reads: decoded they take several times their bytes.
                del records
                yield chunk or sse_keepalive(after)
                continue
            if not self._follow:
                return
            news = asyncio.ensure_future(log.wait("events", partition, after))
            done, _ = await asyncio.wait(
                (news, left, stopping),
                timeout=call.services.settings.heartbeat_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if news in done:
                news.result()
                continue
            news.cancel()
            with suppress(asyncio.CancelledError):
                await news
            if not done:
                yield sse_keepalive(after)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
