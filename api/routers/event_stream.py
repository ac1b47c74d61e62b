"""The event log over HTTP: as a batch of CloudEvents, or live as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

import orjson
from fastapi import APIRouter, Header, Query
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.call import Call
from api.dependencies import (
    DEFAULT_LIMIT,
    ORGANIZATION,
    POSITION_PATTERN,
    Limit,
    OptionalText,
    OrganizationContext,
    boolean,
)
from api.openapi.json_schemas import CLOUDEVENT_EXAMPLE, REF
from api.preconditions import beyond_end, parse_position, preferred
from api.problems import Problem
from api.resources.queries import require_organization
from api.responses import POSITION, RawResponse
from api.routing.route import ApiRoute, problems, response_headers
from schemas.catalog import EVENTS
from schemas.codecs.cloudevents_http import BATCH
from schemas.envelope import Envelope
from schemas.limits import LARGEST_PAGE
from streams.log import Record

router = APIRouter(prefix=ORGANIZATION, tags=["events"], route_class=ApiRoute)

CHUNK = 500
MOST_SCANNED = 20_000
"""Maximum records read by one request: a filter without matches must not read the whole event log."""

EVENT_STREAM = "text/event-stream"


@router.get(
    "/events",
    operation_id="list_events",
    summary="History, as CloudEvents; live as server-sent events",
    description="With `Accept: text/event-stream` events are sent as they happen.",
    response_class=RawResponse,
    response_description="In the event log's order.",
    responses={
        200: {
            "content": {
                BATCH: {
                    "schema": {"type": "array", "items": {"$ref": REF + "CloudEvent"}},
                    "example": [CLOUDEVENT_EXAMPLE],
                },
                EVENT_STREAM: {
                    "schema": {"type": "string"},
                    "example": 'id: 17\ndata: {"specversion": "1.0"}\n\n',
                },
            },
            "headers": response_headers(POSITION, "Link"),
        },
        **problems(404),
    },
)
async def list_events(
    call: OrganizationContext,
    after: Annotated[
        OptionalText,
        Query(
            description="Only events after this position.", json_schema_extra={"pattern": POSITION_PATTERN}
        ),
    ] = None,
    type: Annotated[
        OptionalText,
        Query(
            description="Only events of this CloudEvents type.",
            json_schema_extra={"enum": [*sorted(EVENTS)]},
        ),
    ] = None,
    subject: Annotated[OptionalText, Query(description="Only events about this subject.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    follow: Annotated[
        bool, boolean("follow"), Query(description="False ends the stream at the event log's end.")
    ] = True,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    last_event_id: Annotated[
        OptionalText,
        Header(
            alias="Last-Event-ID",
            description="Continue after this position (stream).",
            json_schema_extra={"pattern": POSITION_PATTERN},
        ),
    ] = None,
) -> Response:
    streams = preferred(accept, (BATCH, EVENT_STREAM)) == EVENT_STREAM
    if streams and "limit" in call.request.query_params:
        errors = [{"parameter": "limit", "detail": "is for pages, not for streams"}]
        raise Problem(
            400, "unknown-parameter", "A stream has no `limit`; close it, or request pages.", errors=errors
        )
    resumed = last_event_id if streams else None
    given, parameter = (resumed, "Last-Event-ID") if resumed else (after, "after")
    start = parse_position(given, parameter, call.partition) if given else 0
    if start and start > (end := await call.services.log.end("events", call.partition)):
        raise beyond_end(parameter, end)
    selection = Selection(call, type, subject)
    if streams:
        return EventStreamResponse(selection, start, follow)
    events, last, more = await _read(selection, start, limit)
    if not events and not more:
        await require_organization(call)
    headers = {POSITION: f"{call.partition}:{last}"}
    if more:
        kept = [(k, v) for k, v in call.request.query_params.multi_items() if k != "after"]
        query = urlencode([*kept, ("after", str(last))])
        headers["Link"] = f'<{call.request.scope["path"]}?{query}>; rel="next"'
    return RawResponse(200, b"[" + b",".join(events) + b"]", headers, BATCH)


@dataclass(frozen=True, slots=True)
class Selection:
    """The events of the organization, optionally of one type or about one subject."""

    call: Call
    type: str | None
    subject: str | None

    def matching(self, records: Sequence[Record]) -> list[Record]:
        return [
            r
            for r in records
            if r.envelope.partitionkey == self.call.organization
            and (self.type is None or r.envelope.type == self.type)
            and (self.subject is None or r.envelope.subject == self.subject)
        ]

    async def read(self, after: int) -> list[Record]:
        """The next records of the partition (of all its organizations), or those of the subject."""
        log = self.call.services.log
        if self.subject is not None:
            return await log.read_subject("events", self.subject, after=after, limit=CHUNK)
        return await log.read("events", self.call.partition, after, CHUNK)


async def _read(selection: Selection, after: int, limit: int) -> tuple[list[bytes], int, bool]:
    """Up to `limit` matching events, or `LARGEST_PAGE` bytes, as JSON; the position read last;
    whether there may be more."""
    found: list[bytes] = []
    scanned, left = 0, LARGEST_PAGE
    while scanned < MOST_SCANNED:
        records = await selection.read(after)
        if not records:
            return found, after, False
        scanned += len(records)
        for record in selection.matching(records):
            if len(found) == limit or left <= 0:
                return found, after, True
            found.append(orjson.dumps(record.envelope.structured()))
            left -= len(found[-1])
            after = record.position
        after = records[-1].position
    return found, after, True


def sse_event(position: int, envelope: Envelope) -> bytes:
    """One server-sent event: its id is the position, its data the structured CloudEvent."""
    return b"id: %d\ndata: %s\n\n" % (position, envelope.to_json())


def sse_keepalive(position: int) -> bytes:
    """Advances the client's `Last-Event-ID` without an event (an event without data is not dispatched)."""
    return b": keep-alive\nid: %d\n\n" % position


class EventStreamResponse(Response):
    """Streams events as they happen. Buffers at most one chunk: a slow client slows the reading.

    Ends when the process stops, when the client leaves, or (`follow` false) at the event log's end.
    """

    def __init__(self, selection: Selection, after: int, follow: bool) -> None:
        self.background = None
        self._selection = selection
        self._call = selection.call
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
                chunk = b"".join(sse_event(r.position, r.envelope) for r in self._selection.matching(records))
                # Freed before a slow client reads: decoded records take several times their bytes.
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
