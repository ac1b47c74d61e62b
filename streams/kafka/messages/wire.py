"""Envelopes as Kafka messages: CloudEvents 1.0 in binary mode, one header per attribute, the data as value.

The value is Avro when `dataschema` names a published schema that decodes to exactly the same data (the hash
chain is computed over it), JSON otherwise, as the content type states. This form is decoded here, since
decoding limits the commands per second; all other forms are decoded through the CloudEvents SDK
(`schemas.codecs.cloudevents_kafka`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from operator import itemgetter
from typing import Any, cast

import orjson

from schemas.catalog import MESSAGES
from schemas.codecs.avro import NeverPublished, decode_data, encode_data, is_of, missing_version
from schemas.codecs.binary import Undecodable
from schemas.codecs.canonical import canonical
from schemas.codecs.cloudevents_http import Malformed
from schemas.codecs.cloudevents_kafka import AVRO, CONTENT_TYPE, JSON, PREFIX, Headers, from_kafka
from schemas.envelope import ATTRIBUTES, Data, Envelope, values
from schemas.outcome import Outcome
from schemas.upcasting import UPCASTERS, UnknownSchema
from streams.log import Fault, Record, Topic

Written = list[tuple[str, bytes]]

AUTHORIZATION = PREFIX + "authorization"
"""The header of the signed token of a command's sender; it is never part of the envelope."""

_SPECVERSION = (PREFIX + "specversion", b"1.0")
_AS_AVRO = (CONTENT_TYPE, AVRO.encode())
_AS_JSON = (CONTENT_TYPE, JSON.encode())
_HEADERS = tuple(PREFIX + name for name in ATTRIBUTES)

_OUTCOME = Outcome.type()
OUTCOME_ATTRIBUTES = ("outcome", "outcomerule", "outcomemessage")
"""Extensions of an outcome for consumers without Avro: `accepted` or `rejected`, and the reason."""

_LONGEST_TOLD = 1_000
FORGED = "Signalbox did not write the message, or not with this integrity.key"

_TEXTS: Mapping[str, str] = {
    **{PREFIX + name: name for name in (*ATTRIBUTES, "specversion", "authorization", *OUTCOME_ATTRIBUTES)},
    CONTENT_TYPE: CONTENT_TYPE,
}
"""Attribute by header name, as this module writes them."""

_CHECKED = ("specversion", CONTENT_TYPE, "authorization", "dataschema", "type", "id", "source", "time")
_FIELDS = tuple(field.name for field in fields(Envelope))
LAYOUTS = 256
"""The most layouts that are kept: senders choose the order of headers."""

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")

_NESTED = 200
"""The maximal nesting of data: the JSON encoder, and so the hash of events, is limited to 254."""

_TOO_DEEP = f"data nests deeper than {_NESTED} levels"
_OF_CLIENTS: frozenset[str] = frozenset({"commands", "status"})
"""Topics whose times are normalised; on all others records are read as they were written."""


def encode(envelope: Envelope) -> tuple[bytes, Written]:
    """Value and headers. Raises TypeError for data that JSON cannot represent."""
    headers: Written = [_SPECVERSION]
    headers += [(name, text.encode()) for name, text in zip(_HEADERS, values(envelope), strict=True) if text]
    if envelope.type == _OUTCOME:
        headers += _outcome_headers(envelope.data)
    schema = envelope.dataschema
    if schema and is_of(schema, envelope.type):
        value = encode_data(schema, envelope.data)
        if value is not None:
            headers.append(_AS_AVRO)
            return value, headers
    headers.append(_AS_JSON)
    return orjson.dumps(envelope.data), headers


def _outcome_headers(data: Data) -> Written:
    """The headers of an outcome that repeat its data."""
    texts = ("accepted" if data.get("accepted") else "rejected", data.get("rule"), data.get("message"))
    return [
        (PREFIX + name, str(text)[:_LONGEST_TOLD].encode(errors="replace"))
        for name, text in zip(OUTCOME_ATTRIBUTES, texts, strict=True)
        if text
    ]


def decode(
    topic: Topic, partition: int, position: int, value: bytes | None, headers: Headers
) -> tuple[Record, str]:
    """The record, and the token of its extension `authorization` (empty without).

    Never raises for content: an unreadable message gets a fault, `malformed` or `unknown-schema`, and
    with the attributes that could be read.
    """
    try:
        if value is None:
            raise Malformed("data", "a message without a value is no event")
        envelope, token = _own(topic, value, headers) or from_kafka(headers, value)
        _check_depth(value, envelope.data)
    except Malformed as refused:
        where = f"{refused.attribute}: " if refused.attribute else ""
        return _faulty(topic, partition, position, value, headers, "malformed", where + refused.detail)
    except NeverPublished as unknown:
        return _faulty(topic, partition, position, value, headers, "unknown-schema", str(unknown))
    reason = _unknown(topic, envelope)
    if reason:
        return Record(topic, partition, position, envelope, Fault("unknown-schema", reason, value)), token
    return Record(topic, partition, position, envelope), token


def signed_body(value: bytes | None, headers: Headers, data: Data) -> bytes:
    """The bytes that the proof of a command covers (`streams.kafka.security.binding`): the value as
    received; in structured mode, where the value includes the proof, the data as canonical JSON."""
    # A message that could be read has one content type.
    # Near the end, where Signalbox puts it; of two the last one.
    media = next((raw for name, raw in reversed(headers) if name == CONTENT_TYPE), None)
    if media is None:
        media = next((raw for name, raw in headers if name.lower() == CONTENT_TYPE), None) or b""
    structured = media.lower().startswith(b"application/cloudevents")
    return canonical(data) if structured else value or b""


