"""Bad input and bad luck: every error is a problem, and memory stays bounded."""

import asyncio
import logging
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from api.app import create_app
from api.authentication import FileTokenAuthenticator, Principal
from api.ports import Settings
from projections.queries import ReadModels
from tests.api.problem import problem
from tests.api.running_api import ACME, ADMIN, ORG, RunningApi, spec

PROJECT = f"{ORG}/projects/shop"


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic YTpi", f"Token {ADMIN}", "Bearer ü"],
)
async def test_without_a_valid_token_nothing_is_disclosed(
    signalbox: RunningApi, authorization: str | None
) -> None:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    client = httpx.AsyncClient(transport=httpx.ASGITransport(signalbox.app), base_url="http://signalbox")
    for path in (PROJECT, f"{ORG}/events", "/metrics", "/nowhere", "/api/v1/operations/x"):
        answer = await client.get(path, headers=headers)
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith('Bearer realm="signalbox"')


async def test_routes_that_need_no_token(signalbox: RunningApi) -> None:
    client = httpx.AsyncClient(transport=httpx.ASGITransport(signalbox.app), base_url="http://signalbox")
    for path in ("/", "/healthz/live", "/healthz/ready", "/openapi.json", "/asyncapi.json"):
        assert (await client.get(path)).status_code == 200, path


async def test_a_token_is_good_for_its_organizations_alone(signalbox: RunningApi) -> None:
    mine = {"Authorization": f"Bearer {ACME}"}
    assert (await signalbox.client.get("/api/v1/organizations/acme", headers=mine)).status_code == 200
    for method, path in (
        ("GET", "/api/v1/organizations/default"),
        ("PUT", "/api/v1/organizations/default"),
        ("GET", f"{ORG}/events"),
        ("POST", f"{ORG}/commands"),
        ("GET", f"{ORG}/apis"),
        ("PUT", f"{ORG}/projects/shop"),
        ("DELETE", f"{ORG}/projects/shop"),
        ("POST", f"{ORG}/deployments"),
    ):
        problem(await signalbox.client.request(method, path, headers=mine), 403, "forbidden")


def test_the_administrators_token_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    path.write_text("secret\n")
    authenticator = FileTokenAuthenticator(path)
    assert authenticator.principal("secret") == Principal("admin", None, frozenset({"admin"}))
    assert authenticator.principal("secre") is None
    path.write_text("\n")
    with pytest.raises(ValueError, match="no token"):
        FileTokenAuthenticator(path)


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status", "rule"),
    [
        ("GET", "/nowhere", {}, None, 404, "not-found"),
        ("GET", f"{ORG}/projects/none", {}, None, 404, "not-found"),
        ("GET", f"{ORG}/projects/", {}, None, 404, "not-found"),
        ("PATCH", PROJECT, {}, None, 405, "method-not-allowed"),
        ("GET", PROJECT, {"Accept": "text/html"}, None, 406, "not-acceptable"),
        ("PUT", PROJECT, {"Content-Type": "text/csv"}, b"a", 415, "unsupported-media-type"),
        ("PUT", PROJECT, {"Content-Encoding": "gzip"}, b"{}", 415, "unsupported-media-type"),
        ("PUT", PROJECT, {"Content-Type": "application/json"}, b"{", 400, "not-json"),
        ("PUT", PROJECT, {"Content-Type": "application/json"}, b"", 400, "not-json"),
        ("PUT", PROJECT, {"Content-Type": "application/json"}, b'"\xff"', 400, "not-json"),
        ("GET", f"{ORG}/projects?limit=0", {}, None, 400, "invalid-parameter"),
        ("GET", f"{ORG}/projects?limit=ten", {}, None, 400, "invalid-parameter"),
        ("GET", f"{ORG}/projects?cursor=%21", {}, None, 400, "invalid-parameter"),
        ("GET", f"{ORG}/projects?limit=1&limit=2", {}, None, 400, "unknown-parameter"),
        ("GET", f"{ORG}/projects?min_position=x", {}, None, 400, "invalid-parameter"),
        ("GET", f"{ORG}/events?follow=maybe", {}, None, 400, "invalid-parameter"),
    ],
)
async def test_errors(
    signalbox: RunningApi,
    method: str,
    path: str,
    headers: dict[str, str],
    content: bytes | None,
    status: int,
    rule: str,
) -> None:
    answer = await signalbox.client.request(method, path, headers=headers, content=content)
    problem(answer, status, rule)
    if status == 405:
        assert answer.headers["allow"] == "DELETE, GET, HEAD, PUT"


