"""Metrics and traces of a process: OpenTelemetry, read by Prometheus at `/metrics`, exported by OTLP.

Metrics (names begin with `signalbox_`, but for the one that OpenTelemetry names):

| name | what |
|---|---|
| commands_decided_total{accepted, rule} | commands decided, and the rule that rejected them |
| commands_removed_unread_total | positions of commands that retention removed before a decider read them |
| decide_listener_failures_total | errors of listeners to decided commands; the log has each |
| decide_seconds | from reading a batch of commands to its events being durable |
| log_append_seconds | one group commit of the log |
| projection_lag_events{read_model} | events that a read model has not applied yet |
| change_to_ack_seconds | from the acceptance of a deployment to a node's acknowledgement |
| change_to_serving_seconds | from the acceptance to a probe answered by the gateway's own listener |
| connected_proxies | proxies that are connected |
| quarantined_resources | resource versions that nodes reject and that were not withdrawn |
| deployments_refused_total{organization, gateway} | deployments that were refused |
| forged_messages{topic} | on Kafka: messages that Signalbox did not write, which were ignored |
| parked_events | dead-lettered events that wait for an operator |
| compile_seconds | compiling the changes of a batch of events |

and `http_server_request_duration_seconds{http_request_method, http_route, http_response_status_code}`.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from opentelemetry import metrics, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from prometheus_client import generate_latest

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

CLOSE_SECONDS = 2.0

COMMANDS = "Commands decided, by whether they were accepted and the rule that rejected them."
REMOVED_UNREAD = "Positions of commands that retention removed before a decider read them."
LISTENER_FAILURES = "Errors of listeners to decided commands."
REFUSED = "Deployments that a gateway's nodes refused, or that could not be compiled."
REQUESTS = "Duration of HTTP requests, by method, route template and status; without live event streams."
GAUGES: Mapping[str, tuple[str, str]] = {
    "projection_lag_events": ("{event}", "Events that a read model has not applied yet."),
    "parked_events": ("{event}", "Dead-lettered events of a read model that wait for an operator."),
    "connected_proxies": ("{proxy}", "Proxies that are connected."),
    "forged_messages": ("{message}", "Messages that Signalbox did not write, which were ignored."),
    "quarantined_resources": (
        "{resource}",
        "Resource versions that nodes reject and that were not withdrawn.",
    ),
}
"""Unit and help text of observable gauges, by name."""

Gauge = Callable[[], Mapping[str, float]]
"""Values by label; the label is empty when there is only one."""


class Telemetry:
    """Sets up the process's providers once, and holds its instruments."""

    def __init__(self, *, otlp: bool = False) -> None:
        self.traces = otlp
        """Whether spans are recorded."""
        resource = Resource.create({"service.name": "signalbox"})
        readers: list[MetricReader] = [PrometheusMetricReader(scope_info_enabled=False)]
        # Without an exporter spans are not recorded, but events still carry their ids.
        tracing = TracerProvider(
            sampler=None if otlp else ParentBased(ALWAYS_OFF), resource=resource, shutdown_on_exit=False
        )
        if otlp:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
            tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        buckets = [
            View(instrument_name=name, aggregation=ExplicitBucketHistogramAggregation(BUCKETS))
            for name in ("signalbox_*_seconds", "http.server.request.duration")
        ]
        self._metering = MeterProvider(
            metric_readers=readers, resource=resource, views=buckets, shutdown_on_exit=False
        )
        self._tracing = tracing
        trace.set_tracer_provider(tracing)
        metrics.set_meter_provider(self._metering)
        meter = self._metering.get_meter("signalbox")
        self._meter = meter
        self.commands = meter.create_counter("signalbox_commands_decided", "{command}", COMMANDS)
        self.listener_failures = meter.create_counter(
            "signalbox_decide_listener_failures", "{error}", LISTENER_FAILURES
        )
        self.listener_failures.add(0)  # present from the start: an alert can distinguish 0 from missing
        self.removed_unread = meter.create_counter(
            "signalbox_commands_removed_unread", "{command}", REMOVED_UNREAD
        )
        self.removed_unread.add(0)
        self._refused = meter.create_counter("signalbox_deployments_refused", "{deployment}", REFUSED)
        self.decide = self._seconds("decide", "From reading a batch of commands to its events being durable.")
        self.append = self._seconds("log_append", "One group commit of the log.")
        self.compile = self._seconds("compile", "Compiling the changes of a batch of events.")
        self.acknowledge = self._seconds(
            "change_to_ack", "From the acceptance of a deployment to a node's acknowledgement."
        )
        self.serve = self._seconds(
            "change_to_serving",
            "From the acceptance of a deployment to a probe answered by the gateway's own listener.",
        )
        self.requests = meter.create_histogram("http.server.request.duration", "s", REQUESTS)

    def _seconds(self, name: str, description: str) -> metrics.Histogram:
        return self._meter.create_histogram(f"signalbox_{name}_seconds", "s", description)

    def refused(self, organization: str, gateway: str, number: int) -> None:
        """Counts refused deployments of a gateway; 0 creates its series, so that an alert sees the
        increase."""
        self._refused.add(number, {"organization": organization, "gateway": gateway})

    def gauge(self, name: str, read: Gauge, label: str = "") -> None:
        """Observes `read` whenever the metrics are read. Raises KeyError for a name without a help text."""
        unit, description = GAUGES[name]

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, {label: key} if label else {}) for key, value in read().items()]

        self._meter.create_observable_gauge(f"signalbox_{name}", [observe], unit, description)

    def exposition(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return generate_latest()

    def close(self) -> None:
        """Sends buffered spans, for at most CLOSE_SECONDS: an unavailable collector must not delay the
        stop."""
        sending = [
            threading.Thread(target=provider.shutdown, daemon=True)
            for provider in (self._tracing, self._metering)
        ]
        for thread in sending:
            thread.start()
        until = time.monotonic() + CLOSE_SECONDS
        for thread in sending:
            thread.join(max(0.0, until - time.monotonic()))
