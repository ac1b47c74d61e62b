"""The AsyncAPI 3.0 document of the topics, generated from the catalog.

A message's payload is described by a JSON schema, which is more precise than Avro; the published Avro
schemas of the message are beside it.
https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

from pydantic.json_schema import models_json_schema

from schemas.catalog import BY_NAME, MESSAGES
from schemas.codecs.avro import SchemaRegistry, dataschema, published
from schemas.codecs.cloudevents_kafka import AVRO, CONTENT_TYPE, JSON, PREFIX
from schemas.codecs.examples import example
from schemas.envelope import ATTRIBUTES
from schemas.message import Command, Event, Message
from schemas.outcome import Outcome
from schemas.parked import Parked
from schemas.status import Status

BINDING = "0.5.0"
AVRO_FORMAT = "application/vnd.apache.avro+json;version=1.9.0"
CONFIG_ENTRY = "config.entry"

_FOREVER = {"cleanup.policy": ["delete"], "retention.ms": -1}
_CE = "#/components/schemas/CloudEvent"
_ID = "019aa3b6-5b1f-7cc0-8e4b-6f0a4c8f3d21"
_TIME = "2026-11-21T02:30:00.000000Z"


@dataclass(frozen=True, slots=True)
class Topic:
    """`action`: whether Signalbox sends or receives; `required`: the attributes that each of its messages
    has."""

    summary: str
    action: str
    family: type[Message] | None = None
    required: tuple[str, ...] = ("id", "source", "type", "subject", "time", "partitionkey")
    extensions: Mapping[str, str] = field(default_factory=dict[str, str])
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    key: str = "The organization."
    groups: tuple[str, ...] = ()


TOPICS: Mapping[str, Topic] = {
    "commands": Topic(
        "Requests to change resources. The outcome of each is on `outcomes`, with the command's id as "
        "`ce_causationid`.",
        "receive",
        Command,
        required=("id", "source", "type"),
        extensions={
            "authorization": "A signed token that authorizes the command, and a proof that binds it "
            "to this command: JWT~PROOF. It is not stored in events."
        },
        key="The organization. Required, unless `ce_partitionkey` is set.",
        groups=("decider",),
    ),
    "events": Topic(
        "The event log: all events in order, kept for ever. Read it with `isolation.level=read_committed`.",
        "send",
        Event,
        required=("id", "source", "type", "subject", "time", "partitionkey", "sequence", "previoushash"),
        settings=_FOREVER,
    ),
    "outcomes": Topic(
        "The outcome of each command.",
        "send",
        Outcome,
        extensions={
            "outcome": "`accepted` or `rejected`: as in the data, for consumers without Avro.",
            "outcomerule": "The rule that rejected it.",
            "outcomemessage": "Why it was rejected, up to 1,000 characters.",
        },
        settings=_FOREVER,
    ),
    "status": Topic("Status messages of gateways.", "send", Status, settings=_FOREVER),
    "parked": Topic(
        "Dead letters with their reasons, and the decisions of operators about them.",
        "send",
        Parked,
        required=("id", "source", "type", "subject", "time"),
        settings=_FOREVER,
        key="The organization, where it could be read.",
    ),
    "config": Topic(
        "Config resources of gateways: the newest of each, ready to serve. For xDS servers and agents; the "
        "bodies are in the gateway's own format.",
        "send",
        settings={"cleanup.policy": ["compact"]},
        key="The gateway's subject, the resource's type and its name, with a line feed between. The "
        "partition is that of the gateway's organization.",
    ),
}


@cache
def document(prefix: str = "signalbox") -> dict[str, Any]:
    """The document as JSON-ready data; topics are named `<prefix>.<topic>`."""
    models, registry = list(MESSAGES.values()), published()
    references, shared = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    messages: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in TOPICS}
    for model in models:
        name = next(n for n, t in TOPICS.items() if t.family is not None and issubclass(model, t.family))
        payload = references[model, "validation"]
        messages[name][model.type()] = _message(model, payload, name, registry.get(model.type(), {}))
    messages["config"][CONFIG_ENTRY] = _entry()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Signalbox",
            "version": "1",
            "description": "Commands, events, outcomes and status as CloudEvents 1.0, Kafka binding, binary "
            "mode: an attribute is a header, the data is the value. The key is the organization; order holds "
            "within an organization. All topics have the same number of partitions.",
            "license": {"name": "Apache-2.0"},
            "contact": {"name": "The operator of this Signalbox"},
            "tags": [{"name": name, "description": aggregate.summary} for name, aggregate in BY_NAME.items()],
        },
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "description": "The Kafka of this Signalbox. The embedded engine has none.",
                "variables": {"bootstrap": {"description": "HOST:PORT of its brokers."}},
            }
        },
        "defaultContentType": JSON,
        "channels": {name: _channel(prefix, name, tuple(found)) for name, found in messages.items()},
        "operations": {f"{t.action}-{name}": _operation(prefix, name) for name, t in TOPICS.items()},
        "components": {
            "messages": {type_: result for found in messages.values() for type_, result in found.items()},
            "schemas": {**shared["$defs"], "CloudEvent": _attributes(), **_avro(registry)},
        },
    }


def _channel(prefix: str, name: str, types: tuple[str, ...]) -> dict[str, Any]:
    kafka: dict[str, Any] = {"topic": f"{prefix}.{name}", "bindingVersion": BINDING}
    if TOPICS[name].settings:
        kafka["topicConfiguration"] = dict(TOPICS[name].settings)
    return {
        "address": f"{prefix}.{name}",
        "description": TOPICS[name].summary,
        "messages": {type_: {"$ref": f"#/components/messages/{type_}"} for type_ in types},
        "bindings": {"kafka": kafka},
    }


def _operation(prefix: str, name: str) -> dict[str, Any]:
    topic = TOPICS[name]
    result: dict[str, Any] = {
        "action": topic.action,
        "channel": {"$ref": f"#/channels/{name}"},
        "description": topic.summary,
    }
    if topic.groups:
        groups = [f"{prefix}-{group}" for group in topic.groups]
        result["bindings"] = {
            "kafka": {"groupId": {"type": "string", "enum": groups}, "bindingVersion": BINDING}
        }
    if name == "commands":
        result["reply"] = {
            "channel": {"$ref": "#/channels/outcomes"},
            "messages": [{"$ref": f"#/channels/outcomes/messages/{Outcome.type()}"}],
        }
    return result


def _message(
    model: type[Message], payload: Mapping[str, Any], name: str, versions: Iterable[int]
) -> dict[str, Any]:
    type_, schema = model.type(), dataschema(model)
    # Signalbox writes Avro; services may send commands as JSON.
    written_in = JSON if issubclass(model, Command) or not schema else AVRO
    result: dict[str, Any] = {
        "name": type_,
        "title": model.__name__,
        "contentType": written_in,
        "headers": _headers(TOPICS[name], type_, schema),
        "payload": dict(payload),
        "bindings": _key(TOPICS[name].key),
        "examples": [
            {
                "name": model.__name__,
                "summary": "With the data as JSON.",
                "headers": _example_headers(model, TOPICS[name].required, schema),
                "payload": example(model).data(),
            }
        ],
    }
    if schema:
        result["x-avro"] = [
            {"$ref": f"#/components/schemas/{type_}.{number}"} for number in published()[type_]
        ]
    if issubclass(model, Outcome):
        result["correlationId"] = {
            "description": "The command's id.",
            "location": f"$message.header#/{PREFIX}causationid",
        }
    own_words = vars(model).get("__doc__")
    if own_words:
        result["summary"] = own_words.strip().split("\n\n")[0]
    if model.aggregate in BY_NAME:
        result["tags"] = [{"name": model.aggregate}]
    return result


def _entry() -> dict[str, Any]:
    about = (
        "A JSON array: 1 on the last entry of a put, kind of gateway, version (hash of the body), position "
    )
    about += "of the event that caused it, resources it requires, deployments it carries out."
    return {
        "name": CONFIG_ENTRY,
        "title": "ConfigEntry",
        "summary": "One resource of one gateway; a tombstone removes it.",
        "contentType": "application/octet-stream",
        "headers": {
            "type": "object",
            "required": ["entry"],
            "properties": {"entry": {"type": "string", "description": about}},
        },
        "payload": {
            "type": "string",
            "contentEncoding": "base64",
            "description": "The resource in the gateway's own format (for Envoy a protobuf message).",
        },
        "bindings": _key(TOPICS["config"].key),
        "examples": [
            {
                "name": "ConfigEntry",
                "summary": "The body in base64.",
                "headers": {"entry": '[1,"envoy","0123456789abcdef",17,[],[]]'},
                "payload": b64encode(b"resource").decode(),
            }
        ],
    }


def _key(description: str) -> dict[str, Any]:
    return {
        "kafka": {"key": {"type": "string", "description": description}, "bindingVersion": BINDING},
    }


def _headers(topic: Topic, type_: str, schema: str) -> dict[str, Any]:
    own: dict[str, Any] = {PREFIX + "type": {"const": type_}}
    if schema:
        own[PREFIX + "dataschema"] = {"type": "string", "examples": [schema]}
    for name, about in topic.extensions.items():
        own[PREFIX + name] = {"type": "string", "description": about}
    required = [PREFIX + "specversion", *(PREFIX + name for name in topic.required)]
    return {"type": "object", "allOf": [{"$ref": _CE}], "required": required, "properties": own}


def _example_headers(model: type[Message], required: tuple[str, ...], schema: str) -> dict[str, str]:
    data = example(model).data()
    about = BY_NAME.get(model.aggregate)
    subject = data.get("subject") or (about.subject("acme", data.get("name", _ID)) if about else "")
    known = {
        "id": _ID,
        "type": model.type(),
        "source": "/teams/shop" if issubclass(model, Command) else "/signalbox",
        "subject": subject or f"organizations/acme/gateways/{data['name']}",
        "time": _TIME,
        "partitionkey": "acme",
        "sequence": f"{1:020d}",
        "previoushash": "0" * 64,
    }
    headers = {PREFIX + "specversion": "1.0", **{PREFIX + name: known[name] for name in required}}
    if issubclass(model, Outcome):
        headers[PREFIX + "causationid"] = data["name"]
    if schema:
        headers[PREFIX + "dataschema"] = schema
    return {**headers, CONTENT_TYPE: JSON}


def _attributes() -> dict[str, Any]:
    properties: dict[str, Any] = {PREFIX + name: {"type": "string"} for name in ("specversion", *ATTRIBUTES)}
    properties[CONTENT_TYPE] = {
        "type": "string",
        "description": f"`{AVRO}` when the value is Avro, written with the schema that `{PREFIX}dataschema` "
        f"names; `{JSON}` (also when left out) for JSON.",
        "examples": [AVRO, JSON],
    }
    return {
        "type": "object",
        "description": "The context attributes as Kafka headers: UTF-8, nothing is percent-encoded.",
        "required": [PREFIX + name for name in ("specversion", "id", "source", "type")],
        "properties": properties,
    }


def _avro(registry: SchemaRegistry) -> dict[str, Any]:
    """All published schemas of the catalog's messages, by type and version."""
    return {
        f"{type_}.{number}": {"schemaFormat": AVRO_FORMAT, "schema": _named(schema)}
        for type_, versions in registry.items()
        if type_ in MESSAGES
        for number, schema in versions.items()
    }


def _named(schema: Any) -> Any:
    """The same Avro schema with name and namespace of records in separate fields, as AsyncAPI's schema of
    Avro requires."""
    if isinstance(schema, list):
        return [_named(branch) for branch in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    result = {key: _named(inner) for key, inner in cast("dict[str, Any]", schema).items() if key != "default"}
    if "default" in schema:
        result["default"] = schema["default"]
    if result.get("type") == "record":
        result["namespace"], _, result["name"] = result["name"].rpartition(".")
    return result
