"""What could not be taken in: events that wait at a read model, messages that no decider could read.

Every retry and every skip is recorded on the parked topic, with who did it, before it is done.
"""

from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import ASGIApp

from api.endpoint import JSON, Body, Call, Endpoint, ResponseDoc, Schema
from api.parameters import CURSOR, LIMITED, PREFIX, in_path
from api.ports import DeadLetterPort
from api.preconditions import parse_whole_number
from api.problems import Problem, not_found, problem_of_validation, unavailable
from api.resources.handlers import LIMIT, MOST, parse_cursor
from api.resources.presenter import command_body, json_object
from api.responses import json_response
from api.submission import traceparent
from projections.failures import ReadModelsUnavailable
from projections.pages import cursor_after, read_cursor
from schemas.envelope import Envelope
from schemas.envelopes import envelope_for
from schemas.parked import PARKED, Parked, ParkedEventSkipped, ParkedEventsRetried
from streams.log import TOPICS
from streams.projection import UnknownReadModel
from streams.projection.progress import Superseded

A = TypeVar("A", bound=BaseModel)

_KINDS = {m.type(): m.verb for m in PARKED}


class Retry(BaseModel):
    """The parked events about one subject."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    subject: str = Field(max_length=2000)


class Skip(Retry):
    """The first parked event about one subject; where it stands, so that no other is given up."""

    partition: int = Field(ge=0)
    position: int = Field(ge=1)


@dataclass(frozen=True, slots=True)
class BlockedSubject:
    """The events about one subject that wait at a read model: the first of them, and how many there are."""

    first: dict[str, Any]
    count: int

    def document(self) -> dict[str, Any]:
        return {**self.first, "waiting": self.count}


async def list_blocked(call: Call) -> ASGIApp:
    """What waits at read models, by read model and subject."""
    _require_all_organizations(call)
    limit = parse_whole_number(call.query("limit"), "limit", LIMIT, 1, MOST)
    after = read_cursor(parse_cursor(call, ""), "")
    found = {"\n".join(_key(w)): w for w in await _blocked(call)}
    keys = sorted(key for key in found if key > after)
    items = [found[key].document() for key in keys[:limit]]
    more = cursor_after(keys[limit - 1]) if len(keys) > limit else None
    return json_response(200, {"items": items, "next_cursor": more})


async def list_topic(call: Call) -> ASGIApp:
    """The newest entries of the parked topic, the newest first."""
    _require_all_organizations(call)
    limit = parse_whole_number(call.query("limit"), "limit", LIMIT, 1, MOST)
    log = call.services.log
    entries: list[dict[str, Any]] = []
    for partition in range(log.partitions):
        end = await log.end("parked", partition)
        after = max(0, end - limit)
        while after < end and (records := await log.read("parked", partition, after, limit)):
            entries += [_entry(record.envelope) for record in records]
            after = records[-1].position
    entries.sort(key=lambda entry: str(entry["time"]), reverse=True)
    return json_response(200, {"items": entries[:limit]})


async def retry(call: Call) -> ASGIApp:
    """Answers when what could be taken in was."""
    _require_all_organizations(call)
    name, subject = call.path("name"), (await _parse_body(call, Retry)).subject
    first = _first(await _blocked(call), name, subject).first
    await _record(
        call,
        ParkedEventsRetried(
            organization=await _organization(call, first),
            name=name,
            about=subject,
            topic=first["topic"],
            partition=first["partition"],
            position=first["position"],
            reason=first["reason"],
        ),
    )
    return await _done(call, name, subject, _port(call).retry(name, subject))


async def skip(call: Call) -> ASGIApp:
    """Answers when the event is given up, and what could be taken in behind it was."""
    _require_all_organizations(call)
    name, asked = call.path("name"), await _parse_body(call, Skip)
    first = _first(await _blocked(call), name, asked.subject).first
    if (first["partition"], first["position"]) != (asked.partition, asked.position):
        raise Problem(
            409,
            "not-the-first",
            f"The first parked event about {asked.subject!r} is at {first['partition']}:{first['position']}.",
        )
    await _record(
        call,
        ParkedEventSkipped(
            organization=await _organization(call, first),
            name=name,
            about=asked.subject,
            topic=first["topic"],
            partition=first["partition"],
            position=first["position"],
            reason=first["reason"],
            event=first["id"],
            of_type=first["type"],
        ),
    )
    return await _done(call, name, asked.subject, _port(call).skip(name, asked.subject))


async def _done(call: Call, name: str, subject: str, work: Awaitable[int]) -> ASGIApp:
    try:
        taken = await work
    except UnknownReadModel as error:
        raise not_found(f"read model {name[:100]!r}") from error
    except (ReadModelsUnavailable, Superseded) as error:
        raise unavailable(f"The read model {name!r} cannot be written at the moment.") from error
    left = next((w for w in await _blocked(call) if _key(w) == (name, subject)), None)
    answer: dict[str, Any] = {"read_model": name, "subject": subject, "taken": taken, "waiting": 0}
    if left is not None:
        answer |= {"waiting": left.count, "first": left.first}
    return json_response(200, answer)


async def _record(call: Call, message: Parked) -> None:
    """Durably says who did what. Raises LogUnavailable, before anything is done."""
    envelope = envelope_for(
        message,
        source=call.services.settings.source,
        subject=f"readmodels/{message.name}",
        traceparent=traceparent(call),
        authtype="user",
        authid=call.principal.name,
    )
    await call.services.log.append("parked", [envelope])


async def _organization(call: Call, row: Mapping[str, Any]) -> str:
    """Whose the parked event is; empty when it does not say."""
    stands_on = TOPICS[TOPICS.index(row["topic"])]
    records = await call.services.log.read(stands_on, row["partition"], row["position"] - 1, 1)
    return records[0].envelope.partitionkey if records else ""


async def _blocked(call: Call) -> list[BlockedSubject]:
    first: dict[tuple[str, str], dict[str, Any]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for row in await call.services.read_models.parked():
        key = (row["read_model"], row["subject"])
        first.setdefault(key, row)
        counts[key] += 1
    return [BlockedSubject(row, counts[key]) for key, row in first.items()]


def _key(waiting_: BlockedSubject) -> tuple[str, str]:
    return waiting_.first["read_model"], waiting_.first["subject"]


def _first(found: Sequence[BlockedSubject], name: str, subject: str) -> BlockedSubject:
    """Raises Problem 404."""
    for one in found:
        if _key(one) == (name, subject):
            return one
    raise not_found(f"parked event about {subject[:200]!r} at the read model {name[:100]!r}")


def _entry(envelope: Envelope) -> dict[str, Any]:
    """An entry of the parked topic, without the message's body."""
    return {
        "kind": _KINDS.get(envelope.type, envelope.type),
        "id": envelope.id,
        "time": envelope.time,
        "by": envelope.authid or None,
        **{name: value for name, value in envelope.data.items() if name != "value"},
    }


