"""The path operations of one aggregate, as the catalog describes it."""

from collections.abc import Callable, Coroutine, Mapping
from inspect import Parameter, Signature
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from api.call import Call, Schema
from api.dependencies import (
    DEFAULT_LIMIT,
    NAME_SCHEMA,
    ORGANIZATION,
    PREFIX,
    CreateOnly,
    Cursor,
    IdempotencyKey,
    IfMatch,
    IfNoneMatch,
    Limit,
    Moment,
    NumberCursor,
    OptionalText,
    OrganizationContext,
    Prefer,
    authenticated_call,
    organization_call,
)
from api.openapi.json_schemas import REF, body_schema, part_schema, view_schema
from api.preconditions import Precondition, precondition
from api.resources.commands import ResourceCommands
from api.resources.presenter import Presenter
from api.resources.queries import ResourceQueries
from api.responses import JSON, POSITION, RawResponse
from api.routing.route import NOT_MODIFIED, ApiRoute, problems, request_body, response_headers
from api.submission import command_id, preferred_wait
from schemas.aggregate import Aggregate, Part, Route
from schemas.message import Command

Operation = Callable[..., Coroutine[Any, Any, Response]]


class ResourceRouter:
    """Registers the path operations of one aggregate; the schemas they refer to are put into `found`."""

    def __init__(self, aggregate: Aggregate, presenter: Presenter, found: dict[str, Schema]) -> None:
        self.router = APIRouter(tags=[aggregate.plural], route_class=ApiRoute)
        self._aggregate, self._presenter, self._found = aggregate, presenter, found
        self._queries = ResourceQueries(aggregate, presenter)
        self._commands = ResourceCommands(aggregate, presenter)
        self._collection = f"{PREFIX if aggregate.top else ORGANIZATION}/{aggregate.plural}"
        self._one = self._collection + ("/{org}" if aggregate.top else "/{name}")
        self._in_collection: Any = Depends(authenticated_call if aggregate.top else organization_call)
        self._named: Any = _named(aggregate)
        self._view = aggregate.view.__name__
        found[self._view] = view_schema(aggregate, presenter, found)
        self._add_reading()
        for part in aggregate.parts:
            self._add_part(part)
        for route in aggregate.routes:
            self._add_command(route)

    def _add(self, path: str, operation: Operation, **described: Any) -> None:
        self.router.add_api_route(path, operation, response_class=RawResponse, **described)

    def _add_reading(self) -> None:
        aggregate, queries = self._aggregate, self._queries
        filters = Filters(self._presenter.filters, self._found[self._view]["properties"])

        async def list_resources(
            call: Call = self._in_collection,
            where: Mapping[str, str] = Depends(filters),
            cursor: Cursor = None,
            as_of: Moment = None,
            limit: Limit = DEFAULT_LIMIT,
        ) -> Response:
            return await queries.list(call, limit, cursor, as_of, where)

        async def get_resource(
            call: Call = self._named, as_of: Moment = None, if_none_match: IfNoneMatch = None
        ) -> Response:
            return await queries.get(call, as_of, if_none_match)

        self._add(
            self._collection,
            list_resources,
            operation_id=f"list_{aggregate.plural}",
            summary=f"List {aggregate.plural}",
            description=aggregate.summary,
            response_description="A page.",
            responses={200: self._list_of(self._view), **problems(*(() if aggregate.top else (404,)), 503)},
        )
        self._add(
            self._one,
            get_resource,
            operation_id=f"get_{aggregate.name}",
            summary=f"One {aggregate.name}",
            description=aggregate.summary,
            response_description="Its current or past state.",
            responses={200: _content(self._view, "ETag", POSITION), **NOT_MODIFIED, **problems(404, 503)},
        )

    def _list_of(self, name: str) -> dict[str, Any]:
        self._found[f"{name}List"] = {
            "type": "object",
            "required": ["items", "next_cursor"],
            "properties": {
                "items": {"type": "array", "items": {"$ref": REF + name}},
                "next_cursor": {"type": ["string", "null"]},
            },
            "examples": [{"items": [self._found[name]["examples"][0]], "next_cursor": None}],
        }
        return _content(f"{name}List", POSITION, "Link")

    def _add_part(self, part: Part) -> None:
        aggregate, queries = self._aggregate, self._queries
        single = part.plural.removesuffix("s")
        entry = f"{self._view}{single.capitalize()}"
        self._found[entry] = part_schema(part, self._found)

        async def list_parts(
            call: Call = self._named,
            cursor: NumberCursor = None,
            as_of: Moment = None,
            limit: Limit = DEFAULT_LIMIT,
        ) -> Response:
            return await queries.list_parts(call, part, limit, cursor, as_of)

        async def get_part(
            call: Call = self._named,
            key: str = Path(description=f"Its `{part.key}`.", json_schema_extra={"examples": ["1"]}),
            as_of: Moment = None,
            if_none_match: IfNoneMatch = None,
        ) -> Response:
            return await queries.get_part(call, part, key, as_of, if_none_match)

        self._add(
            f"{self._one}/{part.plural}",
            list_parts,
            operation_id=f"list_{aggregate.name}_{part.plural}",
            summary=f"The {part.plural} of one {aggregate.name}",
            description="The oldest first.",
            response_description="A page.",
            responses={200: self._list_of(entry), **problems(404, 503)},
        )
        self._add(
            f"{self._one}/{part.plural}/{{key}}",
            get_part,
            operation_id=f"get_{aggregate.name}_{single}",
            summary=f"One of the {part.plural} of one {aggregate.name}",
            description="It never changes.",
            response_description="As it was created.",
            responses={200: _content(entry, "ETag"), **NOT_MODIFIED, **problems(404, 503)},
        )

    def _add_command(self, route: Route) -> None:
        aggregate, command = self._aggregate, route.command
        post, delete = route.method == "POST", route.method == "DELETE"
        article = "an" if aggregate.name[0] in "aeiou" else "a"
        self._add(
            self._collection if post else self._one,
            self._operation(route),
            methods=[route.method],
            operation_id=f"{command.verb}_{aggregate.name}",
            summary=f"{command.verb.capitalize()} {article} {aggregate.name}",
            description=command.__doc__ or aggregate.summary,
            responses=self._responses(route)
            | problems(404, 408, 409, 412, 413, 415, 422, 503, *(() if post else (428,))),
            openapi_extra=None if delete else {"requestBody": self._body(command, named=not post)},
        )

    def _operation(self, route: Route) -> Operation:
        commands = self._commands

        async def create(
            call: Call = self._in_collection, prefer: Prefer = None, idempotency_key: IdempotencyKey = None
        ) -> Response:
            id = command_id(idempotency_key)
            return await commands.run(call, route, id, Precondition("none"), preferred_wait(call, prefer))

        async def put(
            call: Call = self._named,
            if_match: IfMatch = None,
            if_none_match: CreateOnly = None,
            prefer: Prefer = None,
            idempotency_key: IdempotencyKey = None,
        ) -> Response:
            id, condition = command_id(idempotency_key), precondition(if_match, if_none_match)
            return await commands.run(call, route, id, condition, preferred_wait(call, prefer))

        async def delete(
            call: Call = self._named,
            if_match: IfMatch = None,
            prefer: Prefer = None,
            idempotency_key: IdempotencyKey = None,
        ) -> Response:
            id = command_id(idempotency_key)
            condition = precondition(if_match, call.header("if-none-match"))
            return await commands.run(call, route, id, condition, preferred_wait(call, prefer))

        return {"POST": create, "DELETE": delete}.get(route.method, put)

    def _responses(self, route: Route) -> dict[int | str, dict[str, Any]]:
        command, answer = route.command, self._view
        secrets = self._presenter.secrets.get(command, {})
        if secrets:
            answer = command.__name__ + "Answer"
            example = self._found[self._view]["examples"][0]
            self._found[answer] = {
                "allOf": [{"$ref": REF + self._view}, {"type": "object", "properties": dict(secrets)}],
                "examples": [{**example, **{k: v["examples"][0] for k, v in secrets.items()}}],
            }
        accepted = _content("OperationStatus", "Location", POSITION)
        if route.method == "DELETE":
            done = _content("OperationStatus", POSITION)
            return {
                200: {"description": "Done (`Prefer: wait`).", **done},
                202: {"description": "Submitted; durable.", **accepted},
            }
        changed, made = _content(answer, "ETag", POSITION), _content(answer, "ETag", "Location", POSITION)
        return {
            200: {"description": "Changed, or unchanged (`Prefer: wait`).", **changed},
            201: {"description": "Created (`Prefer: wait`).", **made},
            202: {"description": "Submitted; durable.", **accepted},
        }

    def _body(self, command: type[Command], *, named: bool) -> dict[str, Any]:
        given = self._presenter.bodies.get(command)
        if given is not None:
            return request_body(given)
        self._found[command.__name__] = body_schema(command, self._presenter, named, self._found)
        return {"required": True, "content": {JSON: {"schema": {"$ref": REF + command.__name__}}}}


