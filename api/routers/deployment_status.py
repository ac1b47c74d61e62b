"""How far many deployments have come, asked at once, and waited for."""

import asyncio
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import ASGIApp

from api.endpoint import Call, Schema
from api.problems import problem_of_validation
from api.resources.presenter import command_body, json_object
from api.responses import json_response

MOST = 1000
READ_MODEL = "deliveries"
OPEN = ("pending", "offline")
"""States that end when a node answers."""


class StatusQuery(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...] = Field(min_length=1, max_length=MOST)
    wait: float = Field(default=0, ge=0, le=60)


BODY: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["names"],
    "properties": {
        "names": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST},
        "wait": {
            "type": "number",
            "minimum": 0,
            "maximum": 60,
            "description": "Seconds to wait at most until none of them is pending, or offline.",
        },
    },
    "examples": [{"names": ["019aa3b6-5b1f-7cc0-8e4b-6f0a4c8f3d21"], "wait": 10}],
}
ANSWER: Schema = {
    "type": "object",
    "description": "By name: how far it has come. Names that no deployment has are left out.",
    "additionalProperties": {"type": "object"},
    "examples": [{}],
}


async def post(call: Call) -> ASGIApp:
    try:
        asked = StatusQuery.model_validate(json_object(await command_body(call)))
    except ValidationError as error:
        raise problem_of_validation(error) from error
    return json_response(200, await _settled(call, asked))


async def _settled(call: Call, asked: StatusQuery) -> dict[str, Any]:
    """The facts, once none is open or the time is up: at least as they are now."""
    waiter = call.services.read_model_runner
    facts: dict[str, Any] = {}
    position, waiting = await _update(call, list(asked.names), facts)
    try:
        async with asyncio.timeout(asked.wait):
            while waiting and asked.wait:
                await waiter.wait_for(READ_MODEL, call.partition, position + 1)
                position, waiting = await _update(call, waiting, facts)
    except TimeoutError:
        pass
    return facts


async def _update(call: Call, names: list[str], facts: dict[str, Any]) -> tuple[int, list[str]]:
    """Adds to `facts`; answers a position of before, and the names of those that are open."""
    position = await call.services.read_models.position(READ_MODEL, call.partition)
    facts |= await call.services.read_models.facts_of(call.organization, names)
    return position, [n for n in names if n not in facts or facts[n]["state"] in OPEN]