async def test_head_answers_as_get_without_a_body(signalbox: RunningApi) -> None:
    answer = await signalbox.client.head(f"{ORG}/projects/default")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["etag"] == '"1"'


async def test_an_unavailable_log_is_503_with_the_reason_and_recovers(signalbox: RunningApi) -> None:
    signalbox.commands.refuse = "the disk is full"
    refused = await signalbox.put(PROJECT)
    assert problem(refused, 503, "unavailable")["detail"] == "The log refuses writes: the disk is full."
    assert int(refused.headers["retry-after"]) > 0
    assert (await signalbox.client.get(f"{ORG}/projects/default")).status_code == 200
    signalbox.commands.refuse = ""
    assert (await signalbox.put(PROJECT)).status_code == 201


async def test_an_unexpected_error_is_logged_with_an_id_and_discloses_nothing(
    signalbox: RunningApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("secret detail of the inside")

    monkeypatch.setattr(signalbox.log, "find_by_id", broken)
    with caplog.at_level(logging.ERROR, "signalbox.api"):
        answer = await signalbox.client.get("/api/v1/operations/x")
    output = problem(answer, 500, "internal-error")
    assert "secret" not in answer.text
    assert output["error"] in caplog.text
    assert "secret detail" in caplog.text


class Stuck:
    """A projector that does not advance."""

    async def wait_for(self, read_model: str, partition: int, position: int, /) -> None:
        await asyncio.Event().wait()

    async def rebuild(self, read_model: str, /) -> None:
        raise AssertionError

    def positions(self) -> dict[str, dict[int, int]]:
        return {}


async def test_a_read_model_that_does_not_get_there_is_503(signalbox: RunningApi) -> None:
    client = signalbox.with_settings(Settings(position_seconds=0.01), runner=Stuck())
    end = await signalbox.log.end("events", 0)
    late = await client.get(f"{ORG}/projects/default?min_position=0:{end}")
    problem(late, 503, "position-not-reached")
    assert late.headers["retry-after"]
    beyond = await client.get(f"{ORG}/projects/default?min_position=0:{end + 1}")
    problem(beyond, 400, "invalid-parameter")


async def test_a_change_the_read_model_does_not_see_is_accepted_with_its_outcome(
    signalbox: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its answer is not known without the read model."""
    monkeypatch.setattr(ReadModels, "get_decided", lambda *_: None)
    client = signalbox.with_settings(Settings(position_seconds=0.01), runner=Stuck())
    answer = await client.put(PROJECT, json={}, headers={"Prefer": "wait=10"})
    assert answer.status_code == 202
    assert answer.json()["state"] == "accepted"
    assert answer.headers["location"] == f"/api/v1/operations/{answer.json()['id']}"


async def test_a_new_resource_is_answered_before_the_read_model_sees_it(signalbox: RunningApi) -> None:
    client = signalbox.with_settings(Settings(position_seconds=0.01), runner=Stuck())
    answer = await client.put(PROJECT, json={"display_name": "Shop"}, headers={"Prefer": "wait=10"})
    assert answer.status_code == 201
    read = await client.get(PROJECT)
    assert (read.json(), read.headers["etag"]) == (answer.json(), answer.headers["etag"])


async def test_readiness_says_why_not(signalbox: RunningApi) -> None:
    assert (await signalbox.client.get("/healthz/ready")).json() == {"status": "ready"}
    signalbox.reasons.append("The read model is being rebuilt.")
    output = problem(await signalbox.client.get("/healthz/ready"), 503, "not-ready")
    assert output["detail"] == "The read model is being rebuilt."
    assert (await signalbox.client.get("/healthz/live")).status_code == 200


async def test_readiness_names_files_without_their_directories(signalbox: RunningApi) -> None:
    signalbox.reasons.append(
        "the index /var/lib/signalbox/index.db cannot be used: see http://a/b, events/0."
    )
    output = problem(await signalbox.client.get("/healthz/ready"), 503, "not-ready")
    assert output["detail"] == "the index index.db cannot be used: see http://a/b, events/0."


async def test_metrics_are_for_prometheus(signalbox: RunningApi) -> None:
    answer = await signalbox.client.get(
        "/metrics", headers={"Accept": "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"}
    )
    assert answer.text == "signalbox_up 1\n"
    assert answer.headers["content-type"].startswith("text/plain")


async def test_metrics_of_all_organizations_are_not_for_the_callers_of_some(signalbox: RunningApi) -> None:
    answer = await signalbox.client.get("/metrics", headers={"Authorization": f"Bearer {ACME}"})
    problem(answer, 403, "forbidden")
    assert "signalbox_up" not in answer.text


async def test_the_number_of_query_parameters_is_bounded(signalbox: RunningApi) -> None:
    answer = await signalbox.client.get(f"{ORG}/projects?" + "limit=&" * 9_000)
    problem(answer, 400, "too-many-parameters")


@pytest.mark.parametrize("type_", ["application/json", "application/cloudevents+json"])
async def test_a_command_larger_than_the_log_takes_is_refused_before_it_is_decoded(
    signalbox: RunningApi, type_: str
) -> None:
    end = await signalbox.log.end("commands", 0)
    path = PROJECT if type_ == "application/json" else f"{ORG}/commands"
    method = "PUT" if type_ == "application/json" else "POST"
    answer = await signalbox.client.request(
        method, path, content=b'{"a": ' + b"[" * 1_000_000, headers={"Content-Type": type_}
    )
    assert "1,000,000" in problem(answer, 413, "command-too-large")["detail"]
    assert await signalbox.log.end("commands", 0) == end


async def test_of_a_body_with_very_many_errors_their_number_is_reported(signalbox: RunningApi) -> None:
    unknown = {f"k{i}": 0 for i in range(20_000)}
    output = problem(await signalbox.put(PROJECT, unknown), 422, "invalid-command")
    assert output["errors"] == [{"pointer": "", "detail": "20,000 errors are not listed"}]


async def test_the_names_of_unknown_members_are_cut_in_the_answer(signalbox: RunningApi) -> None:
    unknown = {"k" * 200_000 + str(i): 0 for i in range(4)}
    answer = await signalbox.put(PROJECT, unknown)
    problem(answer, 422, "invalid-command")
    assert len(answer.content) < 4_000


async def test_of_a_batch_with_very_many_errors_the_rest_is_not_looked_at(signalbox: RunningApi) -> None:
    event = {"specversion": "1.0", "id": "a", "source": "/t", "type": "io.signalbox.none.v1", "data": {}}
    wrong = {
        **event,
        "type": "io.signalbox.project.command.define.v1",
        "data": {f"k{i}": 0 for i in range(500)},
    }
    answer = await signalbox.client.post(
        f"{ORG}/commands",
        content=orjson.dumps([{**wrong, "id": f"a{i}"} for i in range(200)]),
        headers={"Content-Type": "application/cloudevents-batch+json"},
    )
    listed = problem(answer, 422, "invalid-command")["errors"]
    assert len(listed) == 1_001
    assert int(listed[-1]["detail"].split()[0].replace(",", "")) < 1_000


async def test_pages_end_after_some_bytes_and_go_on_at_the_next(signalbox: RunningApi) -> None:
    """Of resources, of their parts, and of events."""
    large = {"labels": {}, "annotations": {f"a{i}": "x" * 90_000 for i in range(10)}}
    position = ""
    for i in range(7):
        made = await signalbox.command(
            "api.command.publish", {"name": f"api-{i}", "spec": {**spec(f"/{i}"), **large}}
        )
        assert made.status_code == 200, made.text
        position = made.headers["signalbox-position"]
    await signalbox.client.get(f"{ORG}/apis", params={"min_position": position})
    for path in (f"{ORG}/apis", f"{ORG}/events"):
        found: list[Any] = []
        pages = 0
        following: str | None = f"{path}?limit=1000"
        while following:
            answer = await signalbox.client.get(following)
            assert len(answer.content) < 6_000_000
            page = answer.json()
            found += page if isinstance(page, list) else page["items"]
            pages += 1
            following = answer.links.get("next", {}).get("url")
        assert pages == 2
        names = [item["name"] for item in found] if path.endswith("apis") else [e["id"] for e in found]
        assert len(names) == len(set(names))
        assert len([name for name in names if path.endswith("events") or name.startswith("api-")]) >= 7


async def test_answers_with_a_token_are_not_kept_by_caches(signalbox: RunningApi) -> None:
    made = await signalbox.post(f"{ORG}/gateways", {"name": "edge"})
    assert made.json()["token"]
    assert made.headers["cache-control"] == "no-store"
    pending = await signalbox.client.post(f"{ORG}/gateways", json={"name": "edge-2"})
    assert pending.json()["token"]
    assert pending.headers["cache-control"] == "no-store"
    applied = await signalbox.client.post(
        f"{ORG}/apply",
        content=b"apiVersion: signalbox.io/v1\nkind: Gateway\nmetadata:\n  name: edge-3\nspec: {}\n",
        headers={"Content-Type": "application/yaml"},
    )
    assert "token" in applied.text
    assert applied.headers["cache-control"] == "no-store"


async def test_an_announced_huge_body_is_refused_unread(signalbox: RunningApi) -> None:
    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    headers = {"Content-Length": str(11 * 1024 * 1024), "Content-Type": "application/json"}
    answer = await signalbox.client.put(PROJECT, headers=headers, content=unread())
    assert problem(answer, 413, "body-too-large")["limit"] == 10 * 1024 * 1024


async def test_a_huge_body_that_is_not_announced_is_cut_off_and_memory_stays_bounded(
    signalbox: RunningApi,
) -> None:
    """Straight into ASGI: a client that never stops sending."""
    sent = 0
    chunk = b"x" * (256 * 1024)

    async def receive() -> dict[str, Any]:
        nonlocal sent
        sent += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": True}

    answered: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        answered.append(message)

    tracemalloc.start()
    await signalbox.app(_scope("PUT", PROJECT), receive, send)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answered[0]["status"] == 413
    assert sent <= 10 * 1024 * 1024 + len(chunk)
    assert peak < 32 * 1024 * 1024


async def test_a_slow_body_is_timed_out(signalbox: RunningApi) -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    answered: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        answered.append(message)

    app = create_app(replace(signalbox.services, settings=Settings(body_seconds=0.05)))
    await app(_scope("PUT", PROJECT), receive, send)
    assert answered[0]["status"] == 408


async def test_a_client_that_leaves_gets_no_answer_and_causes_no_command(signalbox: RunningApi) -> None:
    end = await signalbox.log.end("commands", 0)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    answered: list[Any] = []

    async def send(message: Any) -> None:
        answered.append(message)

    await signalbox.app(_scope("PUT", PROJECT), receive, send)
    assert answered == []
    assert await signalbox.log.end("commands", 0) == end


def _scope(method: str, path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [
            (b"authorization", b"Bearer " + ADMIN.encode()),
            (b"content-type", b"application/json"),
        ],
        "server": ("signalbox", 80),
        "client": ("127.0.0.1", 1),
    }