def _named(aggregate: Aggregate) -> Any:
    """The dependency of operations on one resource."""
    if aggregate.top:
        return Depends(organization_call)
    samples = {"gateway": "local", "environment": "development", "project": "default"}
    described = Path(
        description=f"The {aggregate.name}.",
        json_schema_extra={**NAME_SCHEMA, "examples": [samples.get(aggregate.name, "orders")]},
    )

    async def named_call(call: OrganizationContext, name: str = described) -> Call:
        return call

    return Depends(named_call)


def _content(name: str, *headers: str) -> dict[str, Any]:
    return {"content": {JSON: {"schema": {"$ref": REF + name}}}, "headers": response_headers(*headers)}


class Filters:
    """A dependency: the fields of a view that a list is filtered by, each a query parameter."""

    def __init__(self, fields: tuple[str, ...], properties: Mapping[str, Schema]) -> None:
        lists = frozenset(field for field in fields if properties[field].get("type") == "array")
        self._fields = {field.removesuffix("s") if field in lists else field: field for field in fields}
        self.__signature__ = Signature(
            [
                Parameter(
                    name,
                    Parameter.KEYWORD_ONLY,
                    default=None,
                    annotation=Annotated[
                        OptionalText,
                        Query(
                            description=f"Only those with this `{name}`"
                            + (f" among their `{field}`." if field in lists else "."),
                            json_schema_extra=_allowed(properties[field]),
                        ),
                    ],
                )
                for name, field in self._fields.items()
            ]
        )

    async def __call__(self, **given: str | None) -> dict[str, str]:
        return {self._fields[name]: value for name, value in given.items() if value is not None}


def _allowed(field: Schema) -> Schema:
    """The values that a filter on a field accepts: those of an enumeration, otherwise any text."""
    values = field.get("enum") or ([field["const"]] if "const" in field else None)
    return {"enum": values} if values else {}
