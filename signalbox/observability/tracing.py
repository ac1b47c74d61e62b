"""One trace per change: from the HTTP request through the decision to each proxy's acknowledgement.

Events carry `traceparent` (W3C Trace Context), so that every stage, in any process, adds its span to the
same trace.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schemas.catalog import DEPLOYMENT
from schemas.envelope import Envelope
from schemas.identity import unix_seconds, utc
from schemas.outcome import Outcome
from schemas.status import DeliveryReported, Status
from signalbox.observability.attributes import ID, RULE, Attributes, of_command, of_delivery, spanned
from signalbox.observability.telemetry import Telemetry

REMEMBERED = 20_000
_PROPAGATOR = TraceContextTextMapPropagator()
_NOTHING: Attributes = {}


def traceparent_of_request(given: str) -> str:
    """The `traceparent` for commands of the current request; `given` outside of a request."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", given)


@cache
def tracer() -> trace.Tracer:
    """The tracer, looked up once (the look-up is slow), after the process has set its provider."""
    return trace.get_tracer("signalbox")


def context_of(traceparent: str) -> Context:
    return _PROPAGATOR.extract({"traceparent": traceparent} if traceparent else {}, Context())


@dataclass(frozen=True, slots=True)
class _Started:
    decided: float
    traceparent: str
    about: Attributes


class ChangeTraces:
    """Records spans and durations of deployments, from their command to the status messages of gateways."""

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
            about = _NOTHING
            if self._traced(command.traceparent):
                about = of_command(command, outcome.subject)
                rule = {} if outcome.accepted else {RULE: outcome.rule}
                _span("decide", command.traceparent, began, outcome.name, {**about, **rule})
            if outcome.accepted and outcome.events and f"/{DEPLOYMENT.plural}/" in outcome.subject:
                # Not from the command's own time: its sender may give any.
                decided = unix_seconds(outcome.decided_at)
                self._started[outcome.subject] = _Started(decided, command.traceparent, about)
                if len(self._started) > REMEMBERED:
                    self._started.popitem(last=False)

    def reported(self, messages: Sequence[Status]) -> None:
        for message in messages:
            if not isinstance(message, DeliveryReported):
                continue
            started = self._started.get(DEPLOYMENT.subject(message.organization, message.deployment))
            # Any client with write access to the status topic sets this value; it may be no time.
            if started is None or not utc(message.at):
                continue
            seconds = unix_seconds(message.at) - started.decided
            if message.fact == "acknowledged":
                self._telemetry.acknowledge.record(seconds)
            elif message.fact == "serving":
                self._telemetry.serve.record(seconds)
            if self._traced(started.traceparent):
                about = of_delivery(message, started.about)
                _span(message.fact, started.traceparent, started.decided, message.deployment, about)

    def _traced(self, traceparent: str) -> bool:
        return bool(traceparent) and self._telemetry.traces


def _span(name: str, traceparent: str, began: float, id: str, about: Attributes) -> None:
    span = tracer().start_span(name, context_of(traceparent), start_time=int(began * 1e9))
    span.set_attributes({ID: id, **spanned(about)})
    span.end()
