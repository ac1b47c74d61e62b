"""Path operations of FastAPI that refuse undeclared parameters and media types and document common errors."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

from fastapi import params
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from api.authentication import SCOPE_KEY
from api.call import Call, Schema
from api.openapi.document import HEADERS
from api.problems import problem_of_status
from api.resources.presenter import command_body, json_object
from api.responses import JSON
from api.routing.direct_call import DirectCall
from api.routing.request_rules import RequestRules

ROUTE_KEY = "signalbox.route"
"""In the ASGI scope, once the path is known: its template, such as `/api/v1/operations/{id}`."""


class JsonRequest(Request):
    """A request whose body FastAPI validates."""

    async def json(self) -> Any:
        """Raises Problem 400, 413 or 422."""
        return json_object(await command_body(Call(self, self.app.state.services)))


class IndexedHeaders(Headers):
    """Headers with an index for look-ups.

    Several lines of a header become one list (RFC 9110 section 5.3); other headers are then invalid.
    """

    def __init__(self, lines: list[tuple[bytes, bytes]]) -> None:
        joined: dict[bytes, bytes] = {}
        for name, value in lines:
            joined[name] = b", ".join((joined[name], value)) if name in joined else value
        super().__init__(raw=lines if len(joined) == len(lines) else list(joined.items()))
        self._joined = joined

    def __getitem__(self, key: str) -> str:
        return self._joined[key.lower().encode("latin-1")].decode("latin-1")


class IndexedRequest(Request):
    """A request with `IndexedHeaders`, also in its scope."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self._headers = IndexedHeaders(scope["headers"])
        scope["headers"] = self._headers.raw


class ApiRoute(APIRoute):
    """A path operation that answers 400 for parameters, and 415 for media types, that it does not declare.

    A `GET` operation answers `HEAD` too.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        # A body without a media type is JSON.
        options["strict_content_type"] = False
        self._slashes = path.count("/")
        super().__init__(path, endpoint, **options)
        self._rules = RequestRules(query=self._query(), produces=self._produces(), accepts=self._accepts())
        self._direct_call = DirectCall.of(self.dependant)
        self.responses = {**self.responses, **problems(*self._shared_problems())}

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        request_class = JsonRequest if self.body_field is not None else Request

        async def solved_by_fastapi(request: Request) -> Response:
            return await handle(request_class(request.scope, request.receive))

        return solved_by_fastapi

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        # Skips most routes: a regular expression for each would cost more than the rest.
        if scope["path"].count("/") != self._slashes and not scope.get("root_path"):
            return Match.NONE, {}
        match, child = super().matches(scope)
        if match is Match.PARTIAL and scope["method"] == "HEAD" and "GET" in (self.methods or ()):
            return Match.FULL, child
        return match, child

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROUTE_KEY] = self.path_format
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method not in (self.methods or ()):
            allowed = ", ".join(_allowed_methods(scope))
            raise problem_of_status(405, f"Allowed here: {allowed}.", {"Allow": allowed})
        request = IndexedRequest(scope, receive, send)
        self._rules.check(request, scope.get(SCOPE_KEY))
        if self._direct_call is None:
            await self.app(scope, receive, send)
        else:
            response = await self._direct_call(request)
            await response(scope, receive, send)

    def _query(self) -> dict[str, tuple[str, ...]]:
        """The declared query parameters, each with the values its schema allows."""
        found: dict[str, tuple[str, ...]] = {}
        for field in get_flat_params(self.dependant):
            if isinstance(field.field_info, params.Query):
                extra = cast("Mapping[str, Any]", field.field_info.json_schema_extra or {})
                found[field.alias] = tuple(extra.get("enum", ()))
        return found

    def _produces(self) -> tuple[str, ...]:
        media = [m for response in self.responses.values() for m in response.get("content", {})]
        default = self.response_class
        shown = default.value if isinstance(default, DefaultPlaceholder) else default
        return tuple(dict.fromkeys([*([shown.media_type] if shown.media_type else []), *media])) or (JSON,)

    def _accepts(self) -> tuple[str, ...] | None:
        if self.openapi_extra and "requestBody" in self.openapi_extra:
            return tuple(self.openapi_extra["requestBody"]["content"])
        return (JSON,) if self.body_field is not None else None

    def _shared_problems(self) -> set[int]:
        """The errors that follow from the declaration of the operation."""
        found = {400, 406, 500}
        if _is_secured(self.dependant):
            found.add(401)
            if "{org}" in self.path_format:
                found.add(403)
        if self._accepts() is not None:
            found |= {408, 413, 415, 422}
        return found


def _is_secured(dependant: Dependant) -> bool:
    return isinstance(dependant.call, SecurityBase) or any(map(_is_secured, dependant.dependencies))


def _allowed_methods(scope: Scope) -> list[str]:
    """The methods of all operations at the path."""
    found: set[str] = set()
    for route in scope["app"].routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of error responses."""
    return {status: {"$ref": f"#/components/responses/Problem{status}"} for status in sorted(statuses)}


def request_body(content: Mapping[str, tuple[Schema, Any]]) -> dict[str, Any]:
    """The documentation of a body that FastAPI does not validate: media types with schema and example."""
    listed = {media: {"schema": schema, "example": example} for media, (schema, example) in content.items()}
    return {"required": True, "content": listed}


def response_headers(*names: str) -> dict[str, Any]:
    """The documentation of response headers."""
    return {name: HEADERS[name] for name in names}


NOT_MODIFIED: Mapping[int | str, dict[str, Any]] = {
    304: {"description": "Not changed.", "headers": response_headers("ETag")}
}
