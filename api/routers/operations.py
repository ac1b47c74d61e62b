"""What became of a command."""

from starlette.types import ASGIApp

from api.endpoint import Call
from api.problems import Problem, not_found
from api.responses import POSITION, json_response
from api.submission import operation, pending
from schemas.outcome import Outcome
from streams.find_results import stands
from streams.log import Record


async def get(call: Call) -> ASGIApp:
    """Of the organizations that the caller may see, or of the one that `organization` names.

    Raises Problem 404, and 409 when several of them have used the id.
    """
    record = await _record(call, call.path("id"))
    if record.topic == "outcomes":
        outcome = Outcome.of(record.envelope.data)
        headers = {POSITION: f"{record.partition}:{outcome.position}"}
        return json_response(200, operation(outcome), headers)
    position = await call.services.log.end("events", record.partition)
    headers = {POSITION: f"{record.partition}:{position}", "Retry-After": "1"}
    return json_response(200, pending(record.envelope), headers)


async def _record(call: Call, id: str) -> Record:
    """The outcome; of a command that is not decided the command, or why it was refused."""
    log, wanted = call.services.log, call.query("organization")
    found: dict[str, Record] = {}
    # Later ones replace earlier ones: an outcome without a command is of one that could not be decided.
    outcomes = await log.find_by_id("outcomes", id)
    refused = [record for record in outcomes if not stands(record)]
    decided = [record for record in outcomes if stands(record)]
    for record in (*refused, *await log.find_by_id("commands", id), *decided):
        organization = record.envelope.partitionkey
        # Another tenant's operation is no different from one that does not exist.
        if call.principal.may_access(organization) and wanted in (None, organization):
            found[organization] = record
    if not found:
        raise not_found(f"operation {id[:100]!r}")
    if len(found) > 1:
        raise Problem(
            409,
            "ambiguous-operation",
            "Several organizations have used this id; say which one is meant with `?organization=`.",
            organizations=sorted(found),
        )
    return next(iter(found.values()))
