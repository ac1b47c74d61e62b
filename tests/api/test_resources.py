"""What every resource does over HTTP, whatever its aggregate."""

import asyncio
from typing import Any

import pytest

from api.ports import Settings
from projections.pages import Row
from schemas.aggregates.project import PROJECT as PROJECTS
from schemas.identity import timestamp
from tests.api.problem import problem
from tests.api.running_api import ACME, ORG, RunningApi

PROJECT = f"{ORG}/projects/shop"


async def test_a_put_makes_a_resource_and_answers_it_with_its_version(signalbox: RunningApi) -> None:
    answer = await signalbox.put(PROJECT, {"display_name": "Shop"})
    assert answer.status_code == 201
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["location"] == PROJECT
    assert answer.headers["preference-applied"] == "wait"
    assert answer.headers["signalbox-position"].startswith("0:")
    assert answer.json()["display_name"] == "Shop"
    read = await signalbox.client.get(answer.headers["location"])
    assert read.status_code == 200
    assert read.json() == answer.json()
    assert read.headers["etag"] == '"1"'


async def test_no_name_has_a_control_character(signalbox: RunningApi) -> None:
    for method, path in (
        ("GET", f"{ORG}/projects/a%00b"),
        ("DELETE", f"{ORG}/projects/%0a"),
        ("GET", f"{ORG}%00/projects"),
    ):
        refused = problem(await signalbox.client.request(method, path), 400, "invalid-parameter")
        assert "the text contains the control character U+00" in refused["errors"][0]["detail"]
    refused = problem(await signalbox.client.get(f"{ORG}/projects?cursor=%00"), 400, "invalid-parameter")
    assert refused["errors"][0]["parameter"] == "cursor"


async def test_text_that_cannot_be_shown_is_refused_where_it_stands(signalbox: RunningApi) -> None:
    body = {"display_name": "a\0b", "description": "one\ntwo\tthree \u202e"}
    refused = problem(await signalbox.put(PROJECT, body), 422, "invalid-command")
    assert [(e["pointer"], e["detail"]) for e in refused["errors"]] == [
        ("/display_name", "the text contains the control character U+0000 (character 2)"),
        ("/description", "the text contains the bidirectional control U+202E (character 15)"),
    ]


async def test_without_waiting_a_change_is_accepted_and_its_operation_has_the_outcome(
    signalbox: RunningApi,
) -> None:
    await signalbox.pause()
    answer = await signalbox.client.put(PROJECT, json={})
    assert answer.status_code == 202
    assert answer.headers["signalbox-position"] == f"0:{await signalbox.log.end('events', 0)}"
    assert "preference-applied" not in answer.headers
    operation = await signalbox.client.get(answer.headers["location"])
    assert operation.json()["state"] == "pending"
    assert operation.headers["retry-after"] == "1"
    signalbox.resume()
    await signalbox.commands.outcomes([("default", answer.json()["id"])], 5)
    operation = await signalbox.client.get(answer.headers["location"])
    assert operation.json()["state"] == "accepted"
    assert operation.json()["href"] == PROJECT


async def test_a_wait_that_is_too_short_is_a_202(signalbox: RunningApi) -> None:
    await signalbox.pause()
    answer = await signalbox.put(PROJECT, wait=0)
    assert answer.status_code == 202
    assert answer.json()["state"] == "pending"


async def test_a_change_to_an_existing_resource_needs_its_version(signalbox: RunningApi) -> None:
    await signalbox.put(PROJECT, {"display_name": "Shop"})
    missing = await signalbox.put(PROJECT, {"display_name": "Store"})
    assert problem(missing, 428, "precondition-required")["current_version"] == 1
    stale = await signalbox.put(PROJECT, {"display_name": "Store"}, If_Match='"7"')
    assert problem(stale, 412, "stale-version")["current_version"] == 1
    assert stale.headers["etag"] == '"1"'
    done = await signalbox.put(PROJECT, {"display_name": "Store"}, If_Match='"1"')
    assert done.status_code == 200
    assert done.headers["etag"] == '"2"'
    assert "location" not in done.headers


@pytest.mark.parametrize(("tag", "exists"), [('"7"', True), ('"1"', True), ('"1"', False)])
async def test_without_waiting_a_stale_version_is_refused_at_once(
    signalbox: RunningApi, tag: str, exists: bool
) -> None:
    if exists:
        await signalbox.put(PROJECT, {"display_name": "Shop"})
        await signalbox.put(PROJECT, {"display_name": "Store"}, If_Match='"1"')
    commands = await signalbox.log.end("commands", 0)
    headers = {"If-Match": tag}
    answer = await signalbox.client.put(PROJECT, json={"display_name": "Mall"}, headers=headers)
    assert problem(answer, 412, "stale-version")["current_version"] == (2 if exists else 0)
    assert answer.headers.get("etag") == ('"2"' if exists else None)
    gone = await signalbox.client.delete(PROJECT, headers=headers)
    problem(gone, *((412, "stale-version") if exists else (404, "not-found")))
    assert await signalbox.log.end("commands", 0) == commands


