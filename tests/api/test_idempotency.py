"""A command id is decided once, for any number of retries (`Idempotency-Key`)."""

import asyncio
from functools import partial

from schemas.aggregates.project import DefineProject
from tests.api.problem import problem
from tests.api.running_api import ACME, ORG, RunningApi

PROJECT = f"{ORG}/projects/shop"
THEIRS = "/api/v1/organizations/acme"


async def test_the_same_key_and_body_get_the_first_answer_again(signalbox: RunningApi) -> None:
    first = await signalbox.put(PROJECT, {"display_name": "Shop"}, Idempotency_Key="k-1")
    again = await signalbox.put(PROJECT, {"display_name": "Shop"}, Idempotency_Key='"k-1"')
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["signalbox-position"] == first.headers["signalbox-position"]


async def test_a_repeated_key_without_a_wished_wait_names_no_preference(signalbox: RunningApi) -> None:
    event: dict[str, object] = {
        "specversion": "1.0",
        "id": "k-2",
        "source": "/shop",
        "type": DefineProject.type(),
    }
    event["data"] = {"organization": "default", "name": "store", "expected_version": 0}
    kind = {"Content-Type": "application/cloudevents+json"}
    for method, path, body, headers in (
        ("PUT", PROJECT, {"display_name": "Shop"}, {"Idempotency-Key": "k-1"}),
        ("POST", f"{ORG}/commands", event, kind),
    ):
        ask = partial(signalbox.client.request, method, path, json=body)
        first = await ask(headers=headers)
        assert first.status_code == 202, first.text
        await signalbox.commands.outcomes([("default", first.json()["id"])], 5)
        again = await ask(headers=headers)
        waited = await ask(headers={**headers, "Prefer": "wait=5"})
        assert again.status_code == waited.status_code < 202
        assert again.json() == waited.json()
        applied = [answer.headers.get("preference-applied") for answer in (first, again, waited)]
        assert applied == [None, None, "wait"]


async def test_a_rejection_is_repeated_too(signalbox: RunningApi) -> None:
    first = await signalbox.put(PROJECT, If_Match='"4"', Idempotency_Key="k-1")
    again = await signalbox.put(PROJECT, If_Match='"4"', Idempotency_Key="k-1")
    problem(first, 412, "stale-version")
    assert again.json() == first.json()


async def test_the_same_key_with_another_body_is_refused(signalbox: RunningApi) -> None:
    await signalbox.put(PROJECT, {"display_name": "Shop"}, Idempotency_Key="k-1")
    other = await signalbox.put(PROJECT, {"display_name": "Store"}, Idempotency_Key="k-1")
    problem(other, 422, "idempotency-key-reused")
    elsewhere = await signalbox.put(f"{ORG}/projects/b", {"display_name": "Shop"}, Idempotency_Key="k-1")
    problem(elsewhere, 422, "idempotency-key-reused")
    another = await signalbox.put(PROJECT, {"display_name": "Shop"}, Idempotency_Key="k-1", If_Match='"1"')
    problem(another, 422, "idempotency-key-reused")


async def test_a_key_that_is_still_running_is_a_conflict(signalbox: RunningApi) -> None:
    await signalbox.pause()
    first = await signalbox.client.put(PROJECT, json={}, headers={"Idempotency-Key": "k-1"})
    again = await signalbox.client.put(PROJECT, json={}, headers={"Idempotency-Key": "k-1"})
    problem(again, 409, "still-running")
    assert again.headers["location"] == first.headers["location"] == "/api/v1/operations/k-1"


async def test_twins_at_the_same_time_cause_one_event(signalbox: RunningApi) -> None:
    before = await signalbox.log.end("events", 0)
    answers = await asyncio.gather(
        *(signalbox.put(PROJECT, {"display_name": "Shop"}, Idempotency_Key="k-1") for _ in range(4))
    )
    assert {a.status_code for a in answers} <= {201, 409}
    assert await signalbox.log.end("events", 0) == before + 1


