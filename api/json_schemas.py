"""JSON schemas and examples of what travels over HTTP, from the models (JSON Schema 2020-12)."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from api.endpoint import Schema
from api.resources.presenter import Presenter
from schemas.aggregate import Aggregate, Part
from schemas.examples import example
from schemas.message import Command

REF = "#/components/schemas/"

METADATA: Schema = {
    "type": "object",
    "required": ["version", "position", "created_at", "changed_at"],
    "properties": {
        "version": {"type": "integer", "description": "How many events the resource has seen; its ETag."},
        "position": {"type": "integer", "description": "The last of these events on the register."},
        "created_at": {"type": "string", "format": "date-time"},
        "changed_at": {"type": "string", "format": "date-time"},
    },
    "examples": [
        {
            "version": 3,
            "position": 17,
            "created_at": "2026-11-21T02:30:00.000000Z",
            "changed_at": "2026-11-21T02:31:00.000000Z",
        }
    ],
}

PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457. `type` is stable; its last segment is the rule's name.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "JSON pointer (RFC 6901)."},
                    "parameter": {"type": "string"},
                    "detail": {"type": "string"},
                    "rule": {"type": "string"},
                    "line": {"type": "integer"},
                    "column": {"type": "integer"},
                },
            },
        },
        "current_version": {"type": "integer"},
        "command": {"type": "string", "description": "The command's id."},
    },
    "examples": [
        {
            "type": "https://signalbox.io/problems/not-found",
            "title": "Not found",
            "status": 404,
            "detail": "There is no api 'orders'.",
        }
    ],
}

OPERATION: Schema = {
    "type": "object",
    "required": ["id", "state", "organization", "command", "subject", "href", "requested_at"],
    "properties": {
        "id": {"type": "string", "description": "The command's id."},
        "state": {"enum": ["pending", "accepted", "rejected"]},
        "organization": {"type": "string"},
        "command": {"type": "string"},
        "subject": {"type": "string"},
        "href": {"type": "string", "description": "The resource it is about."},
        "requested_at": {"type": "string", "format": "date-time"},
        "decided_at": {"type": "string", "format": "date-time"},
        "position": {"type": "integer"},
        "events": {"type": "integer"},
        "version": {"type": "integer"},
        "problem": {"$ref": REF + "Problem"},
    },
    "examples": [
        {
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
        }
    ],
}

CLOUDEVENT: Schema = {
    "type": "object",
    "description": "CloudEvents 1.0, structured.",
    "required": ["specversion", "id", "source", "type", "data"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1},
        "type": {"type": "string", "minLength": 1},
        "subject": {"type": "string"},
        "time": {"type": "string", "format": "date-time"},
        "data": {"type": "object"},
    },
}


def model_schema(model: type[BaseModel], found: dict[str, Schema]) -> Schema:
    """The schema of a model, with the models it uses put into `found`."""
    schema = model.model_json_schema(ref_template=REF + "{model}", mode="validation")
    found.update(schema.pop("$defs", {}))
    return schema


def view_schema(aggregate: Aggregate, presenter: Presenter, found: dict[str, Schema]) -> Schema:
    """One resource, as GET shows it."""
    schema = model_schema(aggregate.view, found)
    schema["properties"] = {
        **schema["properties"],
        "metadata": {"$ref": REF + "Metadata"},
        **presenter.additions,
    }
    # Absent fields are left out, so only what every resource has is promised.
    schema["required"] = ["name", "metadata"]
    schema.pop("additionalProperties", None)
    said = example(aggregate.view).model_dump(mode="json", exclude_none=True)
    added = {k: v["examples"][0] for k, v in presenter.additions.items() if "examples" in v}
    schema["examples"] = [{**said, **added, "metadata": METADATA["examples"][0]}]
    return schema


def part_schema(part: Part, found: dict[str, Schema]) -> Schema:
    schema = model_schema(part.event, found)
    properties = {k: v for k, v in schema["properties"].items() if k != "organization"}
    schema["properties"] = {**properties, "metadata": {"$ref": REF + "Metadata"}}
    schema["required"] = [part.key, "metadata"]
    schema.pop("additionalProperties", None)
    said = example(part.event).data()
    said.pop("organization")
    schema["examples"] = [{**said, "metadata": METADATA["examples"][0]}]
    return schema


def body_schema(
    command: type[Command], presenter: Presenter, named: bool, found: dict[str, Schema]
) -> Schema:
    """A command as it is sent: without what the path, a header or the server says."""
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


def shown(name: str, found: Mapping[str, Schema]) -> tuple[Schema, Any]:
    """A reference to a component schema, and its example."""
    return {"$ref": REF + name}, found[name]["examples"][0]
