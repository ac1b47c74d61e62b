"""All path operations: those of the aggregates in the catalog, and the few others."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from starlette.routing import BaseRoute

from api.call import Schema
from api.openapi.json_schemas import component_schemas
from api.resources import apis, deployments, gateways
from api.resources.factory import ResourceRouter
from api.resources.presenter import DEFAULT_PRESENTER, Presenter
from api.routers import (
    bulk_apply,
    commands,
    dead_letters,
    deployment_status,
    documents,
    event_stream,
    health,
    live,
    operations,
    published_schemas,
    rebuild,
    statistics,
)
from schemas.catalog import AGGREGATES

PRESENTERS: Mapping[str, Presenter] = MappingProxyType(
    {"api": apis.PRESENTER, "gateway": gateways.PRESENTER, "deployment": deployments.PRESENTER}
)
"""Presenters by aggregate. The resources of an aggregate without one have the fields of its view only."""

ROUTERS = (
    commands.router,
    bulk_apply.router,
    operations.router,
    event_stream.router,
    documents.router,
    deployment_status.router,
    live.router,
    statistics.router,
    rebuild.router,
    dead_letters.router,
    published_schemas.router,
    health.router,
)


def api_routes() -> tuple[Sequence[BaseRoute], dict[str, Schema]]:
    """Every route, and the schemas that the generated ones refer to."""
    schemas = component_schemas()
    resources = [
        ResourceRouter(aggregate, PRESENTERS.get(aggregate.name, DEFAULT_PRESENTER), schemas).router
        for aggregate in AGGREGATES
    ]
    return [route for router in (*resources, *ROUTERS) for route in router.routes], schemas
