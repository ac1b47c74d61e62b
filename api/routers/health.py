"""Liveness, readiness, metrics, the OpenAPI and AsyncAPI documents, and the page at `/`."""

import asyncio

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from api.dependencies import AllOrganizationsContext, Context
from api.openapi.json_schemas import examples
from api.problems import not_ready
from api.responses import RawResponse, json_response, metrics_response
from api.routing.route import ApiRoute, problems

router = APIRouter(tags=["process"], route_class=ApiRoute)

HTML = "text/html; charset=utf-8"

_ROOT = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Signalbox</title>
<h1>Signalbox</h1>
<p>The control plane is running. Its interface is described in <a href="/openapi.json">/openapi.json</a>,
its topics in <a href="/asyncapi.json">/asyncapi.json</a>; <a href="/healthz/ready">/healthz/ready</a> shows
whether it is ready.</p>
</html>
"""


class Status(BaseModel):
    model_config = examples({"status": "ready"})

    status: str


class Description(BaseModel):
    model_config = examples({}, extra="allow")


@router.get(
    "/healthz/live",
    operation_id="live",
    summary="Whether the process is alive",
    description="For the liveness probe of an orchestrator. Needs no token.",
    response_model=Status,
    response_description="It is alive.",
)
async def live() -> Response:
    return json_response(200, {"status": "live"})


@router.get(
    "/healthz/ready",
    operation_id="ready",
    summary="Whether the process is ready",
    description="For the readiness probe of an orchestrator; 503 has the reason. Needs no token.",
    response_model=Status,
    response_description="It is ready.",
    responses=problems(503),
)
async def ready(call: Context) -> Response:
    reason = call.services.ready()
    if reason is not None:
        raise not_ready(reason)
    return json_response(200, {"status": "ready"})


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Metrics for Prometheus",
    description="Of all organizations together: for callers who may see all of them.",
    response_class=RawResponse,
    response_description="In the text format.",
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": "signalbox_up 1\n"}}},
        **problems(403),
    },
)
async def metrics(call: AllOrganizationsContext) -> Response:
    return metrics_response(call.services.metrics())


@router.get(
    "/",
    operation_id="root",
    summary="Links to the other descriptions",
    description="The descriptions of the HTTP API and of the topics, for a browser.",
    response_class=RawResponse,
    response_description="A page.",
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}, "example": "<!doctype html>"}}}},
)
async def root() -> Response:
    return RawResponse(200, _ROOT, {"Content-Security-Policy": "default-src 'none'"}, HTML)


@router.get(
    "/openapi.json",
    operation_id="openapi",
    summary="This document",
    description="OpenAPI 3.1, generated from the path operations.",
    response_model=Description,
    response_description="The document.",
)
async def openapi(call: Context) -> Response:
    return RawResponse(200, await asyncio.to_thread(call.request.app.state.openapi))


asyncapi_router = APIRouter(tags=["process"], route_class=ApiRoute)


@asyncapi_router.get(
    "/asyncapi.json",
    operation_id="asyncapi",
    summary="All topics, as AsyncAPI 3",
    description="The messages on the topics of Kafka, and their schemas.",
    response_model=Description,
    response_description="The document.",
)
async def asyncapi(call: Context) -> Response:
    return RawResponse(200, await asyncio.to_thread(call.request.app.state.asyncapi))
