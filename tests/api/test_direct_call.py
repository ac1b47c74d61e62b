"""Which path operations are called without FastAPI's dependency solver, and that they get the same values."""

from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Header, Path, Query
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response

from api.limits import respond_to_error
from api.responses import json_response
from api.routes import api_routes
from api.routing.direct_call import DirectCall
from api.routing.route import ApiRoute

CALLED: list[str] = []


async def tenant(request: Request, org: Annotated[str, Path()]) -> str:
    CALLED.append("tenant")
    return f"{org} {request.method}"


async def page(
    owner: Annotated[str, Depends(tenant)], limit: Annotated[int, Query(ge=1)] = 10
) -> dict[str, Any]:
    return {"owner": owner, "limit": limit}


async def plain(
    owner: Annotated[str, Depends(tenant)],
    of_page: Annotated[dict[str, Any], Depends(page)],
    size: Annotated[int, Query()],
    prefer: Annotated[str | None, Header()] = None,
    exact: Annotated[bool, Query()] = False,
) -> Response:
    return json_response(
        200, {"owner": owner, "page": of_page, "size": size, "prefer": prefer, "exact": exact}
    )


def opened() -> Iterator[str]:
    yield "open"


async def with_model() -> dict[str, str]:
    return {}


async def with_body(body: Annotated[dict[str, str], Body()]) -> Response:
    return json_response(200, body)


async def with_generator(resource: Annotated[str, Depends(opened)]) -> Response:
    return json_response(200, resource)


async def with_list(name: Annotated[list[str], Query()]) -> Response:
    return json_response(200, name)


def route(endpoint: Any, path: str = "/things") -> ApiRoute:
    return ApiRoute(path, endpoint)


@pytest.mark.parametrize("endpoint", [with_model, with_body, with_generator, with_list])
def test_fastapi_calls_an_operation_that_is_not_plain(endpoint: Any) -> None:
    assert DirectCall.of(route(endpoint).dependant) is None


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("size=2", {}),
        ("size=2&limit=3&exact=true", {"Prefer": "a"}),
        ("", {}),
        ("size=x", {}),
        ("size=1&limit=0", {}),
    ],
)
async def test_an_operation_is_called_with_the_values_that_fastapi_gives_it(
    query: str, headers: dict[str, str]
) -> None:
    app = FastAPI(exception_handlers={RequestValidationError: respond_to_error})
    router = APIRouter(route_class=ApiRoute)
    router.add_api_route("/direct/{org}", plain)
    app.router.routes.extend(router.routes)
    app.add_api_route("/fastapi/{org}", plain)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://signalbox")
    assert DirectCall.of(route(plain, "/direct/{org}").dependant) is not None

    CALLED.clear()
    direct = await client.get(f"/direct/acme?{query}", headers=headers)
    assert CALLED == ["tenant"]
    solved = await client.get(f"/fastapi/acme?{query}", headers=headers)
    assert (direct.status_code, direct.json()) == (solved.status_code, solved.json())


def test_every_read_and_every_generated_command_is_called_directly() -> None:
    solved = {
        route.path
        for route in api_routes()[0]
        if isinstance(route, ApiRoute) and DirectCall.of(route.dependant) is None
    }
    # Their bodies are validated by FastAPI
    assert {path.removeprefix("/api/v1/") for path in solved} == {
        "organizations/{org}/deployments/facts",
        "readmodels/{name}/parked/retry",
        "readmodels/{name}/parked/skip",
    }