def _port(call: Call) -> DeadLetterPort:
    parking = call.services.dead_letters
    if parking is None:
        raise unavailable("Nobody who keeps read models can be reached from here.")
    return parking


def _require_all_organizations(call: Call) -> None:
    """Raises Problem 403."""
    if call.principal.organizations is not None:
        raise Problem(403, "forbidden", "What is parked concerns every organization; this token is for some.")


async def _parse_body(call: Call, model: type[A]) -> A:
    """Raises Problem 422."""
    try:
        return model.model_validate(json_object(await command_body(call)))
    except ValidationError as error:
        raise problem_of_validation(error) from error


_WAITING: Schema = {
    "type": "object",
    "required": ["read_model", "topic", "partition", "position", "subject", "reason", "waiting"],
    "properties": {
        "read_model": {"type": "string"},
        "topic": {"type": "string"},
        "partition": {"type": "integer"},
        "position": {"type": "integer", "description": "Where the first of them stands on the topic."},
        "subject": {"type": "string"},
        "type": {"type": "string"},
        "id": {"type": "string"},
        "reason": {"type": "string"},
        "time": {"type": "string", "format": "date-time", "description": "Since when."},
        "waiting": {"type": "integer", "description": "How many events wait, this one included."},
    },
}
_SUBJECT = "organizations/acme/apis/orders"
_FIRST = {
    "read_model": "resources",
    "topic": "events",
    "partition": 0,
    "position": 17,
    "subject": _SUBJECT,
    "type": "io.signalbox.api.published.v1",
    "id": "019aa3b6-5b1f-7cc0-8e4b-6f0a4c8f3d21",
    "reason": "KeyError: 'spec'",
    "time": "2026-11-21T02:30:00.000000Z",
}
_DONE: Schema = {
    "type": "object",
    "required": ["read_model", "subject", "taken", "waiting"],
    "properties": {
        "read_model": {"type": "string"},
        "subject": {"type": "string"},
        "taken": {"type": "integer", "description": "How many events were taken in."},
        "waiting": {"type": "integer", "description": "How many still wait."},
        "first": {"type": "object", "description": "The first of these, and why it waits."},
    },
}
_ENTRY: Schema = {
    "type": "object",
    "required": ["kind", "id", "time"],
    "properties": {
        "kind": {"type": "string", "description": "parked (a message), retried or skipped (events)."},
        "id": {"type": "string"},
        "time": {"type": "string"},
        "by": {"type": ["string", "null"], "description": "Who did it."},
    },
}


