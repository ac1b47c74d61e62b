"""Durations and spans of changes, whatever times others put on the topics."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from schemas.aggregates.deployment import DEPLOYMENT, StartDeployment
from schemas.envelope import Envelope
from schemas.identity import timestamp
from schemas.outcome import Outcome
from schemas.status import DeliveryReported
from signalbox.observability.telemetry import Telemetry
from signalbox.observability.tracing import ChangeTraces


@pytest.fixture(scope="module")
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.close()


def deployed(requested_at: str) -> tuple[Envelope, Outcome]:
    subject = DEPLOYMENT.subject("acme", "d1")
    command = Envelope(
        id="c1",
        type=StartDeployment.type(),
        source="/tests",
        subject=subject,
        time=requested_at,
        partitionkey="acme",
        data={},
        traceparent="nonsense",
    )
    outcome = Outcome(
        organization="acme",
        name="c1",
        command=command.type,
        subject=subject,
        digest="0" * 64,
        accepted=True,
        requested_at=requested_at,
        decided_at=timestamp(),
        position=1,
        events=1,
    )
    return command, outcome


def acknowledged(at: str) -> DeliveryReported:
    return DeliveryReported(organization="acme", name="local", deployment="d1", fact="acknowledged", at=at)


@pytest.mark.parametrize("requested_at", ["", "yesterday", "2020-01-01T00:00:00Z", "2222-01-01T00:00:00Z"])
def test_a_deployment_is_measured_from_its_decision_not_from_the_time_of_its_command(
    telemetry: Telemetry, requested_at: str
) -> None:
    changes = ChangeTraces(telemetry)
    count, seconds = _acknowledged(telemetry, "count"), _acknowledged(telemetry, "sum")
    deployment = deployed(requested_at)
    changes.decided([deployment], 0.001)
    changes.reported([acknowledged(after(deployment, 2.0))])
    assert _acknowledged(telemetry, "count") == count + 1
    assert _acknowledged(telemetry, "sum") - seconds == pytest.approx(2.0)


def test_a_report_without_a_time_is_not_measured(telemetry: Telemetry) -> None:
    changes = ChangeTraces(telemetry)
    before = _acknowledged(telemetry, "count")
    changes.decided([deployed(timestamp())], 0.001)
    changes.reported([acknowledged("soon")])
    changes.reported([acknowledged(timestamp())])
    assert _acknowledged(telemetry, "count") == before + 1


def after(deployment: tuple[Envelope, Outcome], seconds: float) -> str:
    """So long after the decision."""
    decided = datetime.fromisoformat(deployment[1].decided_at)
    return (decided + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def _acknowledged(telemetry: Telemetry, what: str) -> float:
    name = f"signalbox_change_to_ack_seconds_{what} ".encode()
    lines = [line for line in telemetry.exposition().splitlines() if line.startswith(name)]
    return float(lines[0].split()[-1]) if lines else 0.0
