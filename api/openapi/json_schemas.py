"""JSON schemas and examples of requests and responses, from the models (JSON Schema 2020-12)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from api.call import Schema
from api.resources.presenter import Presenter
from schemas.aggregate import Aggregate, Part
from schemas.codecs.examples import example
from schemas.message import Command

REF = "#/components/schemas/"

Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0)]
Absent = SkipJsonSchema[None]
"""In a union: the member may be left out."""


def examples(example: Mapping[str, Any], extra: Literal["allow", "ignore"] = "ignore") -> ConfigDict:
    """The configuration of a response model with an example."""
    return ConfigDict(extra=extra, json_schema_extra={"examples": [dict(example)]})


METADATA_EXAMPLE = {
    "version": 3,
    "position": 17,
    "created_at": "2026-11-21T02:30:00.000000Z",
    "changed_at": "2026-11-21T02:31:00.000000Z",
}


class Metadata(BaseModel):
    model_config = examples(METADATA_EXAMPLE)

    version: int = Field(description="The number of events of the resource; its ETag.")
    position: int = Field(description="The last of these events on the event log.")
    created_at: Timestamp
    changed_at: Timestamp


class ProblemError(BaseModel):
    pointer: str | Absent = Field(default=None, description="JSON pointer (RFC 6901).")
    parameter: str | Absent = None
    detail: str
    rule: str | Absent = None
    line: int | Absent = None
    column: int | Absent = None


class Problem(BaseModel):
    """RFC 9457. `type` is stable; its last segment is the rule's name."""

    model_config = examples(
        {
            "type": "https://signalbox.io/problems/not-found",
            "title": "Not found",
            "status": 404,
            "detail": "There is no api 'orders'.",
        },
        "allow",
    )

    type: str = Field(json_schema_extra={"format": "uri"})
    title: str
    status: int
    detail: str
    errors: list[ProblemError] | Absent = None
    current_version: int | Absent = None
    command: str | Absent = Field(default=None, description="The command's id.")


OPERATION_EXAMPLE = {
    "id": "019aa3b6-5b1f-7cc0-8e4b-6f0a4c8f3d21",
    "state": "accepted",
    "organization": "default",
    "command": "io.signalbox.api.command.publish.v1",
    "subject": "organizations/default/apis/orders",
    "href": "/api/v1/organizations/default/apis/orders",
    "requested_at": "2026-11-21T02:30:00.000000Z",
    "decided_at": "2026-11-21T02:30:00.004000Z",
    "position": 17,
    "events": 1,
    "version": 3,
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}


class OperationStatus(BaseModel):
    model_config = examples(OPERATION_EXAMPLE)

    id: str = Field(description="The command's id.")
    state: Literal["pending", "accepted", "rejected"]
    organization: str
    command: str
    subject: str
    href: str = Field(description="The resource it is about.")
    requested_at: Timestamp
    decided_at: Timestamp | Absent = None
    position: int | Absent = None
    events: int | Absent = None
    version: int | Absent = None
    digest: str | Absent = Field(default=None, description="SHA-256 of the command's data.")
    problem: Problem | Absent = None


CLOUDEVENT_EXAMPLE = {
    "specversion": "1.0",
    "id": "019aa3b6-5b1f-7cc0-8e4b-6f0a4c8f3d21",
    "source": "/teams/shop",
    "type": "io.signalbox.project.command.define.v1",
    "data": {"organization": "default", "name": "shop", "display_name": "Shop"},
}


class CloudEvent(BaseModel):
    """CloudEvents 1.0, structured."""

    model_config = examples(CLOUDEVENT_EXAMPLE, "allow")

    specversion: Literal["1.0"]
    id: str = Field(min_length=1)
    source: str = Field(min_length=1)
    type: str = Field(min_length=1)
    subject: str | Absent = None
    time: Timestamp | Absent = None
    data: dict[str, Any]


def model_schema(model: type[BaseModel], found: dict[str, Schema]) -> Schema:
    """The schema of a model, with the models it uses put into `found`."""
    schema = model.model_json_schema(ref_template=REF + "{model}", mode="validation")
    found.update(schema.pop("$defs", {}))
    return schema


def view_schema(aggregate: Aggregate, presenter: Presenter, found: dict[str, Schema]) -> Schema:
    """The schema of one resource in responses."""
    schema = model_schema(aggregate.view, found)
    schema["properties"] = {
        **schema["properties"],
        "metadata": {"$ref": REF + "Metadata"},
        **presenter.additions,
    }
    # Absent fields are left out, so only fields that every resource has are required.
    schema["required"] = ["name", "metadata"]
    schema.pop("additionalProperties", None)
    said = example(aggregate.view).model_dump(mode="json", exclude_none=True)
    added = {k: v["examples"][0] for k, v in presenter.additions.items() if "examples" in v}
    schema["examples"] = [{**said, **added, "metadata": METADATA_EXAMPLE}]
    return schema


def part_schema(part: Part, found: dict[str, Schema]) -> Schema:
    schema = model_schema(part.event, found)
    properties = {k: v for k, v in schema["properties"].items() if k != "organization"}
    schema["properties"] = {**properties, "metadata": {"$ref": REF + "Metadata"}}
    schema["required"] = [part.key, "metadata"]
    schema.pop("additionalProperties", None)
    said = example(part.event).data()
    said.pop("organization")
    schema["examples"] = [{**said, "metadata": METADATA_EXAMPLE}]
    return schema


def body_schema(
    command: type[Command], presenter: Presenter, named: bool, found: dict[str, Schema]
) -> Schema:
    """The schema of a command's body: its fields except those set by the path, a header or the server."""
    schema = model_schema(command, found)
    hidden = {"organization", "expected_version", *presenter.omitted}
    if named:
        hidden.add("name")
    schema["properties"] = {k: v for k, v in schema["properties"].items() if k not in hidden}
    if "name" in schema["properties"]:
        schema["properties"]["name"].pop("default", None)  # left out is not the same as empty
    required = [k for k in schema.get("required", ()) if k not in hidden]
    if required:
        schema["required"] = required
    else:
        schema.pop("required", None)
    schema["examples"] = [{k: v for k, v in example(command).data().items() if k not in hidden}]
    return schema


def component_schemas() -> dict[str, Schema]:
    """The schemas that the generated resources refer to."""
    found: dict[str, Schema] = {}
    for model in (Metadata, Problem, OperationStatus, CloudEvent):
        found[model.__name__] = model_schema(model, found)
    for schema in found.values():
        for described in schema["properties"].values():
            described.pop("default", None)
    return found
