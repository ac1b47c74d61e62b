"""Dead letters: events that wait at a read model, and messages that no decider could read.

They are entries of the topic `signalbox.parked`. Every retry and every skip is recorded there, with the
caller's name, before it is done.
"""

from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.call import Call
from api.dependencies import DEFAULT_LIMIT, PREFIX, AllOrganizationsContext, Cursor, Limit
from api.openapi.json_schemas import Absent, Timestamp, examples
from api.ports import DeadLetterPort
from api.problems import Problem, not_found, unavailable
from api.responses import json_response
from api.routers.rebuild import ReadModelName
from api.routing.route import ApiRoute, problems
from api.submission import traceparent
from projections.failures import ReadModelsUnavailable
from projections.pages import cursor_after, read_cursor
from schemas.envelope import Envelope
from schemas.envelopes import envelope_for
from schemas.parked import PARKED, Parked, ParkedEventSkipped, ParkedEventsRetried
from streams.log import TOPICS
from streams.projection import UnknownReadModel
from streams.projection.progress import Superseded

router = APIRouter(prefix=PREFIX, tags=["process"], route_class=ApiRoute)

_KINDS = {m.type(): m.verb for m in PARKED}
_SUBJECT = "organizations/acme/apis/orders"


class Retry(BaseModel):
    """The dead-lettered events about one subject."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, json_schema_extra={"examples": [{"subject": _SUBJECT}]}
    )

    subject: str = Field(max_length=2000)


class Skip(Retry):
    """The first dead-lettered event about one subject; with its position, so that no other one is skipped."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"subject": _SUBJECT, "partition": 0, "position": 17}]}
    )

    partition: int = Field(ge=0)
    position: int = Field(ge=1)


class DeadLetteredSubject(BaseModel):
    read_model: str
    topic: str
    partition: int
    position: int = Field(description="The position of the first of them on the topic.")
    subject: str
    type: str | Absent = None
    id: str | Absent = None
    reason: str
    time: Timestamp | Absent = Field(default=None, description="Since when.")
    waiting: int = Field(description="The number of waiting events, this one included.")


class DeadLetteredSubjectList(BaseModel):
    model_config = examples(
        {
            "items": [
                {
                    "read_model": "resources",
                    "topic": "events",
                    "partition": 0,
                    "position": 17,
                    "subject": _SUBJECT,
                    "type": "io.signalbox.api.published.v1",
                    "id": "019aa3b6-5b1f-7cc0-8e4b-6f0a4c8f3d21",
                    "reason": "KeyError: 'spec'",
                    "time": "2026-11-21T02:30:00.000000Z",
                    "waiting": 3,
                }
            ],
            "next_cursor": "InJlc291cmNlcyI",
        }
    )

    items: list[DeadLetteredSubject]
    next_cursor: str | None


class DeadLetterEntry(BaseModel):
    model_config = ConfigDict(extra="allow")

    kind: str = Field(description="parked (a message), retried or skipped (events).")
    id: str
    time: str
    by: str | None = Field(default=None, description="The caller who did it.")


class DeadLetterTopic(BaseModel):
    model_config = examples(
        {
            "items": [
                {
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
            ]
        }
    )

    items: list[DeadLetterEntry]


class RetryResult(BaseModel):
    model_config = examples({"read_model": "resources", "subject": _SUBJECT, "taken": 3, "waiting": 0})

    read_model: str
    subject: str
    taken: int = Field(description="The number of events that were applied.")
    waiting: int = Field(description="The number of events that still wait.")
    first: dict[str, Any] | Absent = Field(default=None, description="The first of these, with the reason.")


@dataclass(frozen=True, slots=True)
class BlockedSubject:
    """The events about one subject that wait at a read model: the first of them, and their number."""

    first: dict[str, Any]
    count: int

    def document(self) -> dict[str, Any]:
        return {**self.first, "waiting": self.count}


@router.get(
    "/parked",
    operation_id="list_parked",
    summary="Events that read models could not apply, and those waiting behind them",
    description="One item per read model and subject. Events about other subjects are applied as usual.",
    response_model=DeadLetteredSubjectList,
    response_description="By read model and subject.",
    responses=problems(403),
)
async def list_blocked(
    call: AllOrganizationsContext, cursor: Cursor, limit: Limit = DEFAULT_LIMIT
) -> Response:
    after = read_cursor(cursor, "")
    found = {"\n".join(_key(w)): w for w in await _blocked(call)}
    keys = sorted(key for key in found if key > after)
    items = [found[key].document() for key in keys[:limit]]
    more = cursor_after(keys[limit - 1]) if len(keys) > limit else None
    return json_response(200, {"items": items, "next_cursor": more})


@router.get(
    "/parked/topic",
    operation_id="list_parked_topic",
    summary="The newest dead letters, and retries and skips, the newest first",
    description="The entries of the topic `parked`, for callers who may see all organizations.",
    response_model=DeadLetterTopic,
    response_description="Without the messages' bodies, which are on the topic.",
    responses=problems(403),
)
async def list_topic(call: AllOrganizationsContext, limit: Limit = DEFAULT_LIMIT) -> Response:
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


@router.post(
    "/readmodels/{name}/parked/retry",
    operation_id="retry_parked",
    summary="Apply the dead-lettered events about a subject again",
    description="Responds when all that could be applied were.",
    response_model=RetryResult,
    response_description="The result.",
    responses=problems(403, 404, 409, 503),
)
async def retry(call: AllOrganizationsContext, name: ReadModelName, body: Retry) -> Response:
    subject = body.subject
    first = _first(await _blocked(call), name, subject).first
    await _record(call, ParkedEventsRetried.of(await _about(call, name, first)))
    return await _done(call, name, subject, _port(call).retry(name, subject))


@router.post(
    "/readmodels/{name}/parked/skip",
    operation_id="skip_parked",
    summary="Skip the first dead-lettered event about a subject, and apply those that wait behind it",
    description="Responds when the event is skipped, and all behind it that could be applied were.",
    response_model=RetryResult,
    response_description="The result.",
    responses=problems(403, 404, 409, 503),
)
async def skip(call: AllOrganizationsContext, name: ReadModelName, body: Skip) -> Response:
    first = _first(await _blocked(call), name, body.subject).first
    if (first["partition"], first["position"]) != (body.partition, body.position):
        raise Problem(
            409,
            "not-the-first",
            f"The first parked event about {body.subject!r} is at {first['partition']}:{first['position']}.",
        )
    about = await _about(call, name, first)
    await _record(call, ParkedEventSkipped.of({**about, "event": first["id"], "of_type": first["type"]}))
    return await _done(call, name, body.subject, _port(call).skip(name, body.subject))


async def _done(call: Call, name: str, subject: str, work: Awaitable[int]) -> Response:
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
    """Durably records the caller and the action. Raises LogUnavailable, before anything is done."""
    envelope = envelope_for(
        message,
        source=call.services.settings.source,
        subject=f"readmodels/{message.name}",
        traceparent=traceparent(call),
        authtype="user",
        authid=call.principal.name,
    )
    await call.services.log.append("parked", [envelope])


async def _about(call: Call, name: str, first: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a message about the first event that waits; `organization` is empty when the event
    names none."""
    topic = TOPICS[TOPICS.index(first["topic"])]
    records = await call.services.log.read(topic, first["partition"], first["position"] - 1, 1)
    return {
        "organization": records[0].envelope.partitionkey if records else "",
        "name": name,
        "about": first["subject"],
        **{field: first[field] for field in ("topic", "partition", "position", "reason")},
    }


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
        raise unavailable("This process has no access to a projection runner.")
    return parking