async def test_without_waiting_a_version_that_read_models_do_not_know_yet_is_accepted(
    signalbox: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    await signalbox.put(PROJECT, {"display_name": "Shop"})
    behind = await signalbox.services.read_models.get(PROJECTS, "default", "shop")
    await signalbox.put(PROJECT, {"display_name": "Store"}, If_Match='"1"')

    async def get(*_: object, **__: object) -> Row | None:
        return behind

    monkeypatch.setattr(signalbox.services.read_models, "get", get)
    answer = await signalbox.client.put(
        PROJECT, json={"display_name": "Mall"}, headers={"If-Match": '"2"', "Idempotency-Key": "k-1"}
    )
    assert answer.status_code == 202
    assert (await signalbox.commands.outcomes([("default", "k-1")], 5))[("default", "k-1")].version == 3


async def test_without_waiting_a_repetition_is_answered_as_before(signalbox: RunningApi) -> None:
    await signalbox.put(PROJECT, {"display_name": "Shop"})
    headers = {"If-Match": '"1"', "Idempotency-Key": "k-1"}
    first = await signalbox.client.put(PROJECT, json={"display_name": "Store"}, headers=headers)
    assert first.status_code == 202
    await signalbox.commands.outcomes([("default", "k-1")], 5)
    again = await signalbox.client.put(PROJECT, json={"display_name": "Store"}, headers=headers)
    assert (again.status_code, again.headers["etag"]) == (200, '"2"')


async def test_of_two_callers_with_the_same_version_one_is_stale(signalbox: RunningApi) -> None:
    await signalbox.put(PROJECT)
    answers = await asyncio.gather(
        *(signalbox.put(PROJECT, {"display_name": n}, If_Match='"1"') for n in ("one", "two"))
    )
    assert sorted(a.status_code for a in answers) == [200, 412]


async def test_of_two_callers_that_create_the_same_one_gets_already_exists(signalbox: RunningApi) -> None:
    answers = await asyncio.gather(
        *(signalbox.put(PROJECT, {"display_name": n}, If_None_Match="*") for n in ("one", "two"))
    )
    assert sorted(a.status_code for a in answers) == [201, 412]


@pytest.mark.parametrize(
    ("header", "exists", "status"),
    [
        ({"If_Match": "*"}, True, 200),
        ({"If_Match": "*"}, False, 412),
        ({"If_Match": '"1", "5"'}, True, 200),
        ({"If_Match": 'W/"1"'}, True, 412),
        ({"If_Match": '"abc"'}, True, 412),
        ({"If_None_Match": "*"}, True, 412),
        ({"If_None_Match": "*"}, False, 201),
        ({"If_Match": "1"}, True, 400),
        ({"If_None_Match": '"1"'}, True, 400),
        ({"If_Match": '"1"', "If_None_Match": "*"}, True, 400),
    ],
)
async def test_preconditions(
    signalbox: RunningApi, header: dict[str, Any], exists: bool, status: int
) -> None:
    if exists:
        await signalbox.put(PROJECT)
    answer = await signalbox.put(PROJECT, {"display_name": "Store"}, **header)
    assert answer.status_code == status, answer.text


async def test_delete_answers_the_outcome_and_the_name_can_be_used_again(signalbox: RunningApi) -> None:
    await signalbox.put(PROJECT)
    problem(await signalbox.delete(PROJECT), 428, "precondition-required")
    gone = await signalbox.delete(PROJECT, If_Match='"1"')
    assert gone.status_code == 200
    assert gone.json()["state"] == "accepted"
    problem(await signalbox.client.get(PROJECT), 404, "not-found")
    problem(await signalbox.delete(PROJECT), 404, "not-found")
    again = await signalbox.put(PROJECT)
    assert again.status_code == 201
    assert again.headers["etag"] == '"3"'


async def test_a_resource_in_use_cannot_be_deleted(signalbox: RunningApi) -> None:
    refused = await signalbox.delete(f"{ORG}/environments/development", If_Match="*")
    assert problem(refused, 409, "in-use")["errors"]


async def test_a_get_with_the_right_etag_is_not_modified(signalbox: RunningApi) -> None:
    await signalbox.put(PROJECT)
    for tag in ('"1"', 'W/"1"', '"7", "1"', "*"):
        answer = await signalbox.client.get(PROJECT, headers={"If-None-Match": tag})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == '"1"'
    answer = await signalbox.client.get(PROJECT, headers={"If-None-Match": '"7"'})
    assert answer.status_code == 200


async def test_as_of_shows_the_earlier_state(signalbox: RunningApi) -> None:
    first = await signalbox.put(PROJECT, {"display_name": "Shop"})
    between = timestamp()
    await signalbox.put(PROJECT, {"display_name": "Store"}, If_Match="*")
    position = first.headers["signalbox-position"]
    for moment in (between, position, position.partition(":")[2], between.replace("Z", "+00:00")):
        then = await signalbox.client.get(PROJECT, params={"as_of": moment})
        assert then.json()["display_name"] == "Shop", moment
    before = await signalbox.client.get(PROJECT, params={"as_of": "2020-01-01T00:00:00Z"})
    problem(before, 404, "not-found")
    early = await signalbox.client.get(PROJECT, params={"as_of": "0214-10-18T08:06:59+01:00"})
    problem(early, 404, "not-found")
    for time in ("yesterday", "\N{ARABIC-INDIC DIGIT ONE}"):
        problem(await signalbox.client.get(PROJECT, params={"as_of": time}), 400, "invalid-parameter")


async def test_as_of_a_position_beyond_the_end_is_refused_without_waiting(signalbox: RunningApi) -> None:
    client = signalbox.with_settings(Settings(position_seconds=3600))
    end = await signalbox.log.end("events", 0)
    for beyond in (f"{end + 1}", f"0:{end + 1}"):
        refused = problem(await client.get(PROJECT, params={"as_of": beyond}), 400, "invalid-parameter")
        assert refused["detail"] == "`as_of` is a position in the future."
        assert refused["errors"] == [
            {"parameter": "as_of", "detail": f"is beyond the end of the event log, which is {end}"}
        ]


@pytest.mark.parametrize("path", ["projects", "projects/default", "apis/x/revisions", "apis/x/revisions/1"])
@pytest.mark.parametrize(
    ("moment", "detail"),
    [
        ("999999", "`as_of` is a position in the future."),
        ("2999-01-01T00:00:00Z", "`as_of` is a time in the future."),
        ("10:00", "`as_of` is a position of another partition."),
    ],
)
async def test_as_of_a_time_that_cannot_be_known_is_refused(
    signalbox: RunningApi, path: str, moment: str, detail: str
) -> None:
    client = signalbox.with_settings(Settings(position_seconds=0.01))
    answer = await client.get(f"{ORG}/{path}", params={"as_of": moment})
    assert problem(answer, 400, "invalid-parameter")["detail"] == detail


async def test_as_of_a_position_ahead_of_the_read_model_is_503(signalbox: RunningApi) -> None:
    class Behind:
        async def wait_for(self, read_model: str, partition: int, position: int) -> None:
            await asyncio.Event().wait()

        async def rebuild(self, read_model: str) -> None:
            raise NotImplementedError

        def positions(self) -> dict[str, dict[int, int]]:
            return {}

    client = signalbox.with_settings(Settings(position_seconds=0.01), Behind())
    for moment in ("1", timestamp()):
        answer = await client.get(f"{ORG}/projects", params={"as_of": moment})
        problem(answer, 503, "position-not-reached")
        assert int(answer.headers["retry-after"]) > 0


async def test_min_position_waits_for_the_read_model(signalbox: RunningApi) -> None:
    made = await signalbox.client.put(PROJECT, json={})
    key = ("default", made.json()["id"])
    outcome = (await signalbox.commands.outcomes([key], 5))[key]
    answer = await signalbox.client.get(PROJECT, params={"min_position": f"0:{outcome.position}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("projects", "min_position"),
        ("projects/default", "min_position"),
        ("live", "min_position"),
        ("events", "after"),
    ],
)
async def test_a_position_of_another_partition_is_refused(
    signalbox: RunningApi, path: str, parameter: str
) -> None:
    answer = await signalbox.client.get(f"{ORG}/{path}", params={parameter: "5:1"})
    message = problem(answer, 400, "invalid-parameter")
    assert message["detail"] == f"`{parameter}` is a position of another partition."
    (error,) = message["errors"]
    assert error["parameter"] == parameter
    assert "partition 5" in error["detail"] and "partition 0" in error["detail"]


async def test_a_live_stream_from_a_position_of_another_partition_is_refused(signalbox: RunningApi) -> None:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "5:1"}
    answer = await signalbox.client.get(f"{ORG}/events", headers=headers)
    assert problem(answer, 400, "invalid-parameter")["errors"][0]["parameter"] == "Last-Event-ID"


