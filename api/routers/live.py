"""What is live: which revision of each API each gateway runs, whatever was asked for later."""

from typing import Any

from starlette.types import ASGIApp

from api.as_of import resolve_as_of
from api.endpoint import JSON, Call, Parameter, Schema
from api.preconditions import parse_whole_number
from api.problems import Problem, not_found
from api.resources.handlers import LIMIT, MOST, next_link, parse_cursor, wait_for_min_position
from api.responses import POSITION, json_response
from api.submission import wait_for_read_model
from projections.pages import cursor_after, read_cursor
from schemas.api import API as API_KIND
from schemas.gateway import GATEWAY as GATEWAY_KIND

READ_MODEL = "deliveries"

GATEWAY = Parameter(name="gateway", location="query", description="Only on this gateway.")
API = Parameter(name="api", location="query", description="Only of this API.")

_COUNT: Schema = {"type": "integer", "minimum": 0}
LIVE: Schema = {
    "type": "object",
    "required": ["gateway", "api", "revision", "deployment", "since", "nodes"],
    "properties": {
        "gateway": {"type": "string"},
        "api": {"type": "string"},
        "revision": {"type": "integer"},
        "deployment": {"type": "string", "description": "The deployment that put it there."},
        "since": {"type": "string", "format": "date-time", "description": "When the first node had it."},
        "nodes": {
            "type": ["object", "null"],
            "description": "How many nodes are connected, and how many of these have it. Null with `as_of`: "
            "of nodes only the present is kept.",
            "required": ["connected", "acknowledged"],
            "properties": {"connected": _COUNT, "acknowledged": _COUNT},
        },
    },
}
_EXAMPLE: dict[str, Any] = {
    "gateway": "local",
    "api": "orders",
    "revision": 4,
    "deployment": "019aa3b6-5b20-7cc0-8e4b-6f0a4c8f3d22",
    "since": "2026-11-21T02:30:00.012000Z",
    "nodes": {"connected": 1, "acknowledged": 1},
}
LIST: Schema = {
    "type": "object",
    "required": ["items", "next_cursor"],
    "properties": {
        "items": {"type": "array", "items": LIVE, "description": "By gateway and API."},
        "next_cursor": {"type": ["string", "null"]},
    },
    "examples": [{"items": [_EXAMPLE], "next_cursor": None}],
}


async def get(call: Call) -> ASGIApp:
    organization, partition = call.organization, call.partition
    """Raises Problem 404 for a gateway or an API that is asked for and does not exist (then)."""
    limit = parse_whole_number(call.query("limit"), "limit", LIMIT, 1, MOST)
    gateway, _, api = read_cursor(parse_cursor(call, ""), "").partition("/")
    await wait_for_min_position(call, partition)
    as_of = await resolve_as_of(call, [partition])
    if as_of is not None:
        await _wait_for_reports(call, partition)
    models = call.services.read_models
    position = await models.position("resources", partition)
    asked = ((GATEWAY_KIND, call.query(GATEWAY.name)), (API_KIND, call.query(API.name)))
    found = await models.live(
        organization,
        gateways=_only(asked[0][1]),
        apis=_only(asked[1][1]),
        as_of=as_of,
        after=(gateway, api),
        limit=limit + 1,
    )
    if not found:
        # What is removed may be live until the nodes withdrew it, so this is asked only when nothing is.
        for kind, name in asked:
            if name is not None and await models.get(kind, organization, name, as_of) is None:
                raise not_found(f"{kind.name} {name[:100]!r}")
    items = found[:limit]
    more = cursor_after(f"{items[-1]['gateway']}/{items[-1]['api']}") if len(found) > limit else None
    headers = {POSITION: f"{partition}:{position}", **next_link(call, more)}
    return json_response(200, {"items": items, "next_cursor": more}, headers, JSON)


async def _wait_for_reports(call: Call, partition: int) -> None:
    """Waits, bounded, until what was reported by now is known: a moment that has passed gets no news later.

    Raises Problem 503."""
    end = await call.services.log.end("status", partition)
    if not await wait_for_read_model(
        call, partition, end, call.services.settings.position_seconds, READ_MODEL
    ):
        raise Problem(
            503,
            "position-not-reached",
            "The read model has not seen all that gateways reported yet.",
            headers={"Retry-After": "1"},
        )


def _only(name: str | None) -> list[str] | None:
    return None if name is None else [name]
