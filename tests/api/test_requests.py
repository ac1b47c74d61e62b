"""Positions, headers, parameters and the places of errors, as RFC 9110 and RFC 9457 have them."""

from typing import Any

import httpx
import orjson
import pytest

from api.ports import Settings
from tests.api.problem import problem
from tests.api.running_api import ACME, ORG, RunningApi, definition
from tests.api.test_openapi import OPERATIONS

EVENTS = f"{ORG}/events"
STREAM = "text/event-stream"
BATCH = "application/cloudevents-batch+json"
PROJECT = f"{ORG}/projects/shop"
MINE = {"Authorization": f"Bearer {ACME}"}


def places(answer: httpx.Response) -> list[str]:
    return [error.get("parameter") or error["pointer"] for error in answer.json()["errors"]]


# -- positions


@pytest.mark.parametrize("accept", [BATCH, STREAM])
async def test_events_after_a_position_beyond_the_end_are_refused(signalbox: RunningApi, accept: str) -> None:
    end = await signalbox.log.end("events", 0)
    headers = {"Accept": accept}
    at_the_end = await signalbox.client.get(f"{EVENTS}?after={end}&follow=false", headers=headers)
    assert at_the_end.status_code == 200
    beyond = await signalbox.client.get(f"{EVENTS}?after={end + 1}&follow=false", headers=headers)
    problem(beyond, 400, "invalid-parameter")
    assert beyond.json()["errors"] == [
        {"parameter": "after", "detail": f"is beyond the end of the event log, which is {end}"}
    ]


async def test_a_stream_is_not_resumed_beyond_the_end(signalbox: RunningApi) -> None:
    headers = {"Accept": STREAM, "Last-Event-ID": "0:999999"}
    answer = await signalbox.client.get(f"{EVENTS}?follow=false", headers=headers)
    problem(answer, 400, "invalid-parameter")
    assert places(answer) == ["Last-Event-ID"]


async def test_the_list_of_a_bound_callers_organizations_waits_for_a_position(signalbox: RunningApi) -> None:
    end = await signalbox.log.end("events", 0)
    path = "/api/v1/organizations"
    seen = await signalbox.client.get(f"{path}?min_position=0:{end}", headers=MINE)
    assert [item["name"] for item in seen.json()["items"]] == ["acme"]
    assert seen.headers["signalbox-position"] == f"0:{end}"
    beyond = await signalbox.client.get(f"{path}?min_position={end + 1}", headers=MINE)
    problem(beyond, 400, "invalid-parameter")
    assert places(beyond) == ["min_position"]
    elsewhere = await signalbox.client.get(f"{path}?min_position=7:1", headers=MINE)
    problem(elsewhere, 400, "invalid-parameter")


async def test_the_list_of_a_bound_callers_organizations_has_pages(signalbox: RunningApi) -> None:
    path, everywhere = "/api/v1/organizations", dict(signalbox.client.headers)
    problem(await signalbox.client.get(f"{path}?cursor=acme", headers=MINE), 400, "invalid-parameter")
    first = (await signalbox.client.get(f"{path}?limit=1", headers=everywhere)).json()
    assert [item["name"] for item in first["items"]] == ["acme"]
    # The cursor of one caller's page is good for another's
    rest = await signalbox.client.get(f"{path}?cursor={first['next_cursor']}", headers=MINE)
    assert rest.json() == {"items": [], "next_cursor": None}


# -- headers on several lines (RFC 9110 section 5.3), and Accept (section 12.5.1)


async def test_lines_of_a_header_are_one_list(signalbox: RunningApi) -> None:
    await signalbox.put(PROJECT)
    ask = signalbox.client.request
    lines = [("Accept", "text/html"), ("Accept", "application/json")]
    assert (await ask("GET", PROJECT, headers=lines)).status_code == 200
    lines = [("If-None-Match", '"7"'), ("If-None-Match", '"1"')]
    assert (await ask("GET", PROJECT, headers=lines)).status_code == 304
    lines = [("Prefer", "handling=strict"), ("Prefer", "wait=10"), ("If-Match", '"7"'), ("If-Match", '"1"')]
    changed = await ask("PUT", PROJECT, json={"display_name": "Shop"}, headers=lines)
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')


async def test_a_key_that_comes_twice_is_no_key(signalbox: RunningApi) -> None:
    lines = [("Idempotency-Key", "k-1"), ("Idempotency-Key", "k-2")]
    answer = await signalbox.client.request("PUT", PROJECT, json={}, headers=lines)
    problem(answer, 400, "invalid-idempotency-key")


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", BATCH),
        (f"{STREAM};q=0.5, {BATCH}", BATCH),
        (f"{STREAM}, */*;q=0.1", STREAM),
        (f"{STREAM}, */*", STREAM),
        (f"{STREAM.upper()}", STREAM),
        ("text/*", STREAM),
        (f"{STREAM};q=0, */*", BATCH),
        (f"application/x-{STREAM.replace('/', '-')}, */*;q=0.5", BATCH),
        (f"{STREAM};q=0", None),
        ("*/*;q=0", None),
        ("text/html", None),
    ],
)
async def test_events_come_as_accept_prefers(signalbox: RunningApi, accept: str, media: str | None) -> None:
    answer = await signalbox.client.get(f"{EVENTS}?follow=false", headers={"Accept": accept})
    if media is None:
        problem(answer, 406, "not-acceptable")
    else:
        assert answer.headers["content-type"].partition(";")[0] == media


