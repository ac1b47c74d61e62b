"""Submits commands, and presents their outcomes."""

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import ValidationError

from api.call import Call
from api.preconditions import wait_seconds
from api.problems import Error, Problem, problem_of_outcome, problem_of_validation
from api.responses import POSITION
from projections.pages import Row
from schemas.aggregate import Aggregate
from schemas.catalog import BY_NAME, BY_PLURAL
from schemas.codecs.avro import dataschema
from schemas.codecs.canonical import digest
from schemas.envelope import Data, Envelope
from schemas.identity import is_traceparent, timestamp, uuid7
from schemas.message import Command
from schemas.outcome import Outcome

OPERATIONS = "/api/v1/operations/"
_ID = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
KEY: Error = {"parameter": "Idempotency-Key"}
"""The place of a command's id, where it is a header."""
MOST_EVENTS = 100
"""Events of a command whose resource is computed from them, instead of read once they are projected."""
_NESTED = 200
"""Maximum nesting of data; the log's JSON encoder fails beyond 254."""


@dataclass(frozen=True, slots=True)
class CommandDraft:
    """The fields of a command as the client gave them, and what the server added.

    `chosen`: fields that the server set, which a repetition takes from the first command;
    `secret`: members of the first response only.
    """

    fields: Mapping[str, Any]
    chosen: frozenset[str] = frozenset()
    secret: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Submission:
    """A command that was submitted: now (`envelope`), or before and decided (no `envelope`)."""

    id: str
    outcome: Outcome | None
    envelope: Envelope | None = None


def valid_id(id: str) -> bool:
    """Whether `id` is valid for a command: it can become the name of the resource that it creates."""
    return _ID.fullmatch(id) is not None


def command_id(key: str | None) -> str | None:
    """The client's `Idempotency-Key`, bare or as a structured string. Raises Problem 400."""
    if key is None:
        return None
    bare = key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key
    if not valid_id(bare):
        raise Problem(
            400,
            "invalid-idempotency-key",
            "An Idempotency-Key has 1 to 100 letters, digits, dots, hyphens and underscores.",
            errors=[{**KEY, "detail": f"is not such a text: {bare[:50]!r}"}],
        )
    return bare


def validated(model: type[Command], fields: Mapping[str, Any]) -> Data:
    """The data of a command. Raises Problem 422 with all errors."""
    try:
        command = model.of(fields)
    except ValidationError as error:
        raise problem_of_validation(error) from error
    data = command.data()
    if not command.name:
        data.pop("name", None)
    check_depth(data)
    return data


def check_depth(data: Any) -> None:
    """Raises Problem 422 when the log's encoder could not write `data`."""
    with suppress(TypeError):
        encoded = orjson.dumps(data)
        if encoded.count(b"[") + encoded.count(b"{") <= _NESTED:  # most data: it cannot nest deeper
            return
    wrapped = data
    for _ in range(254 - _NESTED):
        wrapped = [wrapped]
    try:
        orjson.dumps(wrapped)
    except TypeError as error:
        raise Problem(422, "not-json-data", f"Data nests deeper than {_NESTED} levels.") from error


def envelope(call: Call, model: type[Command], data: Data, id: str) -> Envelope:
    """The command as written to the log, with the caller's name."""
    settings = call.services.settings
    name = data.get("name") or id
    organization = data["organization"]
    return Envelope(
        id=id,
        type=model.type(),
        source=settings.source,
        subject=BY_NAME[model.aggregate].subject(organization, name),
        time=timestamp(),
        partitionkey=organization,
        data=data,
        dataschema=dataschema(model),
        correlationid=id,
        traceparent=traceparent(call),
        authtype="user",
        authid=call.principal.name,
    )


def traceparent(call: Call) -> str:
    given = call.header("traceparent") or ""
    return call.services.traceparent(given if is_traceparent(given) else "")


def preferred_wait(call: Call, prefer: str | None) -> float | None:
    return wait_seconds(prefer, call.services.settings.max_wait)


async def earlier_submission(
    call: Call, id: str, data: Data, chosen: frozenset[str], place: Error = KEY
) -> Submission | None:
    """The earlier submission of this command id in the organization; None when the id is new.

    Raises Problem 409 while it is not decided, 422 when the id was used with another body.
    """
    commands = call.services.commands
    key = (data["organization"], id)
    outcome = await commands.outcome(key)
    if outcome is None:
        if await commands.pending(key):
            raise Problem(
                409,
                "still-running",
                "The command with this Idempotency-Key is not decided yet.",
                errors=[{**place, "detail": "is that of a command that is not decided yet"}],
                headers={"Location": OPERATIONS + id, "Retry-After": "1"},
                command=id,
            )
        return None
    same = dict(data)
    if chosen:
        first = await call.services.log.find("commands", key)
        kept = first.envelope.data if first else {}
        for field_ in chosen:
            same.pop(field_, None)
            if field_ in kept:
                same[field_] = kept[field_]
    _check_same(outcome, same, place)
    return Submission(id, outcome)


