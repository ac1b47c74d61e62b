"""One trace per change: from the HTTP request over the decision to each proxy's acknowledgement.

The events carry `traceparent` (W3C Trace Context), so every stage adds its span to the same trace,
wherever it runs.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.catalog import DEPLOYMENT
from schemas.envelope import Envelope
from schemas.identity import unix_seconds, utc
from schemas.outcome import Outcome
from schemas.status import DeliveryReported, Status
from signalbox.telemetry import Telemetry

REMEMBERED = 20_000
READING = frozenset({"GET", "HEAD", "OPTIONS"})
_PROPAGATOR = TraceContextTextMapPropagator()


class Traced:
    """An ASGI application of which every request that may change something is a span, below the
    caller's when its `traceparent` names one. It is the current span meanwhile, so that logs name it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING:
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        span = _tracer().start_span("request", _context(given), kind=SpanKind.SERVER)
        if span.is_recording():
            span.set_attributes({"http.request.method": scope["method"], "url.path": scope["path"]})
            send = _telling(span, send)
        outer = attach(trace.set_span_in_context(span))
        try:
            await self._app(scope, receive, send)
        finally:
            detach(outer)
            span.end()


def _telling(span: Span, send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            span.set_attribute("http.response.status_code", message["status"])
        await send(message)

    return sending


def traceparent_of_request(given: str) -> str:
    """The `traceparent` of the commands of the request that is being answered; `given` outside of any."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", given)


@cache
def _tracer() -> trace.Tracer:
    """Looked up once, after the process has set its provider: the look-up is what costs."""
    return trace.get_tracer("signalbox")


def _context(traceparent: str) -> Context:
    return _PROPAGATOR.extract({"traceparent": traceparent} if traceparent else {}, Context())


@dataclass(frozen=True, slots=True)
class _Started:
    requested: float
    traceparent: str


class Changes:
    """Follows deployments from their command to what gateways say, as spans and durations."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._started: OrderedDict[str, _Started] = OrderedDict()

    def decided(self, decisions: Sequence[tuple[Envelope, Outcome]], seconds: float) -> None:
        self._telemetry.decide.record(seconds)
        began = time.time() - seconds
        counts = Counter((outcome.accepted, outcome.rule) for _, outcome in decisions)
        for (accepted, rule), count in counts.items():
            self._telemetry.commands.add(count, {"accepted": str(accepted).lower(), "rule": rule})
        for command, outcome in decisions:
            self._span("decide", command.traceparent, began, outcome.name)
            if outcome.accepted and outcome.events and f"/{DEPLOYMENT.plural}/" in outcome.subject:
                requested = unix_seconds(utc(outcome.requested_at) or outcome.decided_at)
                started = _Started(requested, command.traceparent)
                self._started[outcome.subject] = started
                if len(self._started) > REMEMBERED:
                    self._started.popitem(last=False)

    def reported(self, messages: Sequence[Status]) -> None:
        for message in messages:
            if not isinstance(message, DeliveryReported):
                continue
            started = self._started.get(DEPLOYMENT.subject(message.organization, message.deployment))
            # Anybody who may write to the status topic says when; only a time can be measured from.
            if started is None or not utc(message.at):
                continue
            seconds = unix_seconds(message.at) - started.requested
            if message.fact == "acknowledged":
                self._telemetry.acknowledge.record(seconds)
            elif message.fact == "serving":
                self._telemetry.serve.record(seconds)
            self._span(message.fact, started.traceparent, started.requested, message.deployment)

    def _span(self, name: str, traceparent: str, began: float, id: str) -> None:
        if not traceparent or not self._telemetry.traces:
            return
        span = _tracer().start_span(name, _context(traceparent), start_time=int(began * 1e9))
        span.set_attribute("signalbox.id", id)
        span.end()
