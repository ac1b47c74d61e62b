"""The endpoints of one aggregate, as the catalog describes it."""

from collections.abc import Awaitable, Callable, Iterator

from starlette.types import ASGIApp

from api.endpoint import JSON, Body, Call, Endpoint, Parameter, ResponseDoc, Schema
from api.json_schemas import REF, body_schema, part_schema, shown, view_schema
from api.parameters import (
    AS_OF,
    CREATE_ONLY,
    CURSOR,
    IDEMPOTENCY_KEY,
    IF_MATCH,
    IF_NONE_MATCH,
    LIMITED,
    MIN_POSITION,
    ORG,
    ORGANIZATION,
    PREFER,
    PREFIX,
    in_path,
)
from api.resources.handlers import ResourceHandlers
from api.resources.presenter import Presenter
from schemas.aggregate import Aggregate, Part, Route
from schemas.message import Command

_CHANGES = ("Location", "Signalbox-Position")


def aggregate_endpoints(
    aggregate: Aggregate, presenter: Presenter, found: dict[str, Schema]
) -> Iterator[Endpoint]:
    resources = ResourceHandlers(aggregate, presenter)
    collection = f"{PREFIX}/{aggregate.plural}" if aggregate.top else f"{ORGANIZATION}/{aggregate.plural}"
    one = collection + ("/{org}" if aggregate.top else "/{name}")
    outer = () if aggregate.top else (ORG,)
    named = (ORG,) if aggregate.top else (ORG, in_path("name", f"The {aggregate.name}.", _sample(aggregate)))
    view = aggregate.view.__name__
    found[view] = view_schema(aggregate, presenter, found)
    found[f"{view}List"] = _list_schema(view, found)
    filters = tuple(
        Parameter(
            name=f,
            location="query",
            description=f"Only those with this `{f}`.",
            schema=_allowed(found[view]["properties"][f]),
        )
        for f in presenter.filters
    )
    yield Endpoint(
        method="GET",
        path=collection,
        id=f"list_{aggregate.plural}",
        tag=aggregate.plural,
        summary=f"List {aggregate.plural}",
        description=aggregate.summary,
        handle=resources.list,
        parameters=(*outer, LIMITED, CURSOR, AS_OF, MIN_POSITION, *filters),
        responses={
            200: ResponseDoc(
                description="A page.",
                content={JSON: shown(f"{view}List", found)},
                headers=("Signalbox-Position", "Link"),
            )
        },
        problems=(400, 503),
    )
    yield Endpoint(
        method="GET",
        path=one,
        id=f"get_{aggregate.name}",
        tag=aggregate.plural,
        summary=f"One {aggregate.name}",
        description=aggregate.summary,
        handle=resources.get,
        parameters=(*named, AS_OF, MIN_POSITION, IF_NONE_MATCH),
        responses={
            200: ResponseDoc(
                description="As it is, or was.",
                content={JSON: shown(view, found)},
                headers=("ETag", "Signalbox-Position"),
            ),
            304: ResponseDoc(description="Not changed.", headers=("ETag",)),
        },
        problems=(400, 404, 503),
    )
    for part in aggregate.parts:
        yield from _part_endpoints(resources, part, one, named, found)
    for route in aggregate.routes:
        post = route.method == "POST"
        yield _command_endpoint(
            resources, route, collection if post else one, outer if post else named, found
        )


def _allowed(field: Schema) -> Schema:
    """What a filter on a field takes: the field's values, where these are a fixed set, else any text."""
    values = field.get("enum") or ([field["const"]] if "const" in field else None)
    return {"type": "string", "enum": values} if values else {"type": "string"}


def _sample(aggregate: Aggregate) -> str:
    return {"gateway": "local", "environment": "development", "project": "default"}.get(
        aggregate.name, "orders"
    )


def _list_schema(view: str, found: dict[str, Schema]) -> Schema:
    return {
        "type": "object",
        "required": ["items", "next_cursor"],
        "properties": {
            "items": {"type": "array", "items": {"$ref": REF + view}},
            "next_cursor": {"type": ["string", "null"]},
        },
        "examples": [{"items": [found[view]["examples"][0]], "next_cursor": None}],
    }


