"""The AsyncAPI document says what is on the topics, and what it shows can be read."""

from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import orjson
import pytest
from pydantic import Field

from schemas.asyncapi import document
from schemas.catalog import COMMANDS, EVENTS, MESSAGES
from schemas.examples import example
from schemas.message import Event

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


def test_the_official_schema_refuses_what_is_wrong() -> None:
    assert complaints({**DOCUMENT, "channels": {"events": {"address": 5}}})
    assert complaints({**DOCUMENT, "operations": {"x": {"action": "shout", "channel": {"$ref": "#/a"}}}})


def test_every_message_of_the_catalog_is_on_exactly_one_topic() -> None:
    topics = {topic: list(channel["messages"]) for topic, channel in DOCUMENT["channels"].items()}
    assert set(topics["commands"]) == set(COMMANDS)
    assert set(topics["events"]) == set(EVENTS)
    assert sorted(type_ for types in topics.values() for type_ in types) == sorted(MESSAGES)


def test_topics_are_named_with_the_prefix() -> None:
    assert [c["address"] for c in document("acme")["channels"].values()] == [
        "acme.commands", "acme.events", "acme.outcomes", "acme.status",
    ]  # fmt: skip


@pytest.mark.parametrize("type_", MESSAGES)
def test_the_example_fits_its_schema_and_the_code_decodes_it(type_: str) -> None:
    message = DOCUMENT["components"]["messages"][type_]
    [shown] = message["examples"]
    schema = {**message["payload"], "components": DOCUMENT["components"]}
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(shown["payload"])) == []
    assert MESSAGES[type_].of(shown["payload"]) == example(MESSAGES[type_])


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
