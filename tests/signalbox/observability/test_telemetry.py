"""One trace covers a change from the HTTP request to the gateway's answer, and the metrics have the
documented values."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from signalbox.observability import telemetry
from tests.signalbox.observability.collector import Collector, collector
from tests.support.calls import Calls, specification, until
from tests.support.running_signalbox import RunningSignalbox
from tests.support.running_signalbox import upstream as serving_upstream

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"
OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
METRICS: dict[str, str] = {
    f"signalbox_{name}": labels
    for name, labels in re.findall(r"^\| (\w+)(\{.*?\})? \|", telemetry.__doc__ or "", re.MULTILINE)
    if name != "name"
}
"""What the table of signalbox.observability.telemetry promises: labels by name."""

ONLY_ON_KAFKA = {"signalbox_forged_messages"}
"""`tests/signalbox/roles/test_runner.py` looks at these."""

EMBEDDED = {name: labels for name, labels in METRICS.items() if name not in ONLY_ON_KAFKA}


@pytest.fixture(scope="module")
def collected() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(
    envoy: Path, collected: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningSignalbox]:
    """A Signalbox with Envoy that exports to the collector."""
    harness = RunningSignalbox(tmp_path_factory.mktemp("traced") / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collected.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        patch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
        patch.setenv("NO_PROXY", "127.0.0.1")
        try:
            harness.up()
            yield harness
        finally:
            harness.raze()


@pytest.fixture(scope="module")
def calls(traced: RunningSignalbox) -> Iterator[Calls]:
    calls = traced.calls()
    yield calls
    calls.close()


@pytest.fixture(scope="module")
def deployment(calls: Calls) -> Iterator[str]:
    """A deployment that was asked for with the caller's trace, and serves."""
    with serving_upstream() as upstream:
        calls.publish("orders", specification("/orders", upstream))
        body = {"api": "orders", "revision": 1, "gateway": "local"}
        reply = calls.ask("POST", "/deployments", body, prefer="wait=60", traceparent=TRACEPARENT)
        assert reply.status == 201, reply
        assert calls.settled(reply.json["name"])["state"] == "serving"
        yield reply.json["name"]


def test_one_trace_leads_from_the_request_to_the_gateways_answer(
    collected: Collector, deployment: str
) -> None:
    steps = ("request", "decide", "published", "acknowledged", "serving")
    found = until(lambda: s if (s := collected.of(TRACE)).keys() >= set(steps) else None, "all spans")
    assert sorted(found) == sorted(steps), "and no other"
    assert [len(found[step]) for step in steps] == [1] * len(steps)
    request = found["request"][0]
    assert request.parent == CALLER
    assert request.attributes["http.request.method"] == "POST"
    assert request.attributes["http.response.status_code"] == "201"
    for step in steps[1:]:
        (span,) = found[step]
        assert span.parent == request.id
        assert span.ended >= span.began >= request.began - 1_000_000
        assert deployment in span.attributes["signalbox.id"]
        about = {name: span.attributes[f"signalbox.{name}"] for name in ("organization", "api", "gateway")}
        assert about == {"organization": "default", "api": "orders", "gateway": "local"}
    for step in steps[2:]:
        (span,) = found[step]
        assert (span.attributes["signalbox.revision"], span.attributes["signalbox.deployment"]) == (
            "1",
            deployment,
        )
    assert request.attributes["http.route"] == "/api/v1/organizations/{org}/deployments"
    assert request.attributes["signalbox.organization"] == "default"
    assert request.ended > found["decide"][0].ended, "who waits for the outcome is answered after it"
    ends = [found[step][0].ended for step in steps[1:]]
    assert ends == sorted(ends)


def test_the_events_carry_the_trace(calls: Calls, deployment: str) -> None:
    events = calls.ask("GET", f"/events?subject=organizations/default/deployments/{deployment}").json
    assert events
    assert {e["traceparent"].split("-")[1] for e in events} == {TRACE}


def test_a_caller_without_a_trace_begins_one(collected: Collector, calls: Calls, deployment: str) -> None:
    events = calls.ask("GET", "/events?subject=organizations/default/apis/orders").json
    _, trace, parent, _ = events[0]["traceparent"].split("-")
    assert trace != TRACE
    request = until(lambda: collected.of(trace).get("request"), "the request's span")[0]
    assert (request.id, request.parent) == (parent, "")


def test_reading_makes_no_spans(collected: Collector, calls: Calls, deployment: str) -> None:
    calls.ask("GET", "/deployments", traceparent=TRACEPARENT.replace(TRACE, "1" * 32))
    calls.ask("PUT", "/projects/p", {}, prefer="wait=60", traceparent=TRACEPARENT.replace(TRACE, "2" * 32))
    until(lambda: collected.of("2" * 32), "the span of a change")
    assert collected.of("1" * 32) == {}