async def test_lists_come_in_pages_that_link_to_the_next(signalbox: RunningApi) -> None:
    for name in ("a", "b", "c"):
        await signalbox.put(f"{ORG}/projects/{name}")
    names: list[str] = []
    url: str | None = f"{ORG}/projects?limit=2"
    pages = 0
    while url:
        page = await signalbox.client.get(url)
        assert page.headers["signalbox-position"].startswith("0:")
        names += [item["name"] for item in page.json()["items"]]
        assert (page.json()["next_cursor"] is None) == ("next" not in page.links)
        url = page.links.get("next", {}).get("url")
        pages += 1
    assert (names, pages) == (["a", "b", "c", "default"], 2)


async def test_lists_are_filtered_by_the_fields_an_aggregate_names(signalbox: RunningApi) -> None:
    await signalbox.put(f"{ORG}/environments/production")
    await signalbox.post(f"{ORG}/gateways", {"name": "edge", "environment": "production"})
    page = await signalbox.client.get(f"{ORG}/gateways", params={"environment": "production"})
    assert [item["name"] for item in page.json()["items"]] == ["edge"]
    problem(await signalbox.client.get(f"{ORG}/gateways?enviroment=x"), 400, "unknown-parameter")


@pytest.mark.parametrize(
    ("query", "allowed"),
    [
        ("deployments?state=nonsense", "active, superseded, stopped"),
        ("deployments?state=Active", "active, superseded, stopped"),
        ("gateways?kind=konk", "envoy"),
        ("events?type=nonsense", "io.signalbox.api.deleted.v1, io.signalbox.api.published.v1"),
    ],
)
async def test_a_filter_by_a_value_that_cannot_be_is_refused_and_the_values_are_named(
    signalbox: RunningApi, query: str, allowed: str
) -> None:
    message = problem(await signalbox.client.get(f"{ORG}/{query}"), 400, "invalid-parameter")
    parameter = query.partition("?")[2].partition("=")[0]
    assert message["detail"].startswith(f"`{parameter}` takes one of: {allowed}")
    assert message["errors"][0]["parameter"] == parameter