def endpoints() -> Iterator[Endpoint]:
    yield Endpoint(
        method="GET",
        path=f"{PREFIX}/parked",
        id="list_parked",
        tag="process",
        summary="Events that read models could not take in, and those waiting behind them",
        handle=list_blocked,
        parameters=(LIMITED, CURSOR),
        responses={
            200: ResponseDoc(
                description="By read model and subject.",
                content={
                    JSON: (
                        _items(_WAITING, cursor=True),
                        {"items": [{**_FIRST, "waiting": 3}], "next_cursor": None},
                    )
                },
            )
        },
        problems=(400, 403),
    )
    yield Endpoint(
        method="GET",
        path=f"{PREFIX}/parked/topic",
        id="list_parked_topic",
        tag="process",
        summary="Messages nobody could take, and what was done about parked events, the newest first",
        handle=list_topic,
        parameters=(LIMITED,),
        responses={
            200: ResponseDoc(
                description="Without the messages' bodies, which are on the topic.",
                content={JSON: (_items(_ENTRY), {"items": [_ENTRY_EXAMPLE]})},
            )
        },
        problems=(400, 403),
    )
    for verb, handle, summary, model in (
        ("retry", retry, "Take in the parked events about a subject again", Retry),
        (
            "skip",
            skip,
            "Give up the first parked event about a subject, and take in what waits behind it",
            Skip,
        ),
    ):
        example = {"subject": _SUBJECT}
        if model is Skip:
            example |= {"partition": 0, "position": 17}
        yield Endpoint(
            method="POST",
            path=f"{PREFIX}/readmodels/{{name}}/parked/{verb}",
            id=f"{verb}_parked",
            tag="process",
            summary=summary,
            handle=handle,
            parameters=(in_path("name", "The read model.", "resources", {"type": "string"}),),
            body=Body(content={JSON: (model.model_json_schema(), example)}),
            responses={
                200: ResponseDoc(
                    description="What came of it.",
                    content={
                        JSON: (
                            _DONE,
                            {"read_model": "resources", "subject": _SUBJECT, "taken": 3, "waiting": 0},
                        )
                    },
                )
            },
            problems=(400, 403, 404, 408, 409, 413, 415, 422, 503),
        )


def _items(schema: Schema, *, cursor: bool = False) -> Schema:
    more: Schema = {"next_cursor": {"type": ["string", "null"]}} if cursor else {}
    return {
        "type": "object",
        "required": ["items", *more],
        "properties": {"items": {"type": "array", "items": schema}, **more},
    }


_ENTRY_EXAMPLE = {
    "kind": "skipped",
    "id": "019aa3b6-5b1f-7cc0-8e4b-6f0a4c8f3d22",
    "time": "2026-11-21T02:31:00.000000Z",
    "by": "admin",
    "organization": "acme",
    "name": "resources",
    "about": _SUBJECT,
    "topic": "events",
    "partition": 0,
    "position": 17,
}
