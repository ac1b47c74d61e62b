"""A typed message becomes a CloudEvent in one place."""

import pytest

from schemas.catalog import MESSAGES
from schemas.codecs.avro import URN, decode_data, encode_data
from schemas.codecs.examples import example
from schemas.envelopes import envelope_for
from schemas.message import Message


@pytest.mark.parametrize("model", MESSAGES.values(), ids=MESSAGES)
def test_every_message_names_the_schema_that_its_data_is_encoded_with(model: type[Message]) -> None:
    message = example(model)
    envelope = envelope_for(message, source="/test", subject="organizations/acme")
    assert envelope.dataschema.startswith(f"{URN}{model.type()}:")
    content = encode_data(envelope.dataschema, envelope.data)
    assert content is not None
    assert model.of(decode_data(envelope.dataschema, content)) == message
    assert (envelope.type, envelope.partitionkey) == (model.type(), message.organization)


def test_a_message_refers_to_the_event_that_caused_it() -> None:
    message = example(next(iter(MESSAGES.values())))
    first = envelope_for(message, source="/test", subject="s", id="1", traceparent="trace")
    second = envelope_for(message, source="/test", subject="s", id="2", cause=first)
    third = envelope_for(message, source="/test", subject="s", id="3", cause=second)
    assert (first.correlationid, first.causationid) == ("", "")
    assert [(e.correlationid, e.causationid, e.traceparent) for e in (second, third)] == [
        ("1", "1", "trace"),
        ("1", "2", "trace"),
    ]
