"""The outcome of a command, or its state until there is one."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from api.call import Call
from api.dependencies import PREFIX, CallerContext, OptionalText
from api.openapi.json_schemas import OperationStatus
from api.problems import Problem, not_found
from api.responses import POSITION, json_response
from api.routing.route import ApiRoute, problems, response_headers
from api.submission import operation, pending
from schemas.outcome import Outcome
from streams.log import Record
from streams.submission.find_results import stands

router = APIRouter(prefix=f"{PREFIX}/operations", tags=["commands"], route_class=ApiRoute)


@router.get(
    "/{id}",
    operation_id="get_operation",
    summary="The outcome of a command",
    description="`pending` until the command is decided. A rejected one has a rule and a message.",
    response_model=OperationStatus,
    response_description="Pending, accepted or rejected.",
    responses={200: {"headers": response_headers(POSITION)}, **problems(404, 409)},
)
async def get_operation(
    call: CallerContext,
    id: Annotated[
        str,
        Path(
            description="The command's id.",
            json_schema_extra={"examples": ["019aa3b6-5b1f-7cc0-8e4b-6f0a4c8f3d21"]},
        ),
    ],
    organization: Annotated[
        OptionalText,
        Query(
            description="The command's organization, for callers who may see several: ids are "
            "unique within one. Without it all that the caller may see are searched, and an id that "
            "several of them have used is answered with 409 and their names."
        ),
    ] = None,
) -> Response:
    record = await _record(call, id, organization)
    if record.topic == "outcomes":
        outcome = Outcome.of(record.envelope.data)
        headers = {POSITION: f"{record.partition}:{outcome.position}"}
        return json_response(200, operation(outcome), headers)
    position = await call.services.log.end("events", record.partition)
    headers = {POSITION: f"{record.partition}:{position}", "Retry-After": "1"}
    return json_response(200, pending(record.envelope), headers)


async def _record(call: Call, id: str, wanted: str | None) -> Record:
    """The outcome; for a command that is not decided, the command, or its refusal as unreadable.

    Raises Problem 404, and 409 when several of the organizations have used the id.
    """
    log = call.services.log
    found: dict[str, Record] = {}
    # Later ones replace earlier ones: a decision, else the command, else its refusal as unreadable.
    outcomes = await log.find_by_id("outcomes", id)
    refused = [record for record in outcomes if not stands(record)]
    decided = [record for record in outcomes if stands(record)]
    for record in (*refused, *await log.find_by_id("commands", id), *decided):
        organization = record.envelope.partitionkey
        # An operation of another tenant is reported as missing.
        if call.principal.may_access(organization) and wanted in (None, organization):
            found[organization] = record
    if not found:
        raise not_found(f"operation {id[:100]!r}")
    if len(found) > 1:
        raise Problem(
            409,
            "ambiguous-operation",
            "Several organizations have used this id; choose one of them with `?organization=`.",
            organizations=sorted(found),
        )
    return next(iter(found.values()))
