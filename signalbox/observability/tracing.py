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


def traceparent_of_request(given: str) -> str:
    """The `traceparent` of the commands of the request that is being answered; `given` outside of any."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", given)


@cache
def tracer() -> trace.Tracer:
    """Looked up once, after the process has set its provider: the look-up is what costs."""
    return trace.get_tracer("signalbox")


def context_of(traceparent: str) -> Context:
    return _PROPAGATOR.extract({"traceparent": traceparent} if traceparent else {}, Context())


@dataclass(frozen=True, slots=True)
class _Started:
    requested: float
    traceparent: str
    about: Attributes


class ChangeTraces:
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
            about = of_command(command, outcome.subject)
            rule = {} if outcome.accepted else {RULE: outcome.rule}
            self._span("decide", command.traceparent, began, outcome.name, {**about, **rule})
            if outcome.accepted and outcome.events and f"/{DEPLOYMENT.plural}/" in outcome.subject:
                requested = unix_seconds(utc(outcome.requested_at) or outcome.decided_at)
                started = _Started(requested, command.traceparent, about)
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
            about = of_delivery(message, started.about)
            self._span(message.fact, started.traceparent, started.requested, message.deployment, about)

    def _span(self, name: str, traceparent: str, began: float, id: str, about: Attributes) -> None:
        if not traceparent or not self._telemetry.traces:
            return
        span = tracer().start_span(name, context_of(traceparent), start_time=int(began * 1e9))
        span.set_attributes({ID: id, **spanned(about)})
        span.end()
