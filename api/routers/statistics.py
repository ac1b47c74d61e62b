"""What happened per minute: changes, and how long each stage took."""

from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp

from api.endpoint import Call, Parameter, Schema
from api.preconditions import parse_whole_number
from api.problems import not_found
from api.responses import json_response
from projections.derived.statistics import last_minutes, statistics_in

MINUTES = Parameter(
    name="minutes",
    location="query",
    description="How many minutes back.",
    schema={"type": "integer", "minimum": 1, "maximum": 1440, "default": 60},
)
_SECONDS: Schema = {"type": "number", "minimum": 0}
_LAG: Schema = {
    "type": "object",
    "required": ["count", "mean", "p50", "p99"],
    "properties": {"count": {"type": "integer"}, "mean": _SECONDS, "p50": _SECONDS, "p99": _SECONDS},
}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_EXAMPLE: dict[str, Any] = {
    "minute": "2026-11-21T02:30:00Z",
    "accepted": 12,
    "rejected": 1,
    "events": 14,
    "lags": {"decided": {"count": 13, "mean": 0.004, "p50": 0.0036, "p99": 0.0086}},
}
ANSWER: Schema = {
    "type": "object",
    "required": ["items"],
    "properties": {
        "items": {
            "type": "array",
            "description": "Minutes (UTC) in which something happened, oldest first.",
            "items": {
                "type": "object",
                "required": ["minute", "accepted", "rejected", "events", "lags"],
                "properties": {
                    "minute": {"type": "string", "format": "date-time"},
                    "accepted": {**_COUNT, "description": "Commands that were accepted."},
                    "rejected": {**_COUNT, "description": "Commands that were rejected."},
                    "events": {**_COUNT, "description": "What the accepted ones caused."},
                    "lags": {
                        "type": "object",
                        "description": "Seconds each stage took, in the minute in which it ended: `decided` "
                        "since the request; of deployments `published`, `acknowledged` and `serving`, each "
                        "since the one before, and `total`. Percentiles are at most a fifth too high.",
                        "additionalProperties": _LAG,
                    },
                },
            },
        }
    },
    "examples": [{"items": [_EXAMPLE]}],
}


async def get(call: Call) -> ASGIApp:
    first, last = last_minutes(
        parse_whole_number(call.query("minutes"), "minutes", 60, 1, 1440), datetime.now(UTC)
    )
    organization = call.organization
    items = await call.services.read_models.ask(lambda s: statistics_in(s, organization, first, last))
    if items is None:
        raise not_found("statistics here: they are kept where Signalbox runs on Kafka")
    return json_response(200, {"items": items})
