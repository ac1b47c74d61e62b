"""Calls of path operations without FastAPI's dependency solver, which costs more than most reads do.

Path operations and dependencies get the same values. An operation is called here when it is a coroutine
function that returns a `Response`, and takes nothing but plain parameters (text and numbers of the path, the
query and headers), the request, and dependencies of the same kind. FastAPI calls all other operations.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response

PLAIN = frozenset({str, int, float, bool, type(None)})
_UNUSUAL = (
    "body_params",
    "cookie_params",
    "websocket_param_name",
    "http_connection_param_name",
    "response_param_name",
    "background_tasks_param_name",
    "security_scopes_param_name",
    "own_oauth_scopes",
    "concurrency",
)
"""Fields of FastAPI's `Dependant` that are set when an operation needs more than plain parameters."""


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    alias: str
    place: str
    required: bool
    default: Any
    validate: Callable[..., tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class _Step:
    """A call of a dependency, or of the operation. `results` are arguments, with the index of their step."""

    call: Callable[..., Awaitable[Any]]
    parameters: tuple[_Parameter, ...]
    results: tuple[tuple[str, int], ...]
    request: str | None


@dataclass(frozen=True, slots=True)
class DirectCall:
    """The steps of one path operation, which is the last of them; each dependency is called once."""

    steps: tuple[_Step, ...]

    @classmethod
    def of(cls, operation: Dependant) -> "DirectCall | None":
        """The direct call of an operation; None when FastAPI has to call it."""
        steps: list[_Step] = []
        known: dict[Callable[..., Any], int] = {}
        if not _returns_response(operation) or not _add(operation, steps, known):
            return None
        return cls(tuple(steps))

    async def __call__(self, request: Request) -> Response:
        """Raises RequestValidationError for parameters, and whatever a step raises."""
        values: Mapping[str, Mapping[str, str]] = {
            "path": request.path_params,
            "query": request.query_params if request.scope["query_string"] else {},
            "header": request.headers,
        }
        results: list[Any] = []
        for step in self.steps:
            given = {name: results[index] for name, index in step.results}
            if step.request is not None:
                given[step.request] = request
            for parameter in step.parameters:
                text = values[parameter.place].get(parameter.alias)
                if text is None and not parameter.required:
                    given[parameter.name] = parameter.default
                else:
                    given[parameter.name] = _value(parameter, text)
            results.append(await step.call(**given))
        return results[-1]


def _add(dependant: Dependant, steps: list[_Step], known: dict[Callable[..., Any], int]) -> bool:
    """Adds the steps of a dependency, those that it needs first. False when it is not plain."""
    call = dependant.call
    if call is None or not _is_coroutine(call) or not dependant.use_cache:
        return False
    if any(getattr(dependant, name) for name in _UNUSUAL):
        return False
    results: list[tuple[str, int]] = []
    for dependency in dependant.dependencies:
        needed = dependency.call
        if needed not in known and not _add(dependency, steps, known):
            return False
        if dependency.name is not None and needed is not None:
            results.append((dependency.name, known[needed]))
    parameters: list[_Parameter] = []
    for place, fields in (
        ("path", dependant.path_params),
        ("query", dependant.query_params),
        ("header", dependant.header_params),
    ):
        for field in fields:
            info = field.field_info
            if not _is_plain(info.annotation):
                return False
            required = info.is_required()
            default = None if required else info.get_default(call_default_factory=True)
            parameters.append(_Parameter(field.name, field.alias, place, required, default, field.validate))
    known[call] = len(steps)
    steps.append(_Step(call, tuple(parameters), tuple(results), dependant.request_param_name))
    return True


def _value(parameter: _Parameter, given: str | None) -> Any:
    location = (parameter.place, parameter.alias)
    if given is None:
        missing = {"type": "missing", "loc": location, "msg": "Field required", "input": None}
        raise RequestValidationError([missing])
    value, errors = parameter.validate(given, {}, loc=location)
    if errors:
        raise RequestValidationError(errors)
    return value


def _is_coroutine(call: Callable[..., Any]) -> bool:
    return iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__)


def _is_plain(annotation: Any) -> bool:
    """A type of `PLAIN`, or a union of them, which may be annotated."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return all((get_args(m)[0] if get_origin(m) is Annotated else m) in PLAIN for m in members)


def _returns_response(operation: Dependant) -> bool:
    returned = get_type_hints(operation.call).get("return")
    return isinstance(returned, type) and issubclass(returned, Response)
