"""Dependencies and parameters of path operations: caller, organization, page, `as_of`, preconditions."""

from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security.base import SecurityBase
from pydantic import BeforeValidator
from starlette.requests import Request

from api.as_of import resolve_as_of, wait_for_min_position
from api.authentication import SCOPE_KEY, Principal
from api.call import Call
from api.openapi.json_schemas import Absent
from api.preconditions import parse_boolean, parse_whole_number
from api.problems import Problem, invalid_parameter
from projections.pages import AsOf, K, read_cursor

PREFIX = "/api/v1"
ORGANIZATION = PREFIX + "/organizations/{org}"
DEFAULT_LIMIT = 100
MOST = 1000
POSITION_PATTERN = "^([0-9]{1,9}:)?[0-9]{1,18}$"
NAME_SCHEMA: dict[str, Any] = {
    "minLength": 1,
    "maxLength": 100,
    "pattern": r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
}


class Bearer(SecurityBase):
    """The caller. The middleware has authenticated it before routing, so that paths are not disclosed."""

    def __init__(self) -> None:
        self.model = HTTPBearerModel(description="A token; initially that in `DIR/admin.token`.")
        self.scheme_name = "bearer"

    async def __call__(self, request: Request) -> Principal:
        return request.scope[SCOPE_KEY]


Caller = Annotated[Principal, Depends(Bearer())]


async def current_call(request: Request) -> Call:
    return Call(request, request.app.state.services)


Context = Annotated[Call, Depends(current_call)]
"""The request and the services, of an operation that needs no token."""


async def authenticated_call(request: Request, caller: Caller) -> Call:
    return Call(request, request.app.state.services)


CallerContext = Annotated[Call, Depends(authenticated_call)]
"""The request and the services."""


async def organization_call(
    request: Request,
    caller: Caller,
    org: Annotated[
        str,
        Path(description="The organization.", json_schema_extra={**NAME_SCHEMA, "examples": ["default"]}),
    ],
) -> Call:
    return Call(request, request.app.state.services)


OrganizationContext = Annotated[Call, Depends(organization_call)]
"""The request and the services, of an operation in one organization, which the caller may access."""


async def all_organizations_call(call: CallerContext) -> Call:
    """Raises Problem 403 for a token that is limited to some organizations."""
    if call.principal.organizations is not None:
        raise Problem(403, "forbidden", "This needs a token for all organizations; this one is for some.")
    return call


AllOrganizationsContext = Annotated[Call, Depends(all_organizations_call)]


def whole_number(name: str, least: int, most: int) -> BeforeValidator:
    """Accepts digits only; pydantic alone would accept `1_0` and `1.0`, too."""
    return BeforeValidator(partial(_whole_number, name, least, most))


def _whole_number(name: str, least: int, most: int, given: Any) -> int:
    return parse_whole_number(str(given), name, least, least, most)


def boolean(name: str) -> BeforeValidator:
    return BeforeValidator(partial(parse_boolean, name))


OptionalText = str | Absent
Limit = Annotated[
    int,
    whole_number("limit", 1, MOST),
    Query(description="Maximum number of items.", json_schema_extra={"minimum": 1, "maximum": MOST}),
]
IfNoneMatch = Annotated[
    OptionalText, Header(alias="If-None-Match", description="Answer 304 when the ETag is one of these.")
]


CursorText = Annotated[OptionalText, Query(description="`next_cursor` of the previous page.")]
AsOfText = Annotated[
    OptionalText,
    Query(
        description="The state at a time (RFC 3339) or position (`16`, or `0:16` with its partition). Waits, "
        "bounded, until the read model has reached it. A time in the future, or a position beyond the end of "
        "the event log, is refused with 400.",
        json_schema_extra={"anyOf": [{"format": "date-time"}, {"pattern": POSITION_PATTERN}]},
    ),
]
MinPositionText = Annotated[
    OptionalText,
    Query(
        description="Wait, bounded, until the read model has reached this position.",
        json_schema_extra={"pattern": POSITION_PATTERN},
    ),
]
Prefer = Annotated[
    OptionalText,
    Header(
        alias="Prefer",
        description="`wait=N`: wait up to N seconds for the outcome, and answer with it.",
        json_schema_extra={"examples": ["wait=10"]},
    ),
]
IdempotencyKey = Annotated[
    OptionalText,
    Header(
        alias="Idempotency-Key",
        description="The command's id: the same key and body get the outcome of the first request.",
        json_schema_extra={
            "minLength": 1,
            "maxLength": 100,
            "examples": ["019aa3b6-5b1f-7cc0-8e4b-6f0a4c8f3d21"],
        },
    ),
]
IfMatch = Annotated[
    OptionalText,
    Header(
        alias="If-Match",
        description="The ETag the change is based on, or `*`. Required to change an existing resource.",
        json_schema_extra={"examples": ["*"]},
    ),
]
CreateOnly = Annotated[
    OptionalText,
    Header(alias="If-None-Match", description="`*`: create it; fail if it exists."),
]


def parse_cursor(given: str | None, first: K) -> str | None:
    """The cursor, if it is of a list whose keys have the type of `first`. Raises Problem 400."""
    try:
        read_cursor(given, first)
    except ValueError as error:
        raise invalid_parameter(
            "cursor", "The cursor is not valid.", "take it from `next_cursor` or the Link header"
        ) from error
    return given


async def text_cursor(cursor: CursorText = None) -> str | None:
    return parse_cursor(cursor, "")


async def number_cursor(cursor: CursorText = None) -> str | None:
    return parse_cursor(cursor, 0)


Cursor = Annotated[str | None, Depends(text_cursor)]
"""The cursor of a list whose keys are text."""
NumberCursor = Annotated[str | None, Depends(number_cursor)]
"""The cursor of a list whose keys are numbers."""


async def resolved_moment(
    request: Request, as_of: AsOfText = None, min_position: MinPositionText = None
) -> AsOf:
    call = Call(request, request.app.state.services)
    await wait_for_min_position(call, min_position, call.partitions)
    return await resolve_as_of(call, as_of, call.partitions)


Moment = Annotated[AsOf, Depends(resolved_moment)]
"""The `as_of` of a read, once the read model has reached it and `min_position`."""
