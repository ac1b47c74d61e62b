"""The AsyncAPI document says what is on the topics, and what it shows can be read."""

from base64 import b64decode
from pathlib import Path
from typing import Any, ClassVar

import fastavro.schema
import jsonschema
import orjson
import pytest
from pydantic import Field

from schemas.catalog import COMMANDS, EVENTS, MESSAGES
from schemas.codecs.asyncapi import AVRO_FORMAT, CONFIG_ENTRY, document
from schemas.codecs.avro import published
from schemas.codecs.examples import example
from schemas.message import Event
from streams.kafka.messages import config_wire
from streams.kafka.messages.wire import decode, encode
from streams.kafka.settings import KafkaSettings
from streams.kafka.topics import specs
from streams.log import Topic

# The official JSON schema of AsyncAPI 3.0.0 (npm package @asyncapi/specs 6.11.1, Apache-2.0).
OFFICIAL = orjson.loads((Path(__file__).parent / "asyncapi-3.0.0.schema.json").read_bytes())
DOCUMENT = document()


def resolve(reference: dict[str, Any]) -> Any:
    found: Any = DOCUMENT
    for part in reference["$ref"].removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


def complaints(candidate: Any) -> list[str]:
    return [e.message for e in jsonschema.Draft7Validator(OFFICIAL).iter_errors(candidate)]


def test_the_document_keeps_the_official_schema() -> None:
    assert complaints(orjson.loads(orjson.dumps(DOCUMENT))) == []


def test_the_official_schema_refuses_a_wrong_document() -> None:
    small = {**DOCUMENT, "components": {}, "channels": {}, "operations": {}}
    assert complaints(small) == []
    assert complaints({**small, "channels": {"events": {"address": 5}}})
    assert complaints({**small, "operations": {"x": {"action": "shout", "channel": {"$ref": "#/a"}}}})


def test_every_message_of_the_catalog_is_on_exactly_one_topic() -> None:
    topics = {topic: list(channel["messages"]) for topic, channel in DOCUMENT["channels"].items()}
    assert set(topics["commands"]) == set(COMMANDS)
    assert set(topics["events"]) == set(EVENTS)
    assert topics["config"] == [CONFIG_ENTRY]
    listed = sorted(type_ for types in topics.values() for type_ in types)
    assert listed == sorted([*MESSAGES, CONFIG_ENTRY])


def test_topics_are_named_with_the_prefix() -> None:
    assert [c["address"] for c in document("acme")["channels"].values()] == [
        "acme.commands", "acme.events", "acme.outcomes", "acme.status", "acme.parked", "acme.config",
    ]  # fmt: skip


def test_topics_are_set_as_the_engine_sets_them() -> None:
    output = {name: channel["bindings"]["kafka"] for name, channel in DOCUMENT["channels"].items()}
    engine = {spec.name: spec.required for spec in specs(KafkaSettings())}
    for name, kafka in output.items():
        shown = kafka.get("topicConfiguration", {"cleanup.policy": ["delete"]})
        assert shown["cleanup.policy"] == [engine[name]["cleanup.policy"]]
        assert str(shown.get("retention.ms")) == engine[name].get("retention.ms", "None")


def test_an_answer_is_found_by_the_id_of_its_command() -> None:
    reply = DOCUMENT["operations"]["receive-commands"]["reply"]
    assert reply["channel"] == {"$ref": "#/channels/outcomes"}
    outcome = resolve(resolve(reply["messages"][0]))
    assert outcome["correlationId"]["location"] == "$message.header#/ce_causationid"
    [shown] = outcome["examples"]
    assert shown["headers"]["ce_causationid"] == shown["payload"]["name"]


@pytest.mark.parametrize("type_", MESSAGES)
def test_every_published_avro_schema_stands_beside_its_message(type_: str) -> None:
    shown = [resolve(reference) for reference in DOCUMENT["components"]["messages"][type_]["x-avro"]]
    canonical = fastavro.schema.to_parsing_canonical_form
    assert [canonical(avro["schema"]) for avro in shown] == [
        canonical(s) for s in published()[type_].values()
    ]
    assert {avro["schemaFormat"] for avro in shown} == {AVRO_FORMAT}


EXAMPLES = [
    pytest.param(name, type_, shown, id=type_)
    for name, channel in DOCUMENT["channels"].items()
    for type_, reference in channel["messages"].items()
    if type_ != CONFIG_ENTRY
    for shown in resolve(reference)["examples"]
]


@pytest.mark.parametrize(("topic", "type_", "shown"), EXAMPLES)
def test_every_example_fits_its_schemas_and_the_code_decodes_it(
    topic: Topic, type_: str, shown: dict[str, Any]
) -> None:
    message = DOCUMENT["components"]["messages"][type_]
    for part in ("headers", "payload"):
        schema = {**message[part], "components": DOCUMENT["components"]}
        assert [e.message for e in jsonschema.Draft202012Validator(schema).iter_errors(shown[part])] == []
    headers = [(name, text.encode()) for name, text in shown["headers"].items()]
    record, _ = decode(topic, 0, 1, orjson.dumps(shown["payload"]), headers)
    assert (record.fault, record.envelope.type, record.envelope.data) == (None, type_, shown["payload"])
    assert MESSAGES[type_].of(record.envelope.data) == example(MESSAGES[type_])
    value, written = encode(record.envelope)
    assert ("content-type", b"application/avro") in written
    assert decode(topic, 0, 1, value, written)[0] == record


def test_the_example_of_the_config_topic_is_read() -> None:
    [shown] = DOCUMENT["components"]["messages"][CONFIG_ENTRY]["examples"]
    header = shown["headers"]["entry"].encode()
    key = b"organizations/acme/gateways/local\nroute\norders"
    entry, last = config_wire.decode(key, b64decode(shown["payload"]), [("entry", header)])
    assert (entry.gateway, entry.kind, entry.position, entry.body, last) == (
        "organizations/acme/gateways/local", "envoy", 17, b"resource", True,
    )  # fmt: skip


def test_every_reference_leads_somewhere() -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                assert resolve(value) is not None
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(DOCUMENT)


def test_a_field_that_cannot_be_guessed_is_named() -> None:
    class Painted(Event):
        aggregate: ClassVar[str] = "wall"
        verb: ClassVar[str] = "painted"
        colour: str = Field(pattern="^#[0-9a-f]{6}$")

    with pytest.raises(ValueError, match=r"Painted\.colour needs Field\(examples="):
        example(Painted)
