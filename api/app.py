"""The HTTP application: endpoints, in three layers of pure ASGI."""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from api import limits
from api.authentication import Authentication
from api.limits import BodyLimit, Failures
from api.openapi.document import document
from api.ports import Services
from api.problems import not_found
from api.routers import health
from api.routes import api_routes


def create_app(services: Services, asyncapi: Callable[[], Mapping[str, Any]] | None = None) -> FastAPI:
    """The application over `services`. `asyncapi` returns the AsyncAPI document, if there is one."""
    with_asyncapi = asyncapi is not None
    app = FastAPI(
        title="Signalbox",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI's spans and metrics cost 0.1 ms per request; the process traces requests already.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        # Not included one by one: FastAPI would match the path twice then.
        routes=list(_routes(with_asyncapi)[0]),
        exception_handlers=dict.fromkeys((HTTPException, RequestValidationError), limits.respond_to_error),
    )
    app.router.default = _no_such_page
    app.openapi = partial(_openapi, with_asyncapi)
    app.state.services = services
    # Created at the first request: together they take longer than the rest of this function.
    app.state.openapi = cache(lambda: orjson.dumps(_openapi(with_asyncapi)))
    app.state.asyncapi = cache(lambda: orjson.dumps(asyncapi() if asyncapi is not None else {}))
    # The last one added is the outermost.
    settings = services.settings
    app.add_middleware(BodyLimit, limit=settings.max_body, seconds=settings.body_seconds)
    app.add_middleware(Authentication, authenticator=services.authenticator)
    app.add_middleware(Failures)
    return app


@cache
def _routes(asyncapi: bool) -> tuple[Sequence[BaseRoute], dict[str, Any]]:
    """The routes and the schemas that they refer to: the same for all applications, whose services differ."""
    routes, schemas = api_routes()
    if asyncapi:
        routes = [*routes, *health.asyncapi_router.routes]
    return routes, schemas


@cache
def _openapi(asyncapi: bool) -> dict[str, Any]:
    """The OpenAPI document of the routes."""
    return document(*_routes(asyncapi), _version())


async def _no_such_page(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI: runs where no path matches. Raises Problem 404."""
    raise not_found(f"page {scope['path'][:200]!r}")


def _version() -> str:
    try:
        return importlib.metadata.version("signalbox")
    except importlib.metadata.PackageNotFoundError:
        return "0"
