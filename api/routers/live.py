"""The live revision of each API on each gateway, also when another one was requested since."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.as_of import not_reached
from api.call import Call
from api.dependencies import (
    DEFAULT_LIMIT,
    ORGANIZATION,
    Cursor,
    Limit,
    Moment,
    OptionalText,
    OrganizationContext,
)
from api.openapi.json_schemas import Count, Timestamp, examples
from api.problems import not_found
from api.resources.queries import next_link, require_organization
from api.responses import POSITION, json_response
from api.routing.route import ApiRoute, problems, response_headers
from api.submission import wait_for_read_model
from projections.pages import cursor_after, read_cursor
from schemas.aggregates.api import API
from schemas.aggregates.gateway import GATEWAY

router = APIRouter(prefix=ORGANIZATION, tags=["deployments"], route_class=ApiRoute)

READ_MODEL = "deliveries"


class LiveNodes(BaseModel):
    """The number of connected nodes, and of those that run it."""

    connected: Count
    acknowledged: Count


class LiveRevision(BaseModel):
    gateway: str
    api: str
    revision: int
    deployment: str = Field(description="The deployment of this revision.")
    since: Timestamp = Field(description="When the first node acknowledged it.")
    nodes: LiveNodes | None = Field(description="Null with `as_of`: only current nodes are stored.")


class LiveList(BaseModel):
    model_config = examples(
        {
            "items": [
                {
                    "gateway": "local",
                    "api": "orders",
                    "revision": 4,
                    "deployment": "019aa3b6-5b20-7cc0-8e4b-6f0a4c8f3d22",
                    "since": "2026-11-21T02:30:00.012000Z",
                    "nodes": {"connected": 1, "acknowledged": 1},
                }
            ],
            "next_cursor": "ImxvY2FsL29yZGVycyI",
        }
    )

    items: list[LiveRevision] = Field(description="By gateway and API.")
    next_cursor: str | None


@router.get(
    "/live",
    operation_id="list_live",
    summary="The live revision of each API on each gateway",
    description="The revision that a gateway's nodes acknowledged last and did not withdraw since, "
    "even if another was requested later: a rejected deployment does not change the live revision. After a "
    "deployment was stopped it is listed until the nodes acknowledged the removal, for which `POST "
    "…/deployments/facts` can wait.",
    response_model=LiveList,
    response_description="A page.",
    responses={200: {"headers": response_headers(POSITION, "Link")}, **problems(404, 503)},
)
async def list_live(
    call: OrganizationContext,
    as_of: Moment,
    cursor: Cursor,
    limit: Limit = DEFAULT_LIMIT,
    gateway: Annotated[OptionalText, Query(description="Only on this gateway.")] = None,
    api: Annotated[OptionalText, Query(description="Only of this API.")] = None,
) -> Response:
    organization, partition = call.organization, call.partition
    if as_of is not None:
        await _wait_for_reports(call, partition)
    models = call.services.read_models
    position = await models.position("resources", partition)
    after_gateway, _, after_api = read_cursor(cursor, "").partition("/")
    found = await models.live(
        organization,
        gateways=_only(gateway),
        apis=_only(api),
        as_of=as_of,
        after=(after_gateway, after_api),
        limit=limit + 1,
    )
    if not found:
        # A removed resource is live until the nodes withdraw it, so this is checked only without a result.
        for kind, name in ((GATEWAY, gateway), (API, api)):
            if name is not None and await models.get(kind, organization, name, as_of) is None:
                raise not_found(f"{kind.name} {name[:100]!r}")
        await require_organization(call)
    items = found[:limit]
    more = cursor_after(f"{items[-1]['gateway']}/{items[-1]['api']}") if len(found) > limit else None
    headers = {POSITION: f"{partition}:{position}", **next_link(call, more)}
    return json_response(200, {"items": items, "next_cursor": more}, headers)


async def _wait_for_reports(call: Call, partition: int) -> None:
    """Waits, bounded, until the read model has all reports so far: later ones do not change a past moment.

    Raises Problem 503."""
    end = await call.services.log.end("status", partition)
    if not await wait_for_read_model(
        call, partition, end, call.services.settings.position_seconds, READ_MODEL
    ):
        raise not_reached("The read model has not processed all reports of gateways yet.")


def _only(name: str | None) -> list[str] | None:
    return None if name is None else [name]
