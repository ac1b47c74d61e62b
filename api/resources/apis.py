"""APIs: published as a definition in any form, which is also stored as it was written."""

from collections.abc import Sequence
from typing import Any

from api.call import Call
from api.definition_reader import YAML, InvalidDefinition, SourceFile, read_one, store_document
from api.openapi.json_schemas import REF
from api.problems import Problem
from api.resources.presenter import Presenter
from api.responses import JSON
from api.submission import CommandDraft
from projections.pages import AsOf
from schemas.aggregates.api import PublishApi
from schemas.message import Command

_EXAMPLE = """\
apiVersion: signalbox.io/v1
kind: API
metadata:
  name: orders
spec:
  context: /orders/v1
  upstreams:
    - name: main
      endpoints:
        - url: http://127.0.0.1:9000
  backends:
    - upstream: main
  operations:
    - method: GET
      path: /orders/{id}
"""


async def _published(call: Call, model: type[Command], name: str | None) -> CommandDraft:
    one = await read_one(SourceFile("", await call.request.body()), name or "")
    if isinstance(one, InvalidDefinition):
        raise Problem(422, "invalid-definition", "The definition is not valid.", errors=one.findings)
    fields: dict[str, Any] = {**one.fields, "name": one.name, "document": await store_document(call, one)}
    return CommandDraft(fields)


async def _live(call: Call, organization: str, items: Sequence[dict[str, Any]], as_of: AsOf) -> None:
    """Adds the live revisions of each API."""
    if not items:
        return
    shown: dict[str, list[dict[str, Any]]] = {item["name"]: [] for item in items}
    for entry in await call.services.read_models.live(organization, apis=list(shown), as_of=as_of):
        shown[entry["api"]].append({k: v for k, v in entry.items() if k != "api"})
    for item in items:
        item["live"] = shown[item["name"]]


async def _live_of(call: Call, organization: str, shown: dict[str, Any], as_of: AsOf) -> None:
    await _live(call, organization, [shown], as_of)


_DEFINITION = {"description": "A definition: signalbox.io/v1, a WSO2 form, or OpenAPI."}
_JSON_TYPES = (JSON, "application/openapi+json", "application/vnd.oai.openapi+json")
_YAML_TYPES = (*sorted(YAML), "application/openapi+yaml")

_LIVE_ON_GATEWAY: dict[str, Any] = {
    "type": "object",
    "description": "As `LiveRevision`, without the API's name.",
    "properties": {
        name: {"$ref": f"{REF}LiveRevision/properties/{name}"}
        for name in ("gateway", "revision", "deployment", "since", "nodes")
    },
    "required": ["gateway", "revision", "deployment", "since", "nodes"],
}

PRESENTER = Presenter(
    filters=("project",),
    extend_item=_live_of,
    extend_list=_live,
    additions={
        "live": {
            "type": "array",
            "description": "The live revision on each gateway, as at `/live`.",
            "items": _LIVE_ON_GATEWAY,
        }
    },
    drafts={PublishApi: _published},
    bodies={
        PublishApi: {
            **{media: ({**_DEFINITION, "type": "string"}, _EXAMPLE) for media in _YAML_TYPES},
            **{media: ({**_DEFINITION, "type": "object"}, {"kind": "API"}) for media in _JSON_TYPES},
        }
    },
)