async def submit(
    call: Call, model: type[Command], data: Data, id: str | None, wait: float | None
) -> Submission:
    """Submits a command under `id` (a new one when None) and waits as long as the client prefers."""
    envelope_ = envelope(call, model, data, id or uuid7())
    commands = call.services.commands
    if wait is None:
        await commands.submit([envelope_])
        return Submission(envelope_.id, None, envelope_)
    outcome = (await commands.execute([envelope_], wait)).get(envelope_.key)
    if id is not None:
        # A concurrent command with the same id may have been decided instead of this one.
        outcome = outcome or await commands.outcome(envelope_.key)
        if outcome is not None:
            _check_same(outcome, data, KEY)
    return Submission(envelope_.id, outcome, envelope_)


def key_reused(outcome: Outcome, data: Data, place: Error) -> Problem | None:
    """The problem if `outcome` is not of the command with `data`."""
    if digest(data) == outcome.digest:
        return None
    return Problem(
        422,
        "idempotency-key-reused",
        "This Idempotency-Key was used for another command; send a new one.",
        errors=[{**place, "detail": "was used for another command"}],
    )


def _check_same(outcome: Outcome, data: Data, place: Error) -> None:
    if (problem := key_reused(outcome, data, place)) is not None:
        raise problem


async def wait_for_read_model(
    call: Call, partition: int, position: int, seconds: float, read_model: str = "resources"
) -> bool:
    """Waits until a read model has reached `position`; False when it has not after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await call.services.read_model_runner.wait_for(read_model, partition, position)
    except TimeoutError:
        return False
    return True


async def row_after(call: Call, outcome: Outcome, seconds: float) -> Row | None:
    """The resource of an outcome: after its events or, where that is not known, once the read models have
    reached its position; None after `seconds`."""
    aggregate, name = resource_of(outcome)
    log, read_models = call.services.log, call.services.read_models
    partition = log.partition_of(outcome.organization)
    if aggregate is not None and outcome.accepted and 0 < outcome.events <= MOST_EVENTS:
        events = await log.read("events", partition, outcome.position - outcome.events, outcome.events)
        row = read_models.get_decided(aggregate, outcome.organization, name, outcome.version, events)
        if row is not None:
            return row
    if aggregate is None or not await wait_for_read_model(call, partition, outcome.position, seconds):
        return None
    return await read_models.get(aggregate, outcome.organization, name)


def resource_of(outcome: Outcome) -> tuple[Aggregate | None, str]:
    """The aggregate and name an outcome is about."""
    parts = outcome.subject.split("/")
    if len(parts) < 2:
        return None, ""
    return BY_PLURAL.get(parts[-2]), parts[-1]


async def rejection(call: Call, outcome: Outcome) -> Problem:
    """The problem for a rejected command; for a stale version with the current one."""
    if outcome.rule != "stale-version":
        return problem_of_outcome(outcome)
    row = await row_after(call, outcome, call.services.settings.position_seconds)
    problem = problem_of_outcome(outcome, current_version=row.version if row else 0)
    if row:
        problem.headers["ETag"] = f'"{row.version}"'
    return problem


def operation(outcome: Outcome) -> dict[str, Any]:
    """The outcome of a command in responses."""
    shown: dict[str, Any] = {
        "id": outcome.name,
        "state": "accepted" if outcome.accepted else "rejected",
        "organization": outcome.organization,
        "command": outcome.command,
        "subject": outcome.subject,
        "href": "/api/v1/" + outcome.subject,
        "requested_at": outcome.requested_at,
        "decided_at": outcome.decided_at,
        "position": outcome.position,
        "events": outcome.events,
        "version": outcome.version,
        "digest": outcome.digest,
    }
    if not outcome.accepted:
        shown["problem"] = problem_of_outcome(outcome).document()
    return shown


def pending(envelope_: Envelope) -> dict[str, Any]:
    """A command that is not decided yet, in responses."""
    return {
        "id": envelope_.id,
        "state": "pending",
        "organization": envelope_.partitionkey,
        "command": envelope_.type,
        "subject": envelope_.subject,
        "href": "/api/v1/" + envelope_.subject,
        "requested_at": envelope_.time,
    }


def accepted_headers(partition: int, position: int, id: str) -> dict[str, str]:
    return {POSITION: f"{partition}:{position}", "Location": OPERATIONS + id}
