"""The status of many deployments in one request, which can wait until none is pending."""

import asyncio
from time import monotonic
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.call import Call
from api.dependencies import ORGANIZATION, OrganizationContext
from api.openapi.json_schemas import examples
from api.responses import json_response
from api.routing.route import ApiRoute, problems

router = APIRouter(prefix=ORGANIZATION, tags=["deployments"], route_class=ApiRoute)

MOST = 1000
READ_MODEL = "deliveries"
OPEN = ("pending", "offline", "stopping")
"""States that end when a node answers."""
FEW = 20
GATHER_SECONDS = 0.1
"""More names than `FEW` change one after the other, and all are read after a change: not more often."""
REST = 10
LONGEST_GATHER = 1.0
"""Reading slows down what is waited for: so many times as long as it takes is left to others, up to this many
seconds."""


class StatusQuery(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"names": ["019aa3b6-5b1f-7cc0-8e4b-6f0a4c8f3d21"], "wait": 10}]},
    )

    names: tuple[str, ...] = Field(min_length=1, max_length=MOST)
    wait: float = Field(
        default=0,
        ge=0,
        le=60,
        description="Seconds to wait at most until none of them is pending, offline or stopping.",
    )


class StatusByName(BaseModel):
    """The progress of each deployment by name. Unknown names are left out."""

    model_config = examples({}, extra="allow")


@router.post(
    "/deployments/facts",
    operation_id="deployment_facts",
    summary="The progress of many deployments",
    description="Waits, when asked to, until none of them is pending, offline or stopping.",
    response_model=StatusByName,
    response_description="By name.",
    responses=problems(422, 503),
)
async def deployment_facts(call: OrganizationContext, query: StatusQuery) -> Response:
    return json_response(200, await _settled(call, query))


async def _settled(call: Call, query: StatusQuery) -> dict[str, Any]:
    """The facts, once none is open or the time is up."""
    runner = call.services.read_model_runner
    facts: dict[str, Any] = {}
    began = monotonic()
    position, waiting = await _update(call, list(query.names), facts)
    took = monotonic() - began
    try:
        async with asyncio.timeout(query.wait):
            while waiting and query.wait:
                await runner.wait_for(READ_MODEL, call.partition, position + 1)
                if len(waiting) > FEW:
                    await asyncio.sleep(min(max(GATHER_SECONDS, REST * took), LONGEST_GATHER))
                began = monotonic()
                position, waiting = await _update(call, waiting, facts)
                took = monotonic() - began
    except TimeoutError:
        pass
    return facts


async def _update(call: Call, names: list[str], facts: dict[str, Any]) -> tuple[int, list[str]]:
    """Updates `facts`; returns the position before the read, and the names of those that are open."""
    position = await call.services.read_models.position(READ_MODEL, call.partition)
    facts |= await call.services.read_models.facts_of(call.organization, names)
    return position, [n for n in names if n not in facts or facts[n]["state"] in OPEN]
