"""What crosses Kafka comes back equal, others may write as CloudEvents allows, and nothing stops a reader."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from schemas.aggregates.api import ApiPublished, PublishApi
from schemas.aggregates.deployment import DeploymentStarted, StartDeployment
from schemas.catalog import MESSAGES
from schemas.codecs import avro
from schemas.codecs.examples import example
from schemas.envelope import ATTRIBUTES, Envelope
from schemas.message import Message
from schemas.outcome import Outcome
from streams.kafka.messages.wire import decode, encode
from streams.log import TOPICS, Fault, Record, Topic
from tests.schemas.envelopes import envelopes, json_objects
from tests.schemas.models import models
from tests.schemas.sdk_events import to_sdk
from tests.support.laws import SLOW, examples

EVERY = pytest.mark.parametrize("model", MESSAGES.values(), ids=list(MESSAGES))
AVRO, JSON = b"application/avro", b"application/json"

Headers = list[tuple[str, bytes]]


def enveloped(message: Message, **attributes: str) -> Envelope:
    given = {
        "id": "01936f8e-6b00-7000-8000-000000000001",
        "type": message.type(),
        "source": "/signalbox",
        "subject": "organizations/acme/apis/orders",
        "time": "2026-11-21T02:30:00.000000Z",
        "partitionkey": "acme",
        "dataschema": avro.dataschema(type(message)),
        **attributes,
    }
    return Envelope(**given, data=message.data())


COMMAND = enveloped(example(PublishApi))


def kafka(**changes: str | None) -> Headers:
    """The headers of a command in JSON of another producer."""
    output = {
        "ce_specversion": "1.0",
        "ce_id": COMMAND.id,
        "ce_type": COMMAND.type,
        "ce_source": "/shop",
        "ce_subject": COMMAND.subject,
        "ce_time": "2026-11-21T02:30:00Z",
        "ce_partitionkey": "acme",
        "content-type": "application/json",
        **{name.replace("content_type", "content-type"): value for name, value in changes.items()},
    }
    return [(name, value.encode()) for name, value in output.items() if value is not None]


FOREIGN = replace(COMMAND, source="/shop", dataschema="")
BODY = orjson.dumps(COMMAND.data)


def read(value: bytes | None, headers: Any, topic: Topic = "commands") -> Record:
    record, _ = decode(topic, 3, 17, value, headers)
    assert (record.topic, record.partition, record.position) == (topic, 3, 17)
    return record


def fault(value: bytes | None, headers: Any, topic: Topic = "commands") -> Fault:
    record = read(value, headers, topic)
    assert record.fault is not None
    return record.fault


def content_type(headers: Headers) -> bytes:
    return dict(headers)["content-type"]


# What Signalbox writes


@EVERY
def test_every_message_is_written_in_avro_and_comes_back_equal(model: type[Message]) -> None:
    @examples(10, SLOW)
    @given(models(model))
    def law(message: Message) -> None:
        envelope = enveloped(message).chained(3, "f" * 64)
        value, headers = encode(envelope)
        assert content_type(headers) == AVRO
        record = read(value, headers, "events")
        assert (record.envelope, record.fault) == (envelope, None)
        assert record.envelope.hash() == envelope.hash()

    law()


@given(envelopes(), st.sampled_from(TOPICS))
def test_any_envelope_comes_back_equal(envelope: Envelope, topic: Topic) -> None:
    value, headers = encode(envelope)
    record = read(value, headers, topic)
    assert (record.envelope, record.fault) == (envelope, None)
    assert record.envelope.hash() == envelope.hash()


@EVERY
def test_data_avro_could_not_give_back_exactly_is_written_as_json(model: type[Message]) -> None:
    @examples(25, SLOW)
    @given(models(model), st.data())
    def law(message: Message, draw: st.DataObject) -> None:
        data: Any = message.data()
        place, holder = draw.draw(st.sampled_from(_places(data)))
        holder[place] = draw.draw(
            st.sampled_from([None, "", 0, 1, 1.0, -0.0, True, 2**63, [], {}, "x", [None], {"x": None}])
        )
        if draw.draw(st.booleans()):
            del holder[place]
        envelope = replace(enveloped(message), data=data)
        value, headers = encode(envelope)
        record = read(value, headers, "events")
        assert (record.envelope, record.fault) == (envelope, None)
        assert record.envelope.hash() == envelope.hash()

    law()


def _places(data: Any) -> list[tuple[Any, Any]]:
    """Every place of nested data, with what holds it."""
    items: list[tuple[Any, Any]] = list(data.items() if isinstance(data, dict) else enumerate(data))
    below = [place for _, inner in items if isinstance(inner, (dict, list)) for place in _places(inner)]
    return [(key, data) for key, _ in items] + below


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"events": 1.0},
        {"events": True},
        {"events": 2**63},
        {"errors": None},
        {"message": None},
        {"accepted": 1},
    ],
)
def test_the_schema_is_named_even_when_the_data_goes_as_json(changes: dict[str, Any]) -> None:
    outcome = enveloped(example(Outcome))
    changed = replace(outcome, data={**outcome.data, **changes})
    value, headers = encode(changed)
    assert (content_type(headers), value) == (JSON, orjson.dumps(changed.data))
    assert dict(headers)["ce_dataschema"].decode() == avro.dataschema(Outcome)
    assert read(value, headers).envelope == changed


def test_a_default_that_was_left_out_stays_left_out() -> None:
    outcome = enveloped(example(Outcome))
    del outcome.data["message"]
    value, headers = encode(outcome)
    assert content_type(headers) == JSON
    assert "message" not in read(value, headers).envelope.data


def test_a_schema_of_another_type_is_not_written_with() -> None:
    odd = replace(COMMAND, dataschema=avro.dataschema(Outcome))
    value, headers = encode(odd)
    assert content_type(headers) == JSON
    assert read(value, headers).envelope == odd


def test_attributes_travel_as_plain_utf8_headers() -> None:
    value, headers = encode(replace(COMMAND, subject="organizations/ä/apis/50%41"))
    assert ("ce_subject", "organizations/ä/apis/50%41".encode()) in headers
    assert headers[0] == ("ce_specversion", b"1.0")
    assert {name for name, _ in headers} == {
        "ce_specversion", "ce_id", "ce_type", "ce_source", "ce_subject", "ce_time", "ce_partitionkey",
        "ce_dataschema", "content-type",
    }  # fmt: skip
    assert read(value, headers).envelope.subject == "organizations/ä/apis/50%41"


def test_the_cloudevents_sdk_reads_the_written_json() -> None:
    value, headers = encode(replace(COMMAND, dataschema=""))
    event = from_binary(KafkaMessage(dict(headers), None, value), JSONFormat(), CloudEvent)
    assert (event.get_id(), event.get_type(), event.get_data()) == (COMMAND.id, COMMAND.type, COMMAND.data)


# What others write


def test_binary_json_without_a_content_type_schema_or_time() -> None:
    bare = kafka(content_type=None, ce_time=None, ce_subject=None, ce_partitionkey=None)
    assert read(BODY, bare).envelope == replace(FOREIGN, time="", subject="", partitionkey="")


@pytest.mark.parametrize("media", ["application/json; charset=UTF-8", "Application/JSON", "text/json"])
def test_binary_json_of_any_json_media_type(media: str) -> None:
    assert read(BODY, kafka(content_type=media)).envelope == FOREIGN


@pytest.mark.parametrize(
    "time", ["2026-11-21T02:30:00Z", "2026-11-21T03:30:00+01:00", "2026-11-21t02:30:00.0000009z"]
)
def test_times_of_commands_are_normalised_to_utc_with_microseconds(time: str) -> None:
    assert read(BODY, kafka(ce_time=time)).envelope.time == "2026-11-21T02:30:00.000000Z"


def test_times_in_the_register_stand_as_they_were_written() -> None:
    old = replace(COMMAND, time="2026-11-21T02:30:00Z")
    for topic in ("events", "outcomes", "parked"):
        assert read(*encode(old), topic).envelope == old


def test_header_names_in_any_case() -> None:
    assert read(BODY, [(name.upper(), value) for name, value in kafka()]).envelope == FOREIGN


def test_other_headers_and_unknown_extensions_are_left_out() -> None:
    extra = [*kafka(ce_shoplane="x"), ("traceparent", b"\xff"), ("x-hop", b"1"), ("ce_authid", None)]
    assert read(BODY, extra).envelope == FOREIGN


def test_structured_json_with_any_other_headers() -> None:
    structured = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
    event = orjson.dumps({**FOREIGN.structured(), "shoplane": "x"})
    assert read(event, structured).envelope == FOREIGN
    assert read(event, [*structured, ("ce_id", b"another"), ("ce_specversion", b"0.3")]).envelope == FOREIGN


@given(envelopes())
def test_events_of_the_cloudevents_sdk_are_read(envelope: Envelope) -> None:
    for message in (to_binary(to_sdk(envelope), JSONFormat()), to_structured(to_sdk(envelope), JSONFormat())):
        assert read(message.value, list(message.headers.items())).envelope == envelope


@pytest.mark.parametrize("number", avro.published()[PublishApi.type()])
def test_binary_avro_of_every_published_version(number: int) -> None:
    schema = f"urn:signalbox:schema:{PublishApi.type()}:{number}"
    known = _known(avro.writer_schema(schema), COMMAND.data, {})
    value = avro.encode_data(schema, known)
    assert value is not None
    headers = kafka(content_type="application/avro", ce_dataschema=schema)
    assert read(value, headers).envelope == replace(FOREIGN, dataschema=schema, data=known)


def _known(kind: Any, data: Any, records: dict[str, Any]) -> Any:
    """The part of `data` that a reader with the Avro type `kind` gets; `records` are referenced by name."""
    if isinstance(kind, str):
        kind = records.get(kind, {"type": kind})
    elif isinstance(kind, list):
        kind = next(one for one in kind if one != "null")
        return _known(kind, data, records)
    if kind["type"] == "record":
        records[kind["name"]] = kind
        fields = [(field["name"], field["type"]) for field in kind["fields"]]
        return {name: _known(type, data[name], records) for name, type in fields if name in data}
    if kind["type"] == "array":
        return [_known(kind["items"], item, records) for item in data]
    return data


def test_structured_events_may_hold_avro_in_base64() -> None:
    sdk = to_sdk(COMMAND)
    attributes = {**sdk.get_attributes(), "datacontenttype": "application/avro"}
    event = CloudEvent(attributes, avro.encode_data(COMMAND.dataschema, COMMAND.data))
    message = to_structured(event, JSONFormat())
    assert b"data_base64" in message.value
    assert read(message.value, list(message.headers.items())).envelope == COMMAND


@pytest.mark.parametrize("mode", ["own", "binary", "structured"])
def test_the_token_comes_beside_the_record_and_never_in_it(mode: str) -> None:
    value, headers = {
        "own": (encode(COMMAND)[0], [*encode(COMMAND)[1], ("ce_authorization", b"token")]),
        "binary": (BODY, [*kafka(), ("CE_Authorization", b"token")]),
        "structured": (
            orjson.dumps({**FOREIGN.structured(), "authorization": "token"}),
            [("content-type", b"application/cloudevents+json")],
        ),
    }[mode]
    record, token = decode("commands", 0, 1, value, headers)
    assert token == "token"
    assert record.envelope in (COMMAND, FOREIGN)
    assert decode("commands", 0, 1, BODY, kafka())[1] == ""


# What cannot be read


@pytest.mark.parametrize(
    ("says", "value", "headers"),
    [
        ("data: a message without a value", None, kafka()),
        ("content-type: not a CloudEvent", BODY, []),
        ("content-type: not a CloudEvent", BODY, kafka(ce_specversion=None)),
        ("content-type: application/cloudevents-batch+json is not read here", b"[]",
         kafka(content_type="application/cloudevents-batch+json")),
        ("content-type: application/cloudevents+avro is not read here", b"",
         kafka(content_type="application/cloudevents+avro")),
        ("specversion: ", BODY, kafka(ce_specversion="0.3")),
        ("id: ", BODY, kafka(ce_id=None)),
        ("id: ", BODY, kafka(ce_id="")),
        ("type: ", BODY, kafka(ce_type=None)),
        ("source: ", BODY, kafka(ce_source=None)),
        ("subject: ", BODY, kafka(ce_subject="")),
        ("time: ", BODY, kafka(ce_time="yesterday")),
        ("time: ", BODY, kafka(ce_time="2026-02-30T02:30:00.000000Z")),
        ("id: ce_id is not UTF-8", BODY, [*kafka(ce_id=None), ("ce_id", b"\xff")]),
        ("id: ce_id is given twice", BODY, [*kafka(), ("CE_ID", b"another")]),
        ("authorization: ", orjson.dumps({**FOREIGN.structured(), "authorization": 7}),
         kafka(content_type="application/cloudevents+json")),
        ("not JSON", b"{", kafka(content_type="application/cloudevents+json")),
        ("an event is a JSON object", b"[]", kafka(content_type="application/cloudevents+json")),
        ("data: not JSON", b"{", kafka()),
        ("data: not JSON", b"", kafka()),
        ("data: not JSON", b'{"a": NaN}', kafka()),
        ("data: data must be a JSON object", b"[1]", kafka()),
        ("data: data nests deeper than 200 levels", b'{"a":' + b"[" * 250 + b"]" * 250 + b"}", kafka()),
        ("datacontenttype: data must be JSON", b"hello", kafka(content_type="text/plain")),
        ("dataschema: dataschema must name", b"", kafka(content_type="application/avro")),
        ("dataschema: ", encode(COMMAND)[0],
         kafka(content_type="application/avro", ce_dataschema=avro.dataschema(StartDeployment))),
        ("data: not written with urn:", encode(COMMAND)[0][:-1],
         kafka(content_type="application/avro", ce_dataschema=COMMAND.dataschema)),
        ("data: not written with urn:", encode(COMMAND)[0] + b"\0",
         kafka(content_type="application/avro", ce_dataschema=COMMAND.dataschema)),
    ],
)  # fmt: skip
def test_a_malformed_message_comes_with_a_reason(says: str, value: bytes | None, headers: Any) -> None:
    found = fault(value, headers)
    assert (found.rule, found.value) == ("malformed", value or b"")
    assert found.reason.startswith(says)


def test_a_malformed_message_shows_its_readable_attributes() -> None:
    record, token = decode("commands", 0, 1, b"{", [*kafka(), ("ce_authorization", b"token")])
    assert record.envelope == replace(FOREIGN, time="2026-11-21T02:30:00Z", data={})
    assert token == "token"
    structured = orjson.dumps({"id": "7", "correlationid": 8, "partitionkey": "acme"})
    partly = read(structured, kafka(content_type="application/cloudevents+json")).envelope
    assert (partly.id, partly.correlationid, partly.partitionkey) == ("7", "", "acme")
    nothing = read(b"\x00\xff", [("ce_id", b"\xff"), ("x", None)]).envelope
    assert (nothing.id, nothing.type) == ("\N{REPLACEMENT CHARACTER}", "")


# What comes from later


def test_a_schema_of_a_later_version_is_named() -> None:
    type_ = DeploymentStarted.type()
    here = ", ".join(map(str, avro.published()[type_]))
    later = enveloped(example(DeploymentStarted), dataschema=f"urn:signalbox:schema:{type_}:999")
    value, headers = encode(later)
    for media, body in ((AVRO, b"\0"), (JSON, value)):
        given = [*(h for h in headers if h[0] != "content-type"), ("content-type", media)]
        found = fault(body, given, "events")
        assert (found.rule, found.value) == ("unknown-schema", body)
        assert found.reason == f"needs version 999 of {type_}; here are {here}"
    assert read(value, headers, "events").envelope == later


def test_avro_of_an_unpublished_schema() -> None:
    found = fault(b"\0", kafka(content_type="application/avro", ce_dataschema="https://shop.example/sold/1"))
    assert found == Fault("unknown-schema", "https://shop.example/sold/1 was never published here", b"\0")


@pytest.mark.parametrize("topic", ["events", "outcomes", "status"])
def test_a_later_major_of_a_known_message_is_unknown(topic: Topic) -> None:
    later = replace(enveloped(example(ApiPublished)), type="io.signalbox.api.published.v2", dataschema="")
    value, headers = encode(later)
    found = fault(value, headers, topic)
    assert found.rule == "unknown-schema"
    assert (
        "needs version v2 of io.signalbox.api.published, here are io.signalbox.api.published.v1"
        in found.reason
    )


def test_an_unknown_command_is_left_to_the_decider() -> None:
    later = replace(FOREIGN, type="io.signalbox.api.command.publish.v2")
    assert read(*encode(later)).fault is None


def test_an_old_major_with_an_upcaster_is_read() -> None:
    old = replace(FOREIGN, type="io.signalbox.deployment.started.v0", data={"gateway": "local"})
    assert read(*encode(old), "events").fault is None


# Nothing stops a reader

_header = st.sampled_from(
    [f"ce_{name}" for name in (*ATTRIBUTES, "specversion", "authorization", "x", "a_b")]
    + ["content-type", "Content-Type", "CE_ID", "x", ""]
)
_media = st.sampled_from([AVRO, JSON, b"application/cloudevents+json", b"application/json;", b"text/plain"])
_some = st.sampled_from([b"1.0", b"2026-11-21T02:30:00Z", b"true", COMMAND.dataschema.encode()]) | _media
_values = (
    st.none()
    | st.binary(max_size=80)
    | json_objects.map(orjson.dumps)
    | json_objects.map(lambda data: orjson.dumps({**FOREIGN.structured(), **data}))
)


@examples(600, SLOW)
@given(
    st.sampled_from(TOPICS),
    _values,
    st.lists(st.tuples(_header, st.none() | _some | st.binary(max_size=12)), max_size=6),
    st.booleans(),
)
def test_any_message_is_read_or_comes_with_a_fault(
    topic: Topic, value: bytes | None, noise: list[tuple[str, bytes | None]], valid: bool
) -> None:
    record, token = decode(topic, 0, 1, value, [*(kafka() if valid else []), *noise])
    assert isinstance(token, str)
    if record.fault is None:
        again = decode(topic, 0, 1, *encode(record.envelope))[0]
        assert again == record
    else:
        assert record.fault.rule in ("malformed", "unknown-schema")
        assert record.fault.reason


@examples(300)
@given(st.integers(0, 400), st.integers(0, 255))
def test_damaged_avro_is_read_or_comes_with_a_fault(at: int, byte: int) -> None:
    value, headers = encode(COMMAND)
    damaged = bytearray(value)
    damaged[at % len(damaged)] = byte
    record = read(bytes(damaged), headers)
    if record.fault is None:
        assert decode("commands", 3, 17, *encode(record.envelope))[0] == record