@pytest.mark.parametrize(
    "query", ["deployments?state=active", "deployments?gateway=local&api=orders", "gateways?kind=envoy"]
)
async def test_a_filter_by_a_value_that_can_be_is_answered(signalbox: RunningApi, query: str) -> None:
    assert (await signalbox.client.get(f"{ORG}/{query}")).status_code == 200


async def test_a_token_lists_its_own_organizations_only(signalbox: RunningApi) -> None:
    everything = await signalbox.client.get("/api/v1/organizations")
    assert [o["name"] for o in everything.json()["items"]] == ["acme", "default"]
    mine = await signalbox.client.get("/api/v1/organizations", headers={"Authorization": f"Bearer {ACME}"})
    assert [o["name"] for o in mine.json()["items"]] == ["acme"]


@pytest.mark.parametrize("what", ["projects", "apis", "deployments", "live", "statistics", "events"])
async def test_a_list_of_an_organization_that_does_not_exist_is_not_found(
    signalbox: RunningApi, what: str
) -> None:
    message = problem(await signalbox.client.get(f"/api/v1/organizations/nobody/{what}"), 404, "not-found")
    assert message["detail"] == "There is no organization 'nobody'."
    made = await signalbox.put("/api/v1/organizations/nobody")
    assert made.status_code == 201
    assert (await signalbox.client.get(f"/api/v1/organizations/nobody/{what}")).status_code == 200


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"colour": "red"}, ["/colour"]),
        ({"display_name": 5, "description": 6}, ["/display_name", "/description"]),
        ({"name": "other"}, ["/name"]),
        ({"organization": "acme"}, ["/organization"]),
        ({"expected_version": 1}, ["/expected_version"]),
        ([], [""]),
    ],
)
async def test_every_wrong_field_is_pointed_at(
    signalbox: RunningApi, body: object, pointers: list[str]
) -> None:
    answer = await signalbox.put(PROJECT, body)
    message = problem(answer, 422, "invalid-command")
    assert [e["pointer"] for e in message["errors"]] == pointers


async def test_data_too_deep_for_the_log_is_refused(signalbox: RunningApi) -> None:
    deep: object = 1
    for _ in range(400):
        deep = [deep]
    data = {"name": "deep", "spec": {"context": "/deep", "policies": [{"name": "x", "params": {"p": deep}}]}}
    answer = await signalbox.command("api.command.publish", data)
    assert 400 <= answer.status_code < 500
    problem(answer, answer.status_code, answer.json()["type"].rpartition("/")[2])
