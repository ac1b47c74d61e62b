"""What could not be taken in is seen, tried again or given up, and who did that is on the parked topic."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from schemas.aggregates.project import ProjectDefined
from schemas.envelope import Envelope
from schemas.identity import timestamp, uuid7
from streams.dead_letters import dead_letter
from streams.log import Fault, LogUnavailable, Record
from tests.api.problem import problem
from tests.api.running_api import ACME, RunningApi
from tests.support.hang_guard import HANG_SECONDS

SUBJECT = "organizations/acme/projects/shop"
OLD = "io.signalbox.project.outlined.v1"
"""A type that is unknown, until the test adds it."""


def event(description: str, type: str = ProjectDefined.type()) -> Envelope:
    data = ProjectDefined(organization="acme", name="shop", description=description).data()
    return Envelope(
        id=uuid7(),
        type=type,
        source="/tests",
        subject=SUBJECT,
        time=timestamp(),
        partitionkey="acme",
        data=data,
    )


@pytest.fixture
async def poison(signalbox: RunningApi) -> int:
    """The position of an event that cannot be taken in; one about the same project waits behind it."""
    positions = await signalbox.log.append("events", [event("one", OLD), event("two")])
    async with asyncio.timeout(HANG_SECONDS):
        await signalbox.services.read_model_runner.wait_for("resources", 0, positions[-1])
    return positions[0]


async def items(signalbox: RunningApi, path: str = "/api/v1/parked") -> list[dict[str, Any]]:
    answer = await signalbox.client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def resources(signalbox: RunningApi) -> list[dict[str, Any]]:
    return [item for item in await items(signalbox) if item["read_model"] == "resources"]


async def ask(signalbox: RunningApi, verb: str, **asked: Any) -> Any:
    return await signalbox.client.post(
        f"/api/v1/readmodels/resources/parked/{verb}", json={"subject": SUBJECT, **asked}
    )


async def project(signalbox: RunningApi) -> str | None:
    answer = await signalbox.client.get("/api/v1/organizations/acme/projects/shop")
    return answer.json()["description"] if answer.status_code == 200 else None


def known(old: Envelope) -> Envelope:
    return event(old.data["description"])


async def test_a_parked_event_is_listed_with_its_reason_and_the_events_that_wait_behind_it(
    signalbox: RunningApi, poison: int
) -> None:
    [item] = await resources(signalbox)
    assert (item["subject"], item["position"], item["waiting"]) == (SUBJECT, poison, 2)
    assert OLD in item["reason"]
    assert await project(signalbox) is None


async def test_a_retry_takes_in_everything_once_the_cause_is_gone(
    signalbox: RunningApi, poison: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = (await ask(signalbox, "retry")).json()
    assert (output["taken"], output["waiting"], output["first"]["position"]) == (0, 2, poison)
    monkeypatch.setattr("schemas.upcasting.UPCASTERS", {OLD: known})
    output = (await ask(signalbox, "retry")).json()
    assert (output["taken"], output["waiting"]) == (2, 0)
    assert await resources(signalbox) == []
    assert await project(signalbox) == "two"


async def test_a_skip_gives_up_one_event_and_lets_the_others_through(
    signalbox: RunningApi, poison: int
) -> None:
    output = (await ask(signalbox, "skip", partition=0, position=poison)).json()
    assert (output["taken"], output["waiting"]) == (1, 0)
    assert await project(signalbox) == "two"


async def test_only_the_event_that_was_seen_is_given_up(signalbox: RunningApi, poison: int) -> None:
    problem(await ask(signalbox, "skip", partition=0, position=poison + 1), 409, "not-the-first")
    assert [i["waiting"] for i in await resources(signalbox)] == [2]
    assert await items(signalbox, "/api/v1/parked/topic") == []


async def test_the_parked_topic_has_the_actor_the_action_and_the_time(
    signalbox: RunningApi, poison: int
) -> None:
    await ask(signalbox, "retry")
    await ask(signalbox, "skip", partition=0, position=poison)
    skipped, retried = await items(signalbox, "/api/v1/parked/topic")
    assert (retried["kind"], skipped["kind"]) == ("retried", "skipped")
    for entry in (retried, skipped):
        assert entry["by"] == "admin"
        assert (entry["organization"], entry["about"], entry["position"]) == ("acme", SUBJECT, poison)
    assert skipped["of_type"] == OLD
    [first, second] = await signalbox.log.read("parked", 0, 0, 10)
    assert [r.envelope.authid for r in (first, second)] == ["admin", "admin"]


async def test_nothing_is_done_that_could_not_be_recorded(
    signalbox: RunningApi, poison: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> list[int]:
        raise LogUnavailable("the disk is full")

    monkeypatch.setattr(signalbox.log, "append", full)
    problem(await ask(signalbox, "skip", partition=0, position=poison), 503, "unavailable")
    assert [i["waiting"] for i in await resources(signalbox)] == [2]


async def test_messages_that_deciders_parked_are_listed_with_reason_and_size(signalbox: RunningApi) -> None:
    nameless = Envelope(id="", type="", source="", subject="", time="", partitionkey="", data={})
    fault = Fault("malformed", "id: Missing required attribute: 'id'", b"{}")
    message = dead_letter(Record("commands", 0, 7, nameless, fault), fault, "/decider", timestamp())
    await signalbox.log.append("parked", [message])
    [entry] = await items(signalbox, "/api/v1/parked/topic")
    assert (entry["kind"], entry["topic"], entry["position"], entry["size"]) == ("parked", "commands", 7, 2)
    assert (entry["rule"], entry["reason"]) == (fault.rule, fault.reason)
    assert "value" not in entry


async def test_an_event_that_is_not_parked_cannot_be_retried(signalbox: RunningApi) -> None:
    problem(await ask(signalbox, "retry"), 404, "not-found")
    problem(await ask(signalbox, "skip", partition=0, position=1), 404, "not-found")
    problem(await ask(signalbox, "skip"), 422, "invalid-command")


async def test_a_list_goes_on_where_the_page_before_ended(signalbox: RunningApi, poison: int) -> None:
    other = replace(event("one", OLD), subject="organizations/acme/projects/other")
    [position] = await signalbox.log.append("events", [other])
    async with asyncio.timeout(HANG_SECONDS):
        await signalbox.services.read_model_runner.wait_for("resources", 0, position)
    everything = await items(signalbox)
    assert [item["subject"] for item in everything] == [other.subject, SUBJECT]
    first = (await signalbox.client.get("/api/v1/parked?limit=1")).json()
    rest = (await signalbox.client.get(f"/api/v1/parked?limit=1&cursor={first['next_cursor']}")).json()
    assert first["items"] + rest["items"] == everything
    assert rest["next_cursor"] is None


async def test_a_token_for_one_organization_sees_and_changes_nothing(
    signalbox: RunningApi, poison: int
) -> None:
    headers = {"Authorization": f"Bearer {ACME}"}
    for method, path in (
        ("GET", "/api/v1/parked"),
        ("GET", "/api/v1/parked/topic"),
        ("POST", "/api/v1/readmodels/resources/parked/retry"),
        ("POST", "/api/v1/readmodels/resources/parked/skip"),
    ):
        body = None if method == "GET" else {"subject": SUBJECT, "partition": 0, "position": poison}
        answer = await signalbox.client.request(method, path, json=body, headers=headers)
        problem(answer, 403, "forbidden")
    assert [i["waiting"] for i in await resources(signalbox)] == [2]