def too_large(topic: Topic, partition: int, position: int, headers: Headers, size: int, limit: int) -> Record:
    """The record of a message of `size` bytes, of which only the headers are read."""
    reason = (
        f"a message of {size:,} bytes, unpacked, is too large for the topic {topic}, which takes {limit:,}"
    )
    return _faulty(topic, partition, position, None, headers, "too-large", reason)[0]


def forged(topic: Topic, partition: int, position: int) -> Record:
    """The record of a forged message, without its content."""
    nothing = Envelope(**dict.fromkeys(ATTRIBUTES, ""), data={})
    return Record(topic, partition, position, nothing, Fault("forged", FORGED))


def _own(topic: Topic, value: bytes, headers: Headers) -> tuple[Envelope, str] | None:
    """A message in the form of `encode`, with its token; None for any other form."""
    names = tuple([name for name, _ in headers])
    layout = _layouts.get(names)
    if layout is None:
        others = [name for name in names if name not in _TEXTS]
        if any(name.lower().startswith((PREFIX, CONTENT_TYPE)) for name in others):
            return None
        headers = [header for header in headers if header[0] in _TEXTS]
        layout = _layout(tuple([name for name, _ in headers]))
        if layout is None:
            return None
    try:
        contents: list[Any] = [raw.decode() for _, raw in headers if raw]
        if len(contents) < len(headers):
            return None
        contents.append("")
        specversion, media, token, schema, type_, id_, source, time = layout.checked(contents)
        if specversion != "1.0" or not (id_ and type_ and source) or not _is_time(topic, time):
            return None
        if media == AVRO and is_of(schema, type_):
            data: Any = decode_data(schema, value)
        elif media == JSON:
            data = orjson.loads(value)
        else:
            return None
    except (KeyError, ValueError, Undecodable):
        return None
    if not isinstance(data, dict):
        return None
    contents.append(data)
    return Envelope(*layout.fields(contents)), token


@dataclass(frozen=True, slots=True)
class _Layout:
    """The places of attributes in the contents of headers, for messages with the same names of headers in the
    same order. An empty text, for absent attributes, and the data follow after the contents."""

    checked: Callable[[list[Any]], tuple[str, ...]]
    """Takes `_CHECKED`."""
    fields: Callable[[list[Any]], tuple[Any, ...]]
    """Takes the fields of an envelope."""


_layouts: dict[tuple[str, ...], _Layout] = {}
"""By the names of headers, all of which are in `_TEXTS`, so that the keys are small."""


def _layout(names: tuple[str, ...]) -> _Layout | None:
    """None when a name is repeated."""
    places = {_TEXTS[name]: place for place, name in enumerate(names)}
    absent = len(names)
    if len(places) < absent:
        return None
    places["data"] = absent + 1
    checked = itemgetter(*(places.get(name, absent) for name in _CHECKED))
    fields = itemgetter(*(places.get(name, absent) for name in _FIELDS))
    if len(_layouts) >= LAYOUTS:
        _layouts.clear()
    layout = _layouts[names] = _Layout(checked, fields)
    return layout


def _is_time(topic: Topic, time: str) -> bool:
    """Whether a time is in normal form. Raises ValueError for impossible dates."""
    if not time or topic not in _OF_CLIENTS:
        return True
    if _TIME.fullmatch(time) is None:
        return False
    datetime.fromisoformat(time)
    return True


def _check_depth(value: bytes, data: Data) -> None:
    """Raises Malformed."""
    if value.count(b"{") + value.count(b"[") < _NESTED:
        return
    wrapped: Any = data
    for _ in range(254 - _NESTED):
        wrapped = [wrapped]
    try:
        orjson.dumps(wrapped)
    except TypeError as error:
        raise Malformed("data", _TOO_DEEP) from error


def _unknown(topic: Topic, envelope: Envelope) -> str:
    """Why this version of Signalbox cannot handle a readable message; empty when it can."""
    if envelope.dataschema and (reason := missing_version(envelope.dataschema)):
        return reason
    if envelope.type not in MESSAGES and topic not in ("commands", "parked"):
        later = UnknownSchema(envelope.type)
        if later.known and envelope.type not in UPCASTERS:
            return str(later)
    return ""


def _faulty(
    topic: Topic,
    partition: int,
    position: int,
    value: bytes | None,
    headers: Headers,
    rule: str,
    reason: str,
) -> tuple[Record, str]:
    texts = _readable(value, headers)
    attributes = {name: texts.get(name, "") for name in ATTRIBUTES}
    envelope = Envelope(**attributes, data={})
    fault = Fault(rule, reason, value or b"")
    return Record(topic, partition, position, envelope, fault), texts.get("authorization", "")


def _readable(value: bytes | None, headers: Headers) -> dict[str, str]:
    """The attributes that are texts, from headers or value; the first of two is used."""
    texts: dict[str, str] = {}
    for name, raw in headers:
        attribute = _TEXTS.get(name.lower())
        if attribute and raw:
            texts.setdefault(attribute, raw.decode(errors="replace"))
    if value and texts.get(CONTENT_TYPE, "").startswith("application/cloudevents"):
        try:
            event: Any = orjson.loads(value)
        except ValueError:
            return texts
        if isinstance(event, dict):
            attributes = cast("dict[str, Any]", event)
            texts = {name: text for name, text in attributes.items() if isinstance(text, str)}
    return texts
