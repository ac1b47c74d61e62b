"""Statistics per minute: changes, and the duration of each stage."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.dependencies import ORGANIZATION, OrganizationContext, whole_number
from api.openapi.json_schemas import Count, Timestamp, examples
from api.resources.queries import require_organization
from api.responses import json_response
from api.routing.route import ApiRoute, problems
from projections.derived.statistics import last_minutes, statistics_in

router = APIRouter(prefix=ORGANIZATION, tags=["process"], route_class=ApiRoute)

Seconds = Annotated[float, Field(ge=0)]


class Lag(BaseModel):
    count: int
    mean: Seconds
    p50: Seconds
    p99: Seconds


class MinuteStatistics(BaseModel):
    minute: Timestamp
    accepted: Count = Field(description="Commands that were accepted.")
    rejected: Count = Field(description="Commands that were rejected.")
    events: Count = Field(description="The events of the accepted ones.")
    lags: dict[str, Lag] = Field(
        description="Seconds each stage took, in the minute in which it ended: `decided` since the request; "
        "of deployments `published`, `acknowledged` and `serving`, each since the one before, and `total`. "
        "Percentiles are at most a fifth too high."
    )


class StatisticsList(BaseModel):
    model_config = examples(
        {
            "items": [
                {
                    "minute": "2026-11-21T02:30:00Z",
                    "accepted": 12,
                    "rejected": 1,
                    "events": 14,
                    "lags": {"decided": {"count": 13, "mean": 0.004, "p50": 0.0036, "p99": 0.0086}},
                }
            ]
        }
    )

    items: list[MinuteStatistics] = Field(description="Minutes (UTC) with any activity, oldest first.")


@router.get(
    "/statistics",
    operation_id="statistics",
    summary="Statistics per minute",
    description="Commands, events, and the duration of each stage of a change.",
    response_model=StatisticsList,
    response_description="By minute.",
    responses=problems(404),
)
async def get_statistics(
    call: OrganizationContext,
    minutes: Annotated[
        int,
        whole_number("minutes", 1, 1440),
        Query(description="The number of past minutes.", json_schema_extra={"minimum": 1, "maximum": 1440}),
    ] = 60,
) -> Response:
    first, last = last_minutes(minutes, datetime.now(UTC))
    organization = call.organization
    items = await call.services.read_models.ask(lambda s: statistics_in(s, organization, first, last))
    if not items:
        await require_organization(call)
    return json_response(200, {"items": items})
