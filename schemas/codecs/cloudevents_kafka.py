"""CloudEvents 1.0 on Kafka, written by other programs: binary and structured mode, data in JSON or Avro.

The CloudEvents SDK decodes, as strictly as over HTTP (`schemas.codecs.cloudevents_http`). Signalbox's own
messages are read by `streams.kafka.messages.wire` without it. Header values are plain UTF-8 here, not
percent-encoded; the content type decides the mode, whatever `ce_` headers there are.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from collections.abc import Sequence
from typing import Any

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, from_structured

from schemas.codecs.avro import decode_data, is_of, writer_schema
from schemas.codecs.binary import Undecodable
from schemas.codecs.cloudevents_http import (
    STRICT,
    STRUCTURED,
    Malformed,
    from_sdk,
    media_type,
    moment,
    strict_event,
    text,
)
from schemas.envelope import Envelope

Headers = Sequence[tuple[str, bytes | None]]

AVRO = "application/avro"
JSON = "application/json"
CONTENT_TYPE = "content-type"
PREFIX = "ce_"


def from_kafka(headers: Headers, value: bytes) -> tuple[Envelope, str]:
    """The event of one Kafka message, and the value of its extension `authorization` (empty if absent).

    Attributes that are missing (`subject`, `time`, `partitionkey`) are empty. Raises Malformed;
    schemas.codecs.avro.NeverPublished for Avro of a schema that is not known here.
    """
    given = _texts(headers)
    media = media_type(given.get(CONTENT_TYPE, ""))
    if media.startswith("application/cloudevents"):
        if media != STRUCTURED:
            raise Malformed(
                "content-type", f"{media} is not read here; send {STRUCTURED}, one event a message"
            )
        event = from_structured(KafkaMessage({}, None, value), STRICT, strict_event)
    elif PREFIX + "specversion" in given:
        if PREFIX + "time" in given:
            given[PREFIX + "time"] = text("time", moment(given[PREFIX + "time"]))
        raw = {name: text.encode() for name, text in given.items()}
        event = from_binary(KafkaMessage(raw, None, value), STRICT, strict_event)
    else:
        raise Malformed(
            "content-type",
            f"not a CloudEvent: send `{CONTENT_TYPE}: {STRUCTURED}`, or `{PREFIX}` headers with at least "
            f"`{PREFIX}specversion`",
        )
    attributes = event.get_attributes()
    token = attributes.get("authorization", "")
    if not isinstance(token, str):
        raise Malformed("authorization", "authorization must be a string")
    return from_sdk(_with_json_data(event)), token


def _texts(headers: Headers) -> dict[str, str]:
    """Headers by lower-case name, without those that have no value. Raises Malformed."""
    texts: dict[str, str] = {}
    for name, raw in headers:
        lower = name.lower()
        if raw is None or not (lower == CONTENT_TYPE or lower.startswith(PREFIX)):
            continue
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise Malformed(lower.removeprefix(PREFIX), f"{lower} is not UTF-8") from error
        if texts.setdefault(lower, text) != text:
            raise Malformed(lower.removeprefix(PREFIX), f"{lower} is given twice")
    return texts


def _with_json_data(event: BaseCloudEvent) -> BaseCloudEvent:
    """The event with its data as JSON-ready data, also when it was sent as Avro."""
    attributes: dict[str, Any] = dict(event.get_attributes())
    if media_type(str(attributes.get("datacontenttype", JSON))) != AVRO:
        return event
    schema, content = attributes.get("dataschema"), event.get_data()
    if not isinstance(schema, str):
        raise Malformed("dataschema", "dataschema must name the schema of Avro data")
    writer_schema(schema)
    if not is_of(schema, event.get_type()):
        raise Malformed("dataschema", f"{schema} is not of the type {event.get_type()}")
    if not isinstance(content, bytes):
        raise Malformed("data", "Avro data must come as bytes")
    try:
        data = decode_data(schema, content)
    except Undecodable as error:
        raise Malformed("data", f"not written with {schema}: {error}") from error
    return strict_event({**attributes, "datacontenttype": JSON}, data)
