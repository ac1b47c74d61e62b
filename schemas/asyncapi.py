"""The AsyncAPI 3.0 document of the topics, generated from the catalog.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

from schemas.catalog import BY_NAME, MESSAGES
from schemas.envelope import ATTRIBUTES
from schemas.examples import example
from schemas.message import Command, Event, Message
from schemas.outcome import Outcome
from schemas.status import Status

_REQUIRED = ("id", "source", "type", "specversion", "subject", "time", "partitionkey")

_TOPICS: Mapping[str, tuple[type[Message], str, str]] = {
    "commands": (Command, "receive", "What somebody wants to change."),
    "events": (Event, "send", "The register: what happened, in order, for ever."),
    "outcomes": (Outcome, "send", "What became of each command."),
    "status": (Status, "send", "What gateways report."),
}
"""Topic: the family of its messages, what Signalbox does with them, and what it is."""


def document(prefix: str = "signalbox") -> dict[str, Any]:
    """The document as JSON-ready data; topics are named `<prefix>.<topic>`."""
    models = list(MESSAGES.values())
    references, shared = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    members = {
        topic: [model for model in models if issubclass(model, family)]
        for topic, (family, _, _) in _TOPICS.items()
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Signalbox",
            "version": "1",
            "description": "Commands, events, outcomes and status as CloudEvents 1.0, Kafka binding, "
            "binary mode. The key is the organization; order holds within an organization.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic: _channel(prefix, topic, found) for topic, found in members.items()},
        "operations": {
            f"{action}-{topic}": {
                "action": action,
                "channel": {"$ref": f"#/channels/{topic}"},
                "summary": summary,
            }
            for topic, (_, action, summary) in _TOPICS.items()
        },
        "components": {
            "messages": {m.type(): _message(m, references[m, "validation"]) for m in models},
            "schemas": {**shared["$defs"], "CloudEvent": _attributes()},
        },
    }


def _channel(prefix: str, topic: str, models: list[type[Message]]) -> dict[str, Any]:
    return {
        "address": f"{prefix}.{topic}",
        "description": _TOPICS[topic][2],
        "messages": {m.type(): {"$ref": f"#/components/messages/{m.type()}"} for m in models},
        "bindings": {"kafka": {"topic": f"{prefix}.{topic}", "bindingVersion": "0.5.0"}},
    }


def _message(model: type[Message], payload: Mapping[str, Any]) -> dict[str, Any]:
    type_ = model.type()
    said: dict[str, Any] = {
        "name": type_,
        "title": model.__name__,
        "contentType": "application/json",
        "headers": {
            "allOf": [
                {"$ref": "#/components/schemas/CloudEvent"},
                {"type": "object", "properties": {"ce_type": {"const": type_}}},
            ]
        },
        "payload": dict(payload),
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "The organization."},
                "bindingVersion": "0.5.0",
            }
        },
        "examples": [{"name": model.__name__, "payload": example(model).data()}],
    }
    own_words = vars(model).get("__doc__")
    if own_words:
        said["summary"] = own_words.strip().split("\n\n")[0]
    if model.aggregate in BY_NAME:
        said["tags"] = [{"name": model.aggregate}]
    return said


def _attributes() -> dict[str, Any]:
    names = ("specversion", *ATTRIBUTES)
    return {
        "type": "object",
        "description": "The context attributes as Kafka headers.",
        "required": [f"ce_{name}" for name in _REQUIRED],
        "properties": {f"ce_{name}": {"type": "string"} for name in names},
    }
