"""Read models filled anew beside the live ones, and swapped in."""

from starlette.types import ASGIApp

from api.endpoint import Call, Schema
from api.problems import Problem, not_found
from api.responses import json_response
from streams.projection import UnknownReadModel

ANSWER: Schema = {
    "type": "object",
    "required": ["read_model", "positions"],
    "properties": {
        "read_model": {"type": "string"},
        "positions": {"type": "object", "description": "How far it is, by partition."},
    },
    "examples": [{"read_model": "resources", "positions": {"0": 42}}],
}


async def post(call: Call) -> ASGIApp:
    """Answers when the new tables have taken the place of the old ones."""
    if call.principal.organizations is not None:
        raise Problem(403, "forbidden", "Rebuilding concerns every organization; this token is for some.")
    name = call.path("name")
    try:
        await call.services.read_model_runner.rebuild(name)
    except UnknownReadModel as error:
        raise not_found(f"read model {name[:100]!r}") from error
    positions = call.services.read_model_runner.positions().get(name, {})
    return json_response(200, {"read_model": name, "positions": {str(p): at for p, at in positions.items()}})
