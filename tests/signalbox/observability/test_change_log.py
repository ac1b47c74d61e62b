"""What is logged of commands and deployments."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from schemas.aggregates.api import DeleteApi
from schemas.aggregates.deployment import StartDeployment
from schemas.catalog import API, DEPLOYMENT
from schemas.envelope import Envelope
from schemas.identity import timestamp
from schemas.message import Command
from schemas.outcome import Outcome
from schemas.status import DeliveryReported, Fact, NodeException, NodeReported
from signalbox.observability.change_log import ChangeLog
from signalbox.observability.logs import JsonLines

START = StartDeployment(organization="acme", name="d-1", api="orders", revision=3, gateway="local")
DELETE = DeleteApi(organization="acme", name="orders")


def decided(command: Command, subject: str, rule: str = "", events: int = 1) -> tuple[Envelope, Outcome]:
    envelope = Envelope(
        id="c-1",
        type=command.type(),
        source="/tests",
        subject=subject,
        time=timestamp(),
        partitionkey="acme",
        data=command.data(),
        authid="ann",
    )
    outcome = Outcome(
        organization="acme",
        name="c-1",
        command=envelope.type,
        subject=subject,
        digest="0" * 64,
        accepted=not rule,
        rule=rule,
        message="The API 'orders' is deployed." if rule else "",
        requested_at=envelope.time,
        decided_at=timestamp(),
        position=1,
        events=0 if rule else events,
    )
    return envelope, outcome


def delivery(fact: Fact, node: str = "n-1", reason: str = "") -> DeliveryReported:
    return DeliveryReported(
        organization="acme",
        name="local",
        at=timestamp(),
        deployment="d-1",
        node=node,
        fact=fact,
        reason=reason,
        api="orders",
        revision=3,
    )


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    ours = [record for record in caplog.records if record.name == "signalbox.changes"]
    written = [json.loads(JsonLines().format(record)) for record in ours]
    return [{k: v for k, v in line.items() if k not in ("time", "logger")} for line in written]


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "signalbox.changes")


def test_a_rejected_command_is_logged_with_its_subject_and_reason(caplog: pytest.LogCaptureFixture) -> None:
    ChangeLog().decided([decided(DELETE, API.subject("acme", "orders"), rule="in-use")])
    assert lines(caplog) == [
        {
            "level": "warning",
            "message": "command rejected",
            "organization": "acme",
            "command": "io.signalbox.api.command.delete.v1",
            "api": "orders",
            "rule": "in-use",
            "reason": "The API 'orders' is deployed.",
            "by": "ann",
            "id": "c-1",
        }
    ]


def test_a_deployment_is_logged_when_it_is_decided_and_taken(caplog: pytest.LogCaptureFixture) -> None:
    output = ChangeLog()
    output.decided([decided(START, DEPLOYMENT.subject("acme", "d-1"))])
    output.reported([delivery("published", "*"), delivery("acknowledged"), delivery("serving")])
    about = {
        "level": "info",
        "organization": "acme",
        "api": "orders",
        "revision": 3,
        "gateway": "local",
        "deployment": "d-1",
    }
    assert lines(caplog) == [
        {
            **about,
            "message": "deployment decided: start",
            "command": "io.signalbox.deployment.command.start.v1",
            "by": "ann",
        },
        {**about, "message": "deployment acknowledged", "node": "n-1"},
    ]


def test_a_refusal_is_a_warning_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    ChangeLog().reported([delivery("refused", reason="bad regex")])
    (line,) = lines(caplog)
    assert (line["level"], line["message"], line["reason"]) == ("warning", "deployment refused", "bad regex")
    assert (line["api"], line["revision"], line["gateway"], line["node"]) == ("orders", 3, "local", "n-1")


def test_many_nodes_that_take_a_deployment_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    output = ChangeLog()
    output.reported([delivery("acknowledged", f"n-{n}") for n in range(1000)])
    output.reported([delivery("refused", f"n-{n}", "bad regex") for n in (1, 1, 2)])
    assert [line["message"] for line in lines(caplog)] == [
        "deployment acknowledged",
        "deployment refused",
        "deployment refused",
    ]


def test_a_command_that_changes_nothing_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    output = ChangeLog()
    output.decided([decided(START, DEPLOYMENT.subject("acme", "d-1"), events=0)])
    output.decided([decided(DELETE, API.subject("acme", "orders"))])
    assert lines(caplog) == []


def node(
    connection: str, *, connected: bool = True, acknowledged: int | None = None, refuses: str = ""
) -> NodeReported:
    return NodeReported(
        organization="acme",
        name="local",
        at=timestamp(),
        node="n-1",
        connected=connected,
        connection=connection,
        acknowledged=acknowledged,
        exceptions=(NodeException(deployment=refuses, state="refused"),) if refuses else (),
    )


def test_a_node_is_logged_when_it_connects_has_caught_up_and_leaves(caplog: pytest.LogCaptureFixture) -> None:
    output = ChangeLog()
    for report in (
        node("c-1"),
        node("c-1", acknowledged=7, refuses="d-1"),
        node("c-1", acknowledged=8, refuses="d-1"),
        node("c-1", acknowledged=9),
        node("c-1", acknowledged=10),
        node("c-1", connected=False),
        node("c-2"),
    ):
        output.reported([report])
    about = {"level": "info", "organization": "acme", "gateway": "local", "node": "n-1"}
    assert lines(caplog) == [
        {**about, "message": message}
        for message in (
            "node connected",
            "node caught up to position 7, exceptions: d-1 refused",
            "node caught up to position 9, exceptions: none",
            "node disconnected",
            "node connected",
        )
    ]


def test_nodes_of_an_earlier_process_that_are_gone_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    ChangeLog().reported([node("c-1", connected=False)])
    assert lines(caplog) == []


def test_a_refusal_is_logged_once_by_the_node_that_refused(caplog: pytest.LogCaptureFixture) -> None:
    output = ChangeLog()
    output.reported([delivery("refused", reason="bad regex")])
    output.reported([delivery("refused", "*", "bad regex")])
    assert [line["node"] for line in lines(caplog)] == ["n-1"]


def test_a_refusal_that_another_process_reported_is_neither_logged_nor_counted_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counted: list[tuple[str, str, int]] = []
    of_gateway_sync = ChangeLog(lambda *about: counted.append(about))
    # given a rejection that the process of the xDS server logged and counted
    of_gateway_sync.reported_elsewhere(delivery("refused", reason="bad regex"))
    # when gateway sync takes the deployment back
    of_gateway_sync.reported([delivery("refused", "*", "bad regex")])
    assert (lines(caplog), counted) == ([], [])


def test_a_refusal_without_a_node_is_logged_of_the_gateway(caplog: pytest.LogCaptureFixture) -> None:
    ChangeLog().reported([delivery("refused", "*", "cannot be compiled")])
    assert [line["node"] for line in lines(caplog)] == ["*"]


def test_refused_deployments_are_counted_once_by_gateway() -> None:
    counted: list[tuple[str, str, int]] = []
    output = ChangeLog(lambda *about: counted.append(about))
    output.reported([node("c-1")])
    output.reported([delivery("refused", f"n-{n}", "bad regex") for n in range(3)])
    output.reported([delivery("refused", "*", "bad regex")])
    assert counted == [("acme", "local", 0), ("acme", "local", 1)]


def test_lines_that_are_no_warnings_wait_and_stay_in_order(caplog: pytest.LogCaptureFixture) -> None:
    due: list[Callable[[], None]] = []
    output = ChangeLog(later=due.append)

    # Given lines that are no warnings, nothing is written yet, and it is asked for once,
    output.reported([delivery("acknowledged")])
    output.reported([node("c-1", connected=True)])
    assert lines(caplog) == []
    assert len(due) == 1

    # when a warning comes, it is written at once, after them,
    output.reported([delivery("refused", reason="bad regex")])
    wanted = ["deployment acknowledged", "node connected", "deployment refused"]
    assert [line["message"] for line in lines(caplog)] == wanted

    # and later nothing is written twice, and the next line requests a call again.
    due[0]()
    assert len(lines(caplog)) == len(wanted)
    output.reported([node("c-1", connected=False)])
    due[1]()
    assert [line["message"] for line in lines(caplog)] == [*wanted, "node disconnected"]
