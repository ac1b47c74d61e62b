"""What became of a command."""

from starlette.types import ASGIApp

from api.endpoint import Call
from api.problems import Problem, not_found
from api.responses import POSITION, json_answer
from api.submission import operation, pending
from schemas.envelope import Envelope


async def get(call: Call) -> ASGIApp:
    id = call.path("id")
    outcome = await call.services.commands.outcome(id)
    if outcome is not None:
        _visible(call, id, outcome.organization)
        partition = call.services.log.partition_of(outcome.organization)
        return json_answer(200, operation(outcome), {POSITION: f"{partition}:{outcome.position}"})
    envelope = await _command(call, id)
    if envelope is None:
        raise _unknown(id)
    _visible(call, id, envelope.partitionkey)
    partition = call.services.log.partition_of(envelope.partitionkey)
    position = await call.services.log.end("events", partition)
    return json_answer(200, pending(envelope), {POSITION: f"{partition}:{position}", "Retry-After": "1"})


async def _command(call: Call, id: str) -> Envelope | None:
    record = await call.services.log.find("commands", id)
    return record.envelope if record else None


def _visible(call: Call, id: str, organization: str) -> None:
    """Another tenant's operation is no different from one that does not exist."""
    if not call.principal.may_enter(organization):
        raise _unknown(id)


def _unknown(id: str) -> Problem:
    return not_found(f"operation {id[:100]!r}")
