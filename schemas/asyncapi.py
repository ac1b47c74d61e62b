"""The AsyncAPI 3.0 document of the topics, generated from the catalog.

A message's payload is its data in JSON schema, which says more than Avro can; the Avro schemas it may be
written with are beside it, as they were published.
https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic.json_schema import models_json_schema

from schemas.avro import SchemaRegistry, dataschema, published
from schemas.catalog import BY_NAME, MESSAGES
from schemas.envelope import ATTRIBUTES
from schemas.examples import example
from schemas.kafka import AVRO, CONTENT_TYPE, JSON, PREFIX
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
    """`action` is what Signalbox does with it, `required` the attributes each of its messages has."""

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
        "What somebody wants to change. What became of it is on `outcomes`, with the command's id as "
        "`ce_causationid`.",
        "receive",
        Command,
        required=("id", "source", "type"),
        extensions={
            "authorization": "A signed token that says who may give the command, and a proof that binds it "
            "to this command: JWT~PROOF. It is stored in no event."
        },
        key="The organization. Needed, unless `ce_partitionkey` says it.",
        groups=("decider",),
    ),
    "events": Topic(
        "The register: what happened, in order, for ever. Read it with `isolation.level=read_committed`.",
        "send",
        Event,
        required=("id", "source", "type", "subject", "time", "partitionkey", "sequence", "previoushash"),
        settings=_FOREVER,
    ),
    "outcomes": Topic(
        "What became of each command.",
        "send",
        Outcome,
        extensions={
            "outcome": "`accepted` or `rejected`: what the data says, for who cannot read Avro.",
            "outcomerule": "The rule that rejected it.",
            "outcomemessage": "Why it was rejected, up to 1,000 characters.",
        },
        settings=_FOREVER,
    ),
    "status": Topic("What gateways report.", "send", Status, settings=_FOREVER),
    "parked": Topic(
        "Messages that could not be taken, with the reason, and what people did about parked events.",
        "send",
        Parked,
        required=("id", "source", "type", "subject", "time"),
        settings=_FOREVER,
        key="The organization, where it could be read.",
    ),
    "config": Topic(
        "What gateways run: the newest entry of each resource, ready to serve. For servers of gateways; the "
        "bodies are in the gateway's own language.",
        "send",
        settings={"cleanup.policy": ["compact"]},
        key="The gateway's subject, the resource's type and its name, with a line feed between. The "
        "partition is that of the gateway's organization.",
    ),
}


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
        },
        "defaultContentType": JSON,
        "channels": {name: _channel(prefix, name, tuple(found)) for name, found in messages.items()},
        "operations": {f"{t.action}-{name}": _operation(prefix, name) for name, t in TOPICS.items()},
        "components": {
            "messages": {type_: said for found in messages.values() for type_, said in found.items()},
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
    said: dict[str, Any] = {
        "action": topic.action,
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": topic.summary,
    }
    if topic.groups:
        groups = [f"{prefix}-{group}" for group in topic.groups]
        said["bindings"] = {
            "kafka": {"groupId": {"type": "string", "enum": groups}, "bindingVersion": BINDING}
        }
    if name == "commands":
        said["reply"] = {
            "channel": {"$ref": "#/channels/outcomes"},
            "messages": [{"$ref": f"#/channels/outcomes/messages/{Outcome.type()}"}],
        }
    return said


def _message(
    model: type[Message], payload: Mapping[str, Any], name: str, versions: Iterable[int]
) -> dict[str, Any]:
    type_, schema = model.type(), dataschema(model)
    # What Signalbox writes is Avro; commands come as others like to write them.
    written_in = JSON if issubclass(model, Command) or not schema else AVRO
    said: dict[str, Any] = {
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
        said["x-avro"] = [{"$ref": f"#/components/schemas/{type_}.{number}"} for number in published()[type_]]
    if issubclass(model, Outcome):
        said["correlationId"] = {
            "description": "The command's id.",
            "location": f"$message.header#/{PREFIX}causationid",
        }
    own_words = vars(model).get("__doc__")
    if own_words:
        said["summary"] = own_words.strip().split("\n\n")[0]
    if model.aggregate in BY_NAME:
        said["tags"] = [{"name": model.aggregate}]
    return said


def _entry() -> dict[str, Any]:
    about = (
        "A JSON array: 1 on the last entry of a put, kind of gateway, version (hash of the body), position "
    )
    about += "of the event that caused it, resources it requires, deployments it carries out."
    return {
        "name": CONFIG_ENTRY,
        "title": "ConfigEntry",
        "summary": "One resource of one gateway; without a value it is gone.",
        "contentType": "application/octet-stream",
        "headers": {
            "type": "object",
            "required": ["entry"],
            "properties": {"entry": {"type": "string", "description": about}},
        },
        "payload": {
            "type": "string",
            "contentEncoding": "base64",
            "description": "The resource as the gateway takes it (for Envoy a protobuf message).",
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
    return {"allOf": [{"$ref": _CE}, {"type": "object", "required": required, "properties": own}]}


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
    """Every published schema of what is in the catalog, by type and version."""
    return {
        f"{type_}.{number}": {"schemaFormat": AVRO_FORMAT, "schema": _named(schema)}
        for type_, versions in registry.items()
        if type_ in MESSAGES
        for number, schema in versions.items()
    }


def _named(schema: Any) -> Any:
    """The same Avro schema with every record's name apart from its namespace, as AsyncAPI's own schema of
    Avro wants it."""
    if isinstance(schema, list):
        return [_named(branch) for branch in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    said = {key: _named(inner) for key, inner in cast("dict[str, Any]", schema).items() if key != "default"}
    if "default" in schema:
        said["default"] = schema["default"]
    if said.get("type") == "record":
        said["namespace"], _, said["name"] = said["name"].rpartition(".")
    return said