def test_every_metric_there_is_can_be_read(traced: RunningSignalbox, calls: Calls, deployment: str) -> None:
    def metrics() -> str:
        return calls.send("GET", "/metrics").body.decode()

    assert METRICS["signalbox_commands_decided_total"] == "{accepted, rule}"
    until(lambda: "signalbox_parked_events{" in metrics(), "the first look at what is parked")
    text = metrics()
    for name, labels in EMBEDDED.items():
        sample = re.search(rf"^{name}(_count)?(\{{(.*?)\}})? ([0-9.e+-]+)$", text, re.MULTILINE)
        assert sample, f"{name} is missing"
        for label in re.findall(r"\w+", labels):
            assert f'{label}="' in (sample[3] or ""), f"{name} has no {label}"
    output = set(re.findall(r"^# TYPE (signalbox_\w+) ", text, re.MULTILINE))
    assert output == EMBEDDED.keys(), "the table names them all"
    assert "signalbox_connected_proxies 1.0" in text
    assert "signalbox_quarantined_resources 0.0" in text
    for name in ("change_to_ack_seconds", "change_to_serving_seconds"):
        assert f"signalbox_{name}_count 1.0" in text


def test_every_metric_has_a_help_text(calls: Calls, deployment: str) -> None:
    text = calls.send("GET", "/metrics").body.decode()
    types = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    helped = {name for name, help in re.findall(r"^# HELP (\w+)(.*)$", text, re.MULTILINE) if help.strip()}
    assert EMBEDDED.keys() <= types
    assert types - helped == set()


def test_requests_are_measured_by_method_route_template_and_status(calls: Calls, deployment: str) -> None:
    def count(**labels: object) -> float:
        name = "http_server_request_duration_seconds_count"
        output = ",".join(f'http_{k}="{v}"' for k, v in sorted(labels.items()))
        found = re.search(rf"^{name}{{{re.escape(output)}}} (\S+)$", metrics(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def metrics() -> str:
        return calls.send("GET", "/metrics").body.decode()

    route = "/api/v1/organizations/{org}/projects/{name}"
    for name, status in (("default", 200), ("none", 404), ("nothing", 404)):
        before = count(request_method="GET", route=route, response_status_code=status)
        assert calls.ask("GET", f"/projects/{name}").status == status
        assert count(request_method="GET", route=route, response_status_code=status) == before + 1
    text = metrics()
    assert "/projects/none" not in text
    assert "# TYPE http_server_request_duration_seconds histogram" in text


def test_every_metric_is_exported_too(collected: Collector, deployment: str) -> None:
    wanted = {name.removesuffix("_total") for name in EMBEDDED}
    until(lambda: wanted <= collected.metrics, "all metrics")


def test_the_operations_page_names_every_metric() -> None:
    page = OPERATIONS.read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(signalbox_\w+)(\{.*?\})?` \|", page, re.MULTILINE)
    spaceless = {name: labels.replace(" ", "") for name, labels in METRICS.items()}
    assert dict(listed) == spaceless


def test_every_line_that_the_process_writes_is_json(
    traced: RunningSignalbox, calls: Calls, deployment: str
) -> None:
    answer = calls.ask("POST", "/deployments", {"api": "none", "gateway": "local"}, prefer="wait=60")
    assert answer.status == 422
    lines = [json.loads(line) for line in traced.log_file.read_text().splitlines()]
    output = {line["message"]: line for line in lines if line["logger"] == "signalbox.changes"}
    rejected, taken = output["command rejected"], output["deployment acknowledged"]
    assert (rejected["api"], rejected["gateway"], rejected["rule"]) == ("none", "local", "unknown-reference")
    assert (taken["organization"], taken["gateway"]) == ("default", "local")
    assert "deployment decided: start" in output


def test_an_invalid_trace_is_not_passed_on(calls: Calls) -> None:
    reply = calls.ask("PUT", "/projects/odd", {}, prefer="wait=60", traceparent="00-nonsense")
    assert reply.status == 201, reply
    events = calls.ask("GET", "/events?subject=organizations/default/projects/odd").json
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[13]", events[0]["traceparent"])


def test_a_collector_that_never_answers_does_not_hold_up_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "3600")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        harness = RunningSignalbox(tmp_path / "data")
        try:
            harness.up("--no-envoy")
            calls = harness.calls()
            assert calls.ask("PUT", "/projects/p", {}, prefer="wait=60").status == 201
            calls.close()
            assert harness.down() == 0
        finally:
            harness.raze()
