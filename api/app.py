"""The HTTP application: endpoints, in three layers of pure ASGI."""

import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from api.authentication import Authentication
from api.endpoint import JSON, Call, Endpoint, Resource, ResponseDoc, Schema, nothing_here
from api.limits import BodyLimit, Failures
from api.openapi import document
from api.ports import Services
from api.responses import RawResponse
from api.routes import endpoints


def create_app(services: Services, asyncapi: Callable[[], Mapping[str, Any]] | None = None) -> FastAPI:
    """The application over `services`. `asyncapi` answers the AsyncAPI document, where there is one."""
    found: dict[str, Schema] = {}
    listed = endpoints(found)
    if asyncapi is not None:
        listed.append(
            _static("/asyncapi.json", "asyncapi", "All topics, as AsyncAPI 3", orjson.dumps(asyncapi()))
        )
    listed.append(_static("/openapi.json", "openapi", "This document", b""))
    described = document(listed, found, _version())
    listed[-1] = _static("/openapi.json", "openapi", "This document", orjson.dumps(described))
    app = FastAPI(
        title="Signalbox",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Spans and metrics of its own cost 0.1 ms a request, and whoever runs this traces it already.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        routes=_routes(listed, services),
    )
    app.router.default = nothing_here
    app.openapi = lambda: described
    # The last one added is the outermost.
    settings = services.settings
    app.add_middleware(BodyLimit, limit=settings.max_body, seconds=settings.body_seconds)
    app.add_middleware(Authentication, authenticator=services.authenticator)
    app.add_middleware(Failures)
    return app


def _routes(listed: list[Endpoint], services: Services) -> list[BaseRoute]:
    by_path: dict[str, list[Endpoint]] = {}
    for endpoint in listed:
        by_path.setdefault(endpoint.path, []).append(endpoint)
    # `deployments/facts` comes before `deployments/{name}`, for its own methods alone.
    fixed_first = sorted(by_path.items(), key=lambda item: item[0].count("{"))
    return [
        _Fixed(path, Resource(path, of, services), methods=[e.method for e in of])
        if f"{path.rpartition('/')[0]}/{{name}}" in by_path and not path.endswith("}")
        else Route(path, Resource(path, of, services))
        for path, of in fixed_first
    ]


class _Fixed(Route):
    """A path among those of named resources: other methods are left to the resource of that name."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return (match, child) if match is Match.FULL else (Match.NONE, {})


def _static(path: str, id: str, summary: str, body: bytes) -> Endpoint:
    async def handle(call: Call) -> RawResponse:
        return RawResponse(200, body)

    return Endpoint(
        method="GET",
        path=path,
        id=id,
        tag="process",
        summary=summary,
        handle=handle,
        responses={200: ResponseDoc(description="The document.", content={JSON: ({"type": "object"}, {})})},
        public=True,
    )


def _version() -> str:
    try:
        return importlib.metadata.version("signalbox")
    except importlib.metadata.PackageNotFoundError:
        return "0"
