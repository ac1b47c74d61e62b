"""Telemetry of HTTP requests: a span for each one that may change something, and the duration of each."""

import time
from collections.abc import Callable, Mapping

from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import Span, SpanKind
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.routing.route import ROUTE_KEY
from signalbox.observability.attributes import (
    HTTP_METHOD,
    HTTP_ROUTE,
    HTTP_STATUS,
    URL_PATH,
    of_request,
    spanned,
)
from signalbox.observability.tracing import context_of, tracer

READING = frozenset({"GET", "HEAD", "OPTIONS"})
METHODS = READING | {"POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT"}
OTHER_METHOD = "_OTHER"
"""Replaces unknown methods, so that callers cannot create any number of series."""

EVENT_STREAM = b"text/event-stream"

Record = Callable[[float, Mapping[str, str | int]], None]
"""Records seconds with attributes."""


class TracedApp:
    """An ASGI application that records a span for every request that may change something, with the span of
    the request's `traceparent` as parent. It is the current span, so that log lines have its id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING:
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        span = tracer().start_span("request", context_of(given), kind=SpanKind.SERVER)
        if span.is_recording():
            span.set_attributes({HTTP_METHOD: scope["method"], URL_PATH: scope["path"]})
            send = _recording(span, send)
        outer = attach(trace.set_span_in_context(span))
        try:
            await self._app(scope, receive, send)
        finally:
            detach(outer)
            route: str = scope.get(ROUTE_KEY, "")
            if span.is_recording() and route:
                span.set_attribute(HTTP_ROUTE, route)
                span.set_attributes(spanned(of_request(route, scope.get("path_params", {}))))
            span.end()


def _recording(span: Span, send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            span.set_attribute(HTTP_STATUS, message["status"])
        await send(message)

    return sending


class MeasuredApp:
    """An ASGI application that records the duration of each request, until its answer is complete.

    By method, route template and status. Live event streams are left out: they last as long as the caller
    stays.
    """

    def __init__(self, app: ASGIApp, record: Record) -> None:
        self._app = app
        self._record = record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0
        streams = False

        async def sending(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                streams = any(
                    name == b"content-type" and value.startswith(EVENT_STREAM)
                    for name, value in message.get("headers", ())
                )
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            if status and not streams:
                method = scope["method"] if scope["method"] in METHODS else OTHER_METHOD
                attributes: dict[str, str | int] = {HTTP_METHOD: method, HTTP_STATUS: status}
                if route := scope.get(ROUTE_KEY):
                    attributes[HTTP_ROUTE] = route
                self._record(time.perf_counter() - began, attributes)
