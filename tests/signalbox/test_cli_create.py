"""`create organization`."""

import json

from tests.signalbox.answers import golden, metadata
from tests.signalbox.conftest import Run
from tests.signalbox.server_stand_in import Scripted, StandIn, problem

ACME = "/organizations/acme"
EXISTS = problem(428, "precondition-required", "It exists: send If-Match.")


def test_an_organization_is_made_with_the_project_that_apis_belong_to(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"PUT {ACME}"] = Scripted({"name": "acme", "metadata": metadata()}, 201)
    stand_in.answers[f"PUT {ACME}/projects/default"] = Scripted({"name": "default"}, 201)
    ran = run("create", "organization", "acme", "--display-name", "Acme Corporation")
    assert (ran.code, ran.out) == (0, "organization acme: created\n")
    assert ran.err == "choose it with --org acme or SIGNALBOX_ORG=acme\n"
    first, second = stand_in.asked
    assert (first.path, first.body) == (f"/api/v1{ACME}", {"display_name": "Acme Corporation"})
    assert second.path == f"/api/v1{ACME}/projects/default"
    assert first.headers["prefer"] == second.headers["prefer"] == "wait=30"


def test_an_organization_that_exists_is_left_as_it_is(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"PUT {ACME}"] = stand_in.answers[f"PUT {ACME}/projects/default"] = EXISTS
    stand_in.answers[f"GET {ACME}"] = Scripted({"name": "acme", "display_name": "Acme"})
    ran = run("create", "organization", "acme")
    assert (ran.code, ran.out, ran.err) == (0, "organization acme: exists already\n", "")
    named = run("create", "organization", "acme", "--display-name", "Other")
    assert (named.code, named.err) == (
        1,
        golden("""
            error: there is an organization 'acme' already; it is called 'Acme'
            hint: leave out --display-name to keep it as it is
        """),
    )


def test_the_created_resource_can_be_printed_as_json(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"PUT {ACME}"] = Scripted({"name": "acme", "metadata": metadata()}, 201)
    stand_in.answers[f"PUT {ACME}/projects/default"] = Scripted({"name": "default"}, 201)
    assert json.loads(run("create", "organization", "acme", "-o", "json").out)["name"] == "acme"


def test_a_name_that_cannot_be_is_refused_by_the_server(run: Run, stand_in: StandIn) -> None:
    stand_in.answers["PUT /organizations/no name"] = problem(422, "invalid-command", "The name is not valid.")
    ran = run("create", "organization", "no name")
    assert (ran.code, ran.err) == (1, "error: The name is not valid.\n")


def test_a_command_that_is_not_decided_in_time_is_no_success(run: Run, stand_in: StandIn) -> None:
    stand_in.answers[f"PUT {ACME}"] = Scripted({"state": "pending"}, 202)
    ran = run("create", "organization", "acme")
    assert ran.code == 1
    assert ran.err.startswith("error: not decided within 30 s; it is on the log and will be\n")
