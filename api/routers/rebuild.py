"""Rebuilds read models beside the live ones, and replaces those."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field
from starlette.responses import Response

from api.dependencies import PREFIX, AllOrganizationsContext
from api.openapi.json_schemas import examples
from api.problems import not_found
from api.responses import json_response
from api.routing.route import ApiRoute, problems
from streams.projection import UnknownReadModel

router = APIRouter(prefix=PREFIX, tags=["process"], route_class=ApiRoute)

ReadModelName = Annotated[
    str, Path(description="The read model.", json_schema_extra={"examples": ["resources"]})
]


class RebuiltReadModel(BaseModel):
    model_config = examples({"read_model": "resources", "positions": {"0": 42}})

    read_model: str
    positions: dict[str, int] = Field(description="Its position, by partition.")


@router.post(
    "/readmodels/{name}/rebuild",
    operation_id="rebuild_read_model",
    summary="Rebuild a read model from the log, beside the live one",
    description="Responds when the new tables have replaced the old ones.",
    response_model=RebuiltReadModel,
    response_description="Rebuilt.",
    responses=problems(403, 404, 408, 413, 503),
)
async def rebuild_read_model(call: AllOrganizationsContext, name: ReadModelName) -> Response:
    runner = call.services.read_model_runner
    try:
        await runner.rebuild(name)
    except UnknownReadModel as error:
        names = ", ".join(sorted(runner.positions()))
        raise not_found(f"read model {name[:100]!r}; there are {names}") from error
    positions = runner.positions().get(name, {})
    return json_response(200, {"read_model": name, "positions": {str(p): at for p, at in positions.items()}})