async def test_a_stream_takes_no_limit(signalbox: RunningApi) -> None:
    answer = await signalbox.client.get(f"{EVENTS}?follow=false&limit=1", headers={"Accept": STREAM})
    problem(answer, 400, "unknown-parameter")
    assert places(answer) == ["limit"]


# -- places of errors


async def test_a_refused_header_is_named(signalbox: RunningApi) -> None:
    put = signalbox.put
    assert places(await put(PROJECT, Idempotency_Key="a b")) == ["Idempotency-Key"]
    for headers in ({"If-Match": "3"}, {"If-None-Match": '"3"'}, {"If-Match": "*", "If-None-Match": "*"}):
        answer = await signalbox.client.put(PROJECT, json={}, headers=headers)
        problem(answer, 400, "invalid-precondition")
        assert places(answer) == [next(iter(headers))]
    await put(PROJECT, {"display_name": "a"}, Idempotency_Key="k-1")
    assert places(await put(PROJECT, {"display_name": "b"}, Idempotency_Key="k-1")) == ["Idempotency-Key"]


@pytest.mark.parametrize("tag", ['"3"', '"abc"', '"2", "3"'])
@pytest.mark.parametrize("wait", [0, 10])
async def test_a_refused_if_match_says_what_to_send(signalbox: RunningApi, tag: str, wait: int) -> None:
    missing = await signalbox.put(PROJECT, If_Match=tag, wait=wait)
    problem(missing, 412, "stale-version")
    assert places(missing) == ["If-Match"]
    await signalbox.put(PROJECT)
    stale = await signalbox.put(PROJECT, If_Match=tag, wait=wait)
    problem(stale, 412, "stale-version")
    assert places(stale) == ["If-Match"]
    assert "ETag" in stale.json()["errors"][0]["detail"]


async def test_a_change_without_a_condition_says_what_to_send(signalbox: RunningApi) -> None:
    await signalbox.put(PROJECT)
    for wait in (0, 10):
        answer = await signalbox.put(PROJECT, wait=wait)
        problem(answer, 428, "precondition-required")
        assert places(answer) == ["If-Match"]


async def test_a_bad_name_in_a_path_is_a_parameter(signalbox: RunningApi) -> None:
    assert places(await signalbox.put("/api/v1/organizations/a b")) == ["org"]
    assert places(await signalbox.put("/api/v1/organizations/a b/projects/c d")) == ["org", "name"]
    both = await signalbox.put(f"{ORG}/projects/c d", {"display_name": 1})
    assert sorted(places(both)) == ["/display_name", "name"]
    # A POST has the name in its body
    assert places(await signalbox.post(f"{ORG}/gateways", {"name": "c d"})) == ["/name"]


async def test_too_much_is_named(signalbox: RunningApi) -> None:
    query = "&".join(f"a{i}=1" for i in range(60))
    many = await signalbox.client.get(f"{PROJECT}?{query}")
    problem(many, 400, "too-many-parameters")
    assert places(many) == ["a50"]

    client = signalbox.with_settings(Settings(apply_documents=1))
    two = {"documents": [{"content": definition("a")}, {"content": definition("b")}]}
    applied = await client.post(f"{ORG}/apply", json=two)
    problem(applied, 422, "too-many-documents")
    assert places(applied) == ["/documents"]

    event = {"specversion": "1.0", "source": "/t", "type": "io.signalbox.project.command.define.v1"}
    batch = orjson.dumps([{**event, "id": f"e-{i}", "data": {}} for i in range(1001)])
    large = await signalbox.client.post(f"{ORG}/commands", content=batch, headers={"Content-Type": BATCH})
    problem(large, 422, "batch-too-large")
    assert places(large) == [""]


async def test_an_id_that_is_used_again_is_the_events(signalbox: RunningApi) -> None:
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/t",
        "type": "io.signalbox.project.command.define.v1",
        "data": {"organization": "default", "name": "a"},
    }
    headers = {"Content-Type": "application/cloudevents+json", "Prefer": "wait=10"}
    path = f"{ORG}/commands"
    first = await signalbox.client.post(path, content=orjson.dumps(event), headers=headers)
    assert len(first.json()["digest"]) == 64
    event["data"]["name"] = "b"
    again = await signalbox.client.post(path, content=orjson.dumps(event), headers=headers)
    problem(again, 422, "idempotency-key-reused")
    assert places(again) == ["/id"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_documents_400(operation: dict[str, Any]) -> None:
    """For an unknown query parameter."""
    assert "400" in operation["responses"]
