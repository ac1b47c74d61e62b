"""APIs: written as a definition in any form, and kept as written beside what was understood."""

from typing import Any

from api.endpoint import JSON, Body, Call
from api.presenter import Presenter
from api.problems import Problem
from api.reading import YAML, Invalid, Text, read_one, stored
from api.submission import Draft
from schemas.api import PublishApi
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


async def _published(call: Call, model: type[Command], name: str | None) -> Draft:
    one = await read_one(Text("", await call.request.body()), name or "")
    if isinstance(one, Invalid):
        raise Problem(422, "invalid-definition", "The definition is not valid.", errors=one.findings)
    fields: dict[str, Any] = {**one.fields, "name": one.name, "document": await stored(call, one)}
    return Draft(fields)


_DEFINITION = {"description": "A definition: signalbox.io/v1, a WSO2 form, or OpenAPI."}
_JSON_TYPES = (JSON, "application/openapi+json", "application/vnd.oai.openapi+json")
_YAML_TYPES = (*sorted(YAML), "application/openapi+yaml")

PRESENTER = Presenter(
    filters=("project",),
    drafts={PublishApi: _published},
    bodies={
        PublishApi: Body(
            content={
                **{media: ({**_DEFINITION, "type": "string"}, _EXAMPLE) for media in _YAML_TYPES},
                **{media: ({**_DEFINITION, "type": "object"}, {"kind": "API"}) for media in _JSON_TYPES},
            }
        )
    },
)
