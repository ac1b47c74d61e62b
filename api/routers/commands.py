"""Any command as a CloudEvent: structured, batched or binary."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api.call import Call, Schema
from api.dependencies import ORGANIZATION, OrganizationContext, Prefer
from api.openapi.json_schemas import CLOUDEVENT_EXAMPLE, OPERATION_EXAMPLE, REF
from api.preconditions import media_type
from api.problems import Error, Problem, problem_of_outcome
from api.resources.presenter import command_body
from api.responses import JSON, POSITION, RawResponse, json_response
from api.routing.request_rules import unsupported
from api.routing.route import ApiRoute, problems, request_body, response_headers
from api.submission import (
    accepted_headers,
    check_depth,
    earlier_submission,
    key_reused,
    operation,
    pending,
    preferred_wait,
    rejection,
    traceparent,
    valid_id,
    validated,
)
from schemas.catalog import BY_NAME, COMMANDS
from schemas.codecs.avro import dataschema
from schemas.codecs.cloudevents_http import BATCH, STRUCTURED, Malformed, from_http
from schemas.envelope import Envelope, MessageKey
from schemas.identity import is_traceparent, timestamp
from schemas.limits import MOST_LISTED
from schemas.outcome import Outcome
from streams.decider.admission import attribute_problem

router = APIRouter(prefix=ORGANIZATION, tags=["commands"], route_class=ApiRoute)

MOST = 1000
"""Commands in one batch."""


_STATUS: dict[str, Any] = {
    "content": {
        JSON: {
            "schema": {
                "anyOf": [
                    {"$ref": REF + "OperationStatus"},
                    {
                        "type": "object",
                        "required": ["items"],
                        "properties": {
                            "items": {"type": "array", "items": {"$ref": REF + "OperationStatus"}}
                        },
                    },
                ]
            },
            "example": OPERATION_EXAMPLE,
        }
    },
    "headers": response_headers(POSITION),
}
_ID: Error = {"pointer": "/id"}
_EVENT = {"$ref": REF + "CloudEvent"}
_BODY: Mapping[str, tuple[Schema, Any]] = {
    STRUCTURED: (_EVENT, CLOUDEVENT_EXAMPLE),
    BATCH: ({"type": "array", "items": _EVENT, "maxItems": MOST}, [CLOUDEVENT_EXAMPLE]),
    JSON: ({"type": "object"}, CLOUDEVENT_EXAMPLE["data"]),
}


@router.post(
    "/commands",
    operation_id="post_commands",
    summary="Any command, as a CloudEvent",
    description="Structured, batched, or binary (`ce-` headers). The event's id is the command's. A batch is "
    "submitted as a whole or not at all.",
    response_class=RawResponse,
    responses={
        200: {"description": "Decided (`Prefer: wait`).", **_STATUS},
        202: {"description": "Submitted; durable.", **_STATUS},
        **problems(404, 409, 412, 503),
    },
    openapi_extra={"requestBody": request_body(_BODY)},
)
async def post_commands(call: OrganizationContext, prefer: Prefer = None) -> Response:
    if not media_type(call.header("content-type")):
        raise unsupported(tuple(_BODY))
    wait = preferred_wait(call, prefer)
    batch = (call.header("content-type") or "").lower().startswith(BATCH)
    body = await (call.request.body() if batch else command_body(call))
    try:
        events = await asyncio.to_thread(from_http, dict(call.request.headers), body)
    except Malformed as error:
        raise _malformed(error) from error
    if len(events) > MOST:
        detail = f"A batch may hold up to {MOST} commands."
        errors = [{"pointer": "", "detail": f"has {len(events):,} commands"}]
        raise Problem(422, "batch-too-large", detail, errors=errors)
    envelopes = _all_accepted(call, events, batch)
    if batch:
        return await _batch(call, envelopes, wait)
    return await _single(call, envelopes[0], wait)


async def _single(call: Call, envelope: Envelope, seconds: float | None) -> Response:
    commands, partition = call.services.commands, call.partition
    again = await earlier_submission(call, envelope.id, envelope.data, frozenset(), _ID)
    outcome: Outcome | None
    if again is not None:
        outcome = again.outcome
    elif seconds is None:
        await commands.submit([envelope])
        outcome = None
    else:
        outcome = (await commands.execute([envelope], seconds)).get(envelope.key)
    if outcome is None:
        position = await call.services.log.end("events", partition)
        return json_response(202, pending(envelope), accepted_headers(partition, position, envelope.id))
    if (problem := key_reused(outcome, envelope.data, _ID)) is not None:
        raise problem  # a concurrent command with the same id was decided instead
    if not outcome.accepted:
        raise await rejection(call, outcome)
    headers = accepted_headers(partition, outcome.position, envelope.id)
    if seconds is not None:
        headers["Preference-Applied"] = "wait"
    return json_response(200, operation(outcome), headers)


async def _batch(call: Call, envelopes: list[Envelope], seconds: float | None) -> Response:
    """Submits a batch. Ids that were decided before keep their first outcome."""
    commands, partition = call.services.commands, call.partition
    outcomes: Mapping[MessageKey, Outcome] = {}
    headers: dict[str, str] = {}
    if envelopes:
        if seconds is None:
            await commands.submit(envelopes)
        else:
            outcomes = await commands.execute(envelopes, seconds)
    items = [_item(e, outcomes.get(e.key)) for e in envelopes]
    position = max((o.position for o in outcomes.values()), default=0)
    position = position or await call.services.log.end("events", partition)
    headers[POSITION] = f"{partition}:{position}"
    if seconds is None or len(outcomes) < len(envelopes):
        return json_response(202, {"items": items}, headers)
    return json_response(200, {"items": items}, {**headers, "Preference-Applied": "wait"})


def _item(envelope: Envelope, outcome: Outcome | None) -> dict[str, Any]:
    if outcome is None:
        return pending(envelope)
    if (problem := key_reused(outcome, envelope.data, _ID)) is not None:
        # The outcome is another command's and is not shown.
        return {**pending(envelope), "state": "rejected", "problem": problem.document()}
    shown = operation(outcome)
    if not outcome.accepted:
        shown["problem"] = problem_of_outcome(outcome).document()
    return shown


def _all_accepted(call: Call, events: list[Envelope], batch: bool) -> list[Envelope]:
    """The commands as written to the log. Raises Problem 422 with the errors of all of them."""
    accepted: list[Envelope] = []
    errors: list[Error] = []
    seen: set[str] = set()
    for index, event in enumerate(events):
        if len(errors) > MOST_LISTED:
            break
        prefix = f"/{index}" if batch else ""
        try:
            accepted.append(_accepted(call, event, seen))
        except Problem as problem:
            if not batch:
                raise
            errors.extend(
                {**error, "pointer": prefix + error["pointer"]}
                for error in problem.errors or ({"pointer": "", "detail": problem.detail},)
            )
    if errors:
        raise Problem(
            422, "invalid-command", "Some commands are not valid; none was submitted.", errors=errors
        )
    return accepted


def _accepted(call: Call, event: Envelope, seen: set[str]) -> Envelope:
    model = COMMANDS.get(event.type)
    if model is None:
        raise _wrong("unknown-command", "type", f"there is no command {event.type[:200]!r}")
    if not valid_id(event.id):
        raise _wrong(
            "invalid-command", "id", "1 to 100 letters, digits, dots, hyphens and underscores, as a UUID has"
        )
    if (problem := attribute_problem(event)) is not None:
        raise _wrong("invalid-command", *problem)
    if event.id in seen:
        raise _wrong("invalid-command", "id", "comes twice in this batch")
    seen.add(event.id)
    try:
        data = validated(model, event.data)
    except Problem as problem:
        errors = [{**e, "pointer": "/data" + e["pointer"]} for e in problem.errors]
        raise Problem(problem.status, problem.rule, problem.detail, errors=errors) from problem
    check_depth(event.data)
    if data["organization"] != call.organization:
        raise Problem(
            403,
            "forbidden",
            "The command is for another organization than the path.",
            errors=[{"pointer": "/data/organization", "detail": f"the path has {call.organization!r}"}],
        )
    subject = BY_NAME[model.aggregate].subject(call.organization, data.get("name") or event.id)
    if event.subject and event.subject != subject:
        raise _wrong("invalid-command", "subject", f"is {subject!r} for this command; may be left out")
    if event.partitionkey and event.partitionkey != call.organization:
        raise _wrong("invalid-command", "partitionkey", "is the organization; may be left out")
    return replace(
        event,
        data=data,
        subject=subject,
        partitionkey=call.organization,
        time=event.time or timestamp(),
        correlationid=event.correlationid or event.id,
        traceparent=_trace(call, event),
        authtype="user",
        authid=call.principal.name,
        sequence="",
        previoushash="",
        dataschema=dataschema(model),
        dataref="",
    )


def _trace(call: Call, event: Envelope) -> str:
    """The event's own trace context, unless it is invalid or the request has one."""
    if call.header("traceparent") is None and is_traceparent(event.traceparent):
        return event.traceparent
    return traceparent(call)


def _wrong(rule: str, attribute: str, detail: str) -> Problem:
    return Problem(
        422,
        rule,
        "The CloudEvent is not a valid command.",
        errors=[{"pointer": f"/{attribute}", "detail": detail}],
    )


def _malformed(error: Malformed) -> Problem:
    place = "" if error.index is None else f"/{error.index}"
    pointer = place + (f"/{error.attribute}" if error.attribute else "")
    return Problem(
        415 if error.attribute == "content-type" else 400,
        "not-a-cloudevent",
        "The body is not a CloudEvent.",
        errors=[{"pointer": pointer, "detail": error.detail}],
    )
