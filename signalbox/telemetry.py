"""Metrics and traces of a process: OpenTelemetry, read by Prometheus at `/metrics`, exported by OTLP.

Metrics (all names begin with `signalbox_`):

| name | what |
|---|---|
| commands_decided_total{accepted, rule} | commands decided, and the rule that rejected them |
| commands_removed_unread_total | positions of commands that retention removed before a decider read them |
| decide_listener_failures_total | errors of what is notified of decided commands; the log has each |
| decide_seconds | from reading a batch of commands to its events being durable |
| log_append_seconds | one group commit of the log |
| projection_lag_events{read_model} | events a read model has yet to apply |
| change_to_ack_seconds | from the request of a deployment to a node's acknowledgement |
| change_to_serving_seconds | from the request to a probe answered by the gateway's own listener |
| connected_proxies | proxies that are connected |
| quarantined_resources | resource versions that gateways refused |
| parked_events | events that wait for somebody to look at them |
| compile_seconds | compiling what a batch of events changed |
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

Gauge = Callable[[], Mapping[str, float]]
"""Values by label; the label is empty when there is only one."""


class Telemetry:
    """Sets up the process's providers once, and holds its instruments."""

    def __init__(self, *, otlp: bool = False) -> None:
        self.traces = otlp
        """Whether spans are recorded."""
        resource = Resource.create({"service.name": "signalbox"})
        readers: list[MetricReader] = [PrometheusMetricReader(scope_info_enabled=False)]
        # Without an exporter spans are not recorded, but their ids still travel with the events.
        tracing = TracerProvider(
            sampler=None if otlp else ParentBased(ALWAYS_OFF), resource=resource, shutdown_on_exit=False
        )
        if otlp:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter()))
            tracing.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        buckets = View(
            instrument_name="signalbox_*_seconds",
            aggregation=ExplicitBucketHistogramAggregation(BUCKETS),
        )
        self._metering = MeterProvider(
            metric_readers=readers, resource=resource, views=[buckets], shutdown_on_exit=False
        )
        self._tracing = tracing
        trace.set_tracer_provider(tracing)
        metrics.set_meter_provider(self._metering)
        meter = self._metering.get_meter("signalbox")
        self._meter = meter
        self.commands = meter.create_counter("signalbox_commands_decided")
        self.listener_failures = meter.create_counter("signalbox_decide_listener_failures")
        self.listener_failures.add(0)  # shown from the start, so that an alert can tell 0 from missing
        self.removed_unread = meter.create_counter("signalbox_commands_removed_unread")
        self.removed_unread.add(0)
        self.decide = meter.create_histogram("signalbox_decide_seconds")
        self.append = meter.create_histogram("signalbox_log_append_seconds")
        self.compile = meter.create_histogram("signalbox_compile_seconds")
        self.acknowledge = meter.create_histogram("signalbox_change_to_ack_seconds")
        self.serve = meter.create_histogram("signalbox_change_to_serving_seconds")

    def gauge(self, name: str, read: Gauge, label: str = "") -> None:
        """Observes `read` whenever the metrics are read."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, {label: key} if label else {}) for key, value in read().items()]

        self._meter.create_observable_gauge(f"signalbox_{name}", callbacks=[observe])

    def exposition(self) -> bytes:
        """The metrics in Prometheus's text format."""
        return generate_latest()

    def close(self) -> None:
        """Sends what waits, for at most CLOSE_SECONDS: a collector that is away holds up nobody's stop."""
        sending = [
            threading.Thread(target=provider.shutdown, daemon=True)
            for provider in (self._tracing, self._metering)
        ]
        for thread in sending:
            thread.start()
        until = time.monotonic() + CLOSE_SECONDS
        for thread in sending:
            thread.join(max(0.0, until - time.monotonic()))