async def test_a_gateways_token_is_shown_to_the_first_caller_alone(signalbox: RunningApi) -> None:
    first = await signalbox.post(f"{ORG}/gateways", {"name": "edge"}, Idempotency_Key="k-1")
    again = await signalbox.post(f"{ORG}/gateways", {"name": "edge"}, Idempotency_Key="k-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["token"].startswith("sbg_")
    assert "token" not in again.json()


async def test_a_key_that_cannot_be_an_id_is_refused(signalbox: RunningApi) -> None:
    for key in ("", "a b", "x" * 101, "-a", "a/b", '"'):
        answer = await signalbox.put(PROJECT, Idempotency_Key=key)
        problem(answer, 400, "invalid-idempotency-key")


async def test_another_tenants_operation_does_not_exist_for_others(signalbox: RunningApi) -> None:
    await signalbox.put(PROJECT, Idempotency_Key="k-1")
    mine = await signalbox.client.get("/api/v1/operations/k-1")
    assert mine.json()["state"] == "accepted"
    theirs = await signalbox.client.get("/api/v1/operations/k-1", headers={"Authorization": f"Bearer {ACME}"})
    problem(theirs, 404, "not-found")
    problem(await signalbox.client.get("/api/v1/operations/none"), 404, "not-found")


async def test_organizations_may_use_the_same_key(signalbox: RunningApi) -> None:
    mine = await signalbox.put(PROJECT, {"display_name": "Shop"}, Idempotency_Key="k-1")
    theirs = await signalbox.put(f"{THEIRS}/projects/shop", {"display_name": "Store"}, Idempotency_Key="k-1")
    again = await signalbox.put(PROJECT, {"display_name": "Shop"}, Idempotency_Key="k-1")
    assert (mine.status_code, theirs.status_code, again.status_code) == (201, 201, 201)
    assert (mine.json()["display_name"], theirs.json()["display_name"]) == ("Shop", "Store")
    assert again.json() == mine.json()


async def test_while_another_organizations_command_runs_the_same_key_is_free(signalbox: RunningApi) -> None:
    await signalbox.pause()
    theirs = await signalbox.client.put(
        f"{THEIRS}/projects/shop", json={}, headers={"Idempotency-Key": "k-1"}
    )
    mine = await signalbox.client.put(PROJECT, json={}, headers={"Idempotency-Key": "k-1"})
    assert (theirs.status_code, mine.status_code) == (202, 202)
    signalbox.resume()
    found = await signalbox.commands.outcomes([("acme", "k-1"), ("default", "k-1")], 10)
    assert {key: outcome.accepted for key, outcome in found.items()} == dict.fromkeys(found, True)
    assert len(found) == 2


async def test_an_operation_is_the_callers_own_when_another_organization_used_its_id(
    signalbox: RunningApi,
) -> None:
    await signalbox.put(PROJECT, Idempotency_Key="k-1")
    await signalbox.put(f"{THEIRS}/projects/shop", Idempotency_Key="k-1")
    get, operation = signalbox.client.get, "/api/v1/operations/k-1"

    # Who may see one organization is given that one's,
    ann = await get(operation, headers={"Authorization": f"Bearer {ACME}"})
    assert (ann.status_code, ann.json()["organization"]) == (200, "acme")

    # who may see several says which one is meant,
    chosen = [await get(operation, params={"organization": name}) for name in ("default", "acme")]
    assert [answer.json()["organization"] for answer in chosen] == ["default", "acme"]
    message = problem(await get(operation), 409, "ambiguous-operation")
    assert message["organizations"] == ["acme", "default"]

    # and no caller gets one of another organization, or of one that never used the id.
    other = await get(
        operation, params={"organization": "default"}, headers={"Authorization": f"Bearer {ACME}"}
    )
    problem(other, 404, "not-found")
    problem(await get(operation, params={"organization": "nobody"}), 404, "not-found")
