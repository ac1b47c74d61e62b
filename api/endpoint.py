"""One HTTP operation, said once: what it does and what its documentation says."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.authentication import SCOPE_KEY, Principal
from api.ports import Services
from api.preconditions import acceptable, media_type
from api.problems import MEDIA_TYPE, Problem, not_found, problem_of_status
from schemas.limits import MOST_PARAMETERS
from schemas.text import fault_in, visible

JSON = "application/json"
ROUTE_KEY = "signalbox.route"
"""In the ASGI scope, once the path is known: its template, such as `/api/v1/operations/{id}`."""

Schema = dict[str, Any]


class Call:
    """A request to an endpoint, by somebody who may make it."""

    __slots__ = ("request", "services")

    def __init__(self, request: Request, services: Services) -> None:
        self.request = request
        self.services = services

    @property
    def principal(self) -> Principal:
        return self.request.scope[SCOPE_KEY]

    def path(self, name: str) -> str:
        return self.request.path_params[name]

    def query(self, name: str) -> str | None:
        return self.request.query_params.get(name)

    def header(self, name: str) -> str | None:
        return self.request.headers.get(name)

    @property
    def organization(self) -> str:
        return self.request.path_params["org"]

    @property
    def partition(self) -> int:
        return self.services.log.partition_of(self.organization)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    name: str
    location: str
    description: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    example: Any = None
    required: bool = False

    @property
    def allowed(self) -> tuple[str, ...]:
        """The only values it takes, as its schema says (`enum`); empty when it takes others."""
        return tuple(self.schema.get("enum", ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What may be sent: media types with their schema and example each."""

    content: Mapping[str, tuple[Schema, Any]]
    required: bool = True
    optional_type: bool = True

    def takes(self, media: str) -> bool:
        return media in self.content or (not media and self.optional_type)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseDoc:
    """An answer as documented: schema and example per media type (none: no body)."""

    description: str
    content: Mapping[str, tuple[Schema, Any]] = field(default_factory=dict[str, tuple[Schema, Any]])
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """`problems` are the error statuses besides those every endpoint can answer with."""

    method: str
    path: str
    id: str
    tag: str
    summary: str
    description: str = ""
    handle: Callable[[Call], Awaitable[ASGIApp]]
    responses: Mapping[int, ResponseDoc]
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    problems: tuple[int, ...] = ()
    public: bool = False

    @property
    def produces(self) -> tuple[str, ...]:
        return tuple({media: None for answer in self.responses.values() for media in answer.content}) or (
            JSON,
        )


class Resource:
    """ASGI: the endpoints of one path, by method."""

    def __init__(self, path: str, endpoints: Sequence[Endpoint], services: Services) -> None:
        self.path = path
        self._services = services
        self._by_method = {
            e.method: (
                e,
                {p.name: p.allowed for p in e.parameters if p.location == "query"},
                (*e.produces, MEDIA_TYPE),
            )
            for e in endpoints
        }
        if "GET" in self._by_method:
            self._by_method["HEAD"] = self._by_method["GET"]
        self._allow = {"Allow": ", ".join(sorted(self._by_method))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROUTE_KEY] = self.path
        found = self._by_method.get(scope["method"])
        if found is None:
            raise problem_of_status(405, f"Allowed here: {self._allow['Allow']}.", self._allow)
        endpoint, known, produces = found
        call = Call(Request(scope, receive), self._services)
        _check(call, endpoint, known, produces)
        answer = await endpoint.handle(call)
        await answer(scope, receive, send)


def _check(
    call: Call, endpoint: Endpoint, known: Mapping[str, tuple[str, ...]], produces: tuple[str, ...]
) -> None:
    request = call.request
    organization = request.path_params.get("org")
    if organization is not None and not endpoint.public and not call.principal.may_access(organization):
        raise Problem(403, "forbidden", f"The token is not good for the organization {organization!r}.")
    if not acceptable(request.headers.get("accept"), produces):
        raise problem_of_status(406, f"Answers here are {', '.join(endpoint.produces)}.")
    given = request.scope["query_string"]
    if given.count(b"&") >= MOST_PARAMETERS:
        detail = f"Up to {MOST_PARAMETERS} query parameters are taken."
        raise Problem(400, "too-many-parameters", detail)
    _check_text(call)
    if given:
        names = [name for name, _ in request.query_params.multi_items()]
        wrong = sorted({n for n in names if n not in known or names.count(n) > 1})
        if wrong:
            raise Problem(
                400,
                "unknown-parameter",
                f"Parameters here: {', '.join(sorted(known)) or 'none'}; each once.",
                errors=[{"parameter": n[:50], "detail": "unknown, or given twice"} for n in wrong],
            )
        _check_values(call, known)
    if endpoint.body is not None:
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise problem_of_status(415, "Send the body without Content-Encoding.")
        media = media_type(request.headers.get("content-type"))
        if not endpoint.body.takes(media):
            raise problem_of_status(
                415,
                f"Send one of: {', '.join(endpoint.body.content)}.",
                {"Accept": ", ".join(endpoint.body.content)},
            )


def _check_text(call: Call) -> None:
    """Raises Problem 400 with every part of the path, and parameter, that no name or value can have."""
    given = (*call.request.path_params.items(), *call.request.query_params.multi_items())
    errors = [
        {"parameter": visible(name)[:50], "detail": f"the text {what}"}
        for name, value in given
        if (what := fault_in(value))
    ]
    if errors:
        detail = "Names and values are text in one line, without control characters."
        raise Problem(400, "invalid-parameter", detail, errors=errors)


def _check_values(call: Call, known: Mapping[str, tuple[str, ...]]) -> None:
    """Raises Problem 400 with every parameter that has none of its allowed values."""
    errors = [
        {"parameter": name, "detail": f"{value[:50]!r} is none of {', '.join(known[name])}"}
        for name, value in call.request.query_params.items()
        if known[name] and value not in known[name]
    ]
    if errors:
        first = errors[0]["parameter"]
        detail = f"`{first}` takes one of: {', '.join(known[first])}."
        raise Problem(400, "invalid-parameter", detail, errors=errors)


async def nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI: what answers where no path matches. Raises Problem 404."""
    raise not_found(f"page {scope['path'][:200]!r}")
