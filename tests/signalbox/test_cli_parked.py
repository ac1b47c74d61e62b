"""`signalbox parked` shows what could not be taken in, and has it tried again or given up."""

import json

from tests.signalbox.conftest import Run
from tests.signalbox.server_stand_in import Scripted, StandIn

SUBJECT = "organizations/acme/apis/orders"
WAITING = {
    "read_model": "resources",
    "topic": "events",
    "partition": 0,
    "position": 17,
    "subject": SUBJECT,
    "type": "io.signalbox.api.published.v1",
    "id": "e-17",
    "reason": "KeyError: 'spec'",
    "time": "2026-11-21T09:30:00.000000Z",
    "waiting": 3,
}
SKIPPED = {
    "kind": "skipped",
    "id": "s-1",
    "time": "2026-11-21T09:30:05.000000Z",
    "by": "ann",
    "name": "resources",
    "about": SUBJECT,
    "partition": 0,
    "position": 9,
}
UNREADABLE = {
    "kind": "parked",
    "id": "m-1",
    "time": "2026-11-21T09:30:04.000000Z",
    "by": None,
    "topic": "commands",
    "partition": 2,
    "position": 44,
    "rule": "malformed",
    "reason": "not JSON",
    "size": 1234,
}
RETRY = "POST /readmodels/resources/parked/retry"
SKIP = "POST /readmodels/resources/parked/skip"


def parked(stand_in: StandIn, *waiting: object, topic: tuple[object, ...] = ()) -> None:
    stand_in.answers["GET /parked"] = Scripted({"items": waiting, "next_cursor": None})
    stand_in.answers["GET /parked/topic"] = Scripted({"items": topic})


def done(taken: int, waiting: int) -> Scripted:
    first = {"first": WAITING} if waiting else {}
    return Scripted(
        {"read_model": "resources", "subject": SUBJECT, "taken": taken, "waiting": waiting, **first}
    )


def test_the_list_shows_waiting_events_and_decisions(run: Run, stand_in: StandIn) -> None:
    parked(stand_in, WAITING, topic=(SKIPPED, UNREADABLE))
    ran = run("parked", "list")
    assert ran.code == 0
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["resources", SUBJECT, "0:17", "3", "KeyError:", "'spec'"] in lines
    assert any(line[-6:] == ["commands", "2:44", "1234", "malformed:", "not", "JSON"] for line in lines)
    assert any(line[-5:] == ["ann", "skipped", "resources", SUBJECT, "0:9"] for line in lines)


def test_an_empty_list_says_so(run: Run, stand_in: StandIn) -> None:
    parked(stand_in)
    ran = run("parked", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "Nothing is parked" in ran.err


def test_the_list_is_to_be_had_as_json(run: Run, stand_in: StandIn) -> None:
    parked(stand_in, WAITING, topic=(SKIPPED,))
    assert json.loads(run("parked", "list", "-o", "json").out) == {"items": [WAITING], "topic": [SKIPPED]}


def test_a_retry_that_works_is_done(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[RETRY] = done(3, 0)
    ran = run("parked", "retry", "resources", SUBJECT)
    assert (ran.code, stand_in.asked[-1].body) == (0, {"subject": SUBJECT})
    assert "3 handled by resources" in ran.out


def test_a_retry_that_fails_again_says_why_and_what_to_do(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[RETRY] = done(0, 3)
    ran = run("parked", "retry", "resources", SUBJECT)
    assert ran.code == 1
    assert "KeyError: 'spec'" in ran.err
    assert f"signalbox parked skip resources {SUBJECT}" in ran.err


def test_a_skip_names_the_event_that_it_gives_up(run: Run, stand_in: StandIn) -> None:
    parked(stand_in, WAITING)
    stand_in.answers[SKIP] = done(2, 0)
    ran = run("parked", "skip", "resources", SUBJECT)
    assert ran.code == 0
    assert stand_in.asked[-1].body == {"subject": SUBJECT, "partition": 0, "position": 17}
    assert "skipped io.signalbox.api.published.v1 at 0:17" in ran.out


def test_another_event_than_the_one_named_is_not_skipped(run: Run, stand_in: StandIn) -> None:
    parked(stand_in, WAITING)
    ran = run("parked", "skip", "resources", SUBJECT, "--position", "0:16")
    assert ran.code == 1
    assert "at 0:17, not at 0:16" in ran.err
    assert [a.method for a in stand_in.asked] == ["GET"]


def test_an_event_that_is_not_parked_cannot_be_skipped(run: Run, stand_in: StandIn) -> None:
    parked(stand_in, WAITING)
    ran = run("parked", "skip", "resources", "organizations/acme/apis/other")
    assert ran.code == 1
    assert "signalbox parked list" in ran.err


def test_the_listed_name_of_an_event_without_a_subject_can_be_given_back(run: Run, stand_in: StandIn) -> None:
    parked(stand_in, {**WAITING, "subject": ""})
    listed = run("parked", "list").out.splitlines()[-1].split()
    shown = listed[1]
    stand_in.answers[RETRY] = done(0, 3)
    ran = run("parked", "retry", "resources", shown)
    assert stand_in.asked[-1].body == {"subject": ""}
    assert f"signalbox parked skip resources {shown}" in ran.err
    stand_in.answers[SKIP] = done(2, 0)
    ran = run("parked", "skip", "resources", shown)
    assert ran.code == 0
    assert stand_in.asked[-1].body == {"subject": "", "partition": 0, "position": 17}
