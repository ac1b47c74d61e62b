"""What is recorded of HTTP requests."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import pytest

from signalbox.observability.http_telemetry import MeasuredApp
from tests.api.running_api import ADMIN, ORG, RunningApi, running_api

PROJECT = "/api/v1/organizations/{org}/projects/{name}"
Recorded = list[dict[str, str | int]]


@pytest.fixture
async def signalbox(tmp_path: Path) -> AsyncIterator[RunningApi]:
    async with running_api(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("method", "path", "headers", "recorded"),
    [
        ("GET", f"{ORG}/projects/default", {}, ("GET", 200, PROJECT)),
        (
            "PATCH",
            f"{ORG}/projects/default",
            {},
            ("PATCH", 405, PROJECT),
        ),
        ("BREW", f"{ORG}/projects/x", {}, ("_OTHER", 405, PROJECT)),
        ("GET", "/nowhere/at/all", {}, ("GET", 404, None)),
        ("GET", f"{ORG}/projects", {"Authorization": "Bearer wrong"}, ("GET", 401, None)),
        ("GET", f"{ORG}/events?follow=false", {"Accept": "text/event-stream"}, None),
        ("GET", f"{ORG}/events", {}, ("GET", 200, "/api/v1/organizations/{org}/events")),
    ],
)
async def test_a_request_is_recorded_by_method_status_and_route_template(
    signalbox: RunningApi,
    method: str,
    path: str,
    headers: dict[str, str],
    recorded: tuple[str, int, str | None] | None,
) -> None:
    found: Recorded = []

    def record(seconds: float, attributes: Mapping[str, str | int]) -> None:
        assert seconds > 0
        found.append(dict(attributes))

    transport = httpx.ASGITransport(MeasuredApp(signalbox.app, record))
    async with httpx.AsyncClient(transport=transport, base_url="http://signalbox") as client:
        await client.request(method, path, headers={"Authorization": f"Bearer {ADMIN}", **headers})
    if recorded is None:
        assert found == []
        return
    method, status, route = recorded
    expected: dict[str, str | int] = {"http.request.method": method, "http.response.status_code": status}
    assert found == [{**expected, "http.route": route} if route else expected]