def _part_endpoints(
    resources: ResourceHandlers, part: Part, one: str, named: tuple[Parameter, ...], found: dict[str, Schema]
) -> Iterator[Endpoint]:
    aggregate = resources.aggregate
    entry = f"{aggregate.view.__name__}{part.plural.removesuffix('s').capitalize()}"
    found[entry] = part_schema(part, found)
    found[f"{entry}List"] = _list_schema(entry, found)
    yield Endpoint(
        method="GET",
        path=f"{one}/{part.plural}",
        id=f"list_{aggregate.name}_{part.plural}",
        tag=aggregate.plural,
        summary=f"The {part.plural} of one {aggregate.name}",
        handle=_bound(resources.parts, part),
        parameters=(*named, LIMITED, CURSOR, AS_OF, MIN_POSITION),
        responses={
            200: ResponseDoc(
                description="A page.",
                content={JSON: shown(f"{entry}List", found)},
                headers=("Signalbox-Position", "Link"),
            )
        },
        problems=(400, 404, 503),
    )
    yield Endpoint(
        method="GET",
        path=f"{one}/{part.plural}/{{key}}",
        id=f"get_{aggregate.name}_{part.plural.removesuffix('s')}",
        tag=aggregate.plural,
        summary=f"One of the {part.plural} of one {aggregate.name}; it never changes",
        handle=_bound(resources.part, part),
        parameters=(
            *named,
            in_path("key", f"Its `{part.key}`.", "1", {"type": "string"}),
            AS_OF,
            MIN_POSITION,
            IF_NONE_MATCH,
        ),
        responses={
            200: ResponseDoc(
                description="As it was made.", content={JSON: shown(entry, found)}, headers=("ETag",)
            ),
            304: ResponseDoc(description="Not changed.", headers=("ETag",)),
        },
        problems=(400, 404, 503),
    )


def _bound(
    handle: Callable[[Call, Part], Awaitable[ASGIApp]], part: Part
) -> Callable[[Call], Awaitable[ASGIApp]]:
    return lambda call: handle(call, part)


def _command_endpoint(
    resources: ResourceHandlers,
    route: Route,
    path: str,
    parameters: tuple[Parameter, ...],
    found: dict[str, Schema],
) -> Endpoint:
    aggregate, presenter, command = resources.aggregate, resources.presenter, route.command
    post, delete = route.method == "POST", route.method == "DELETE"
    article = "an" if aggregate.name[0] in "aeiou" else "a"
    conditions = () if post else (IF_MATCH,) if delete else (IF_MATCH, CREATE_ONLY)
    view = aggregate.view.__name__
    answer = shown(view, found)
    operation = shown("OperationStatus", found)
    secrets = presenter.secrets.get(command, {})
    if secrets:
        found[command.__name__ + "Answer"] = {
            "allOf": [{"$ref": REF + view}, {"type": "object", "properties": dict(secrets)}],
            "examples": [{**answer[1], **{k: v["examples"][0] for k, v in secrets.items()}}],
        }
        answer = shown(command.__name__ + "Answer", found)
    answers = {
        202: ResponseDoc(description="Handed in; durable.", content={JSON: operation}, headers=_CHANGES)
    }
    if delete:
        answers[200] = ResponseDoc(
            description="Done (`Prefer: wait`).", content={JSON: operation}, headers=("Signalbox-Position",)
        )
    else:
        answers[200] = ResponseDoc(
            description="Changed, or as it was already (`Prefer: wait`).",
            content={JSON: answer},
            headers=("ETag", "Signalbox-Position"),
        )
        answers[201] = ResponseDoc(
            description="Made (`Prefer: wait`).", content={JSON: answer}, headers=("ETag", *_CHANGES)
        )
    return Endpoint(
        method=route.method,
        path=path,
        id=f"{command.verb}_{aggregate.name}",
        tag=aggregate.plural,
        summary=f"{command.verb.capitalize()} {article} {aggregate.name}",
        description=(command.__doc__ or aggregate.summary)
        if "What somebody wants" not in (command.__doc__ or "")
        else aggregate.summary,
        handle=_commanded(resources, route),
        parameters=(*parameters, *conditions, PREFER, IDEMPOTENCY_KEY),
        body=None if delete else _body(presenter, command, not post, found),
        responses=dict(sorted(answers.items())),
        problems=(400, 404, 408, 409, 412, 413, 415, 422, 503)
        if post
        else (400, 404, 408, 409, 412, 413, 415, 422, 428, 503),
    )


def _commanded(resources: ResourceHandlers, route: Route) -> Callable[[Call], Awaitable[ASGIApp]]:
    return lambda call: resources.command(call, route)


def _body(presenter: Presenter, command: type[Command], named: bool, found: dict[str, Schema]) -> Body:
    given = presenter.bodies.get(command)
    if given is not None:
        return given
    schema = body_schema(command, presenter, named, found)
    found[command.__name__] = schema
    return Body(content={JSON: shown(command.__name__, found)})
