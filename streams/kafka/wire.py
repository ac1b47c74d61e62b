"""Envelopes as Kafka messages: CloudEvents 1.0 in binary mode, one header per attribute, the data as value.

The value is Avro when `dataschema` names a published schema that gives back exactly the same data (the hash
chain is computed over it), JSON otherwise; the content type says which. What is in this form is read by
hand, for decoding decides how many commands a second are decided; everything else others may send goes
through the CloudEvents SDK (`schemas.kafka`).
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import orjson

from schemas.avro import NeverPublished, decode_data, encode_data, is_of, missing_version
from schemas.binary import Undecodable
from schemas.boundary import Malformed
from schemas.canonical import canonical
from schemas.catalog import MESSAGES
from schemas.envelope import ATTRIBUTES, Data, Envelope
from schemas.kafka import AVRO, CONTENT_TYPE, JSON, PREFIX, Headers, from_kafka
from schemas.outcome import Outcome
from schemas.upcasting import UPCASTERS, UnknownSchema
from streams.log import Fault, Record, Topic

Written = list[tuple[str, bytes]]

AUTHORIZATION = PREFIX + "authorization"
"""The header of the signed token that says who sends a command; it is never part of the envelope."""

_SPECVERSION = (PREFIX + "specversion", b"1.0")
_AS_AVRO = (CONTENT_TYPE, AVRO.encode())
_AS_JSON = (CONTENT_TYPE, JSON.encode())
_HEADERS = tuple((name, PREFIX + name) for name in ATTRIBUTES)

_OUTCOME = Outcome.type()
TOLD = ("outcome", "outcomerule", "outcomemessage")
"""Extensions of an outcome, so that who cannot read Avro still knows: `accepted` or `rejected`, and why."""

_LONGEST_TOLD = 1_000
FORGED = "Signalbox did not write the message, or not with this integrity.key"

_TEXTS: Mapping[str, str] = {
    **{PREFIX + name: name for name in (*ATTRIBUTES, "specversion", "authorization", *TOLD)},
    CONTENT_TYPE: CONTENT_TYPE,
}
"""Attribute by header, as this module writes them."""

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")

_NESTED = 200
"""How deep data may nest: the JSON encoder, and with it the hash of what is decided, stops at 254."""

_TOO_DEEP = f"data nests deeper than {_NESTED} levels"
_OF_CLIENTS: frozenset[str] = frozenset({"commands", "status"})
"""Topics whose times are made uniform; on all others history stands as it was written."""


def encode(envelope: Envelope) -> tuple[bytes, Written]:
    """Value and headers. Raises TypeError for data that JSON cannot say."""
    headers: Written = [_SPECVERSION]
    for name, header in _HEADERS:
        text: str = getattr(envelope, name)
        if text:
            headers.append((header, text.encode()))
    if envelope.type == _OUTCOME:
        headers += _told(envelope.data)
    schema = envelope.dataschema
    if schema and is_of(schema, envelope.type):
        value = encode_data(schema, envelope.data)
        if value is not None:
            headers.append(_AS_AVRO)
            return value, headers
    headers.append(_AS_JSON)
    return orjson.dumps(envelope.data), headers


def _told(data: Data) -> Written:
    """The headers that tell of an outcome what its data says."""
    texts = ("accepted" if data.get("accepted") else "rejected", data.get("rule"), data.get("message"))
    return [
        (PREFIX + name, str(text)[:_LONGEST_TOLD].encode(errors="replace"))
        for name, text in zip(TOLD, texts, strict=True)
        if text
    ]


def decode(
    topic: Topic, partition: int, position: int, value: bytes | None, headers: Headers
) -> tuple[Record, str]:
    """The record, and the token of its extension `authorization` (empty without).

    Never raises for content: what cannot be read comes with a fault, `malformed` or `unknown-schema`, and
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
    """What the proof of a command is over (`streams.kafka.binding`): the value as it came; of a command in
    structured mode, whose value holds the proof too, its data as canonical JSON."""
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
    """The record of a message that says to be ours and is not: nothing of it counts."""
    nothing = Envelope(**dict.fromkeys(ATTRIBUTES, ""), data={})
    return Record(topic, partition, position, nothing, Fault("forged", FORGED))


def _own(topic: Topic, value: bytes, headers: Headers) -> tuple[Envelope, str] | None:
    """What `encode` writes, and a token; None for whatever is not exactly of that form."""
    texts: dict[str, str] = {}
    try:
        for name, raw in headers:
            attribute = _TEXTS.get(name)
            if attribute is not None:
                if not raw or attribute in texts:
                    return None
                texts[attribute] = raw.decode()
            elif name.lower().startswith((PREFIX, CONTENT_TYPE)):
                return None
        if texts["specversion"] != "1.0" or not _is_time(topic, texts.get("time", "")):
            return None
        media = texts[CONTENT_TYPE]
        if media == AVRO and is_of(texts["dataschema"], texts["type"]):
            data = decode_data(texts["dataschema"], value)
        elif media == JSON:
            data: Any = orjson.loads(value)
        else:
            return None
    except (KeyError, ValueError, Undecodable):
        return None
    if not (texts.get("id") and texts.get("type") and texts.get("source") and isinstance(data, dict)):
        return None
    attributes = {name: texts.get(name, "") for name in ATTRIBUTES}
    return Envelope(data=cast("Data", data), **attributes), texts.get("authorization", "")


def _is_time(topic: Topic, time: str) -> bool:
    """Whether a time can stay as it is. Raises ValueError for the 30th of February."""
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
    """Why a message that could be read is not for this version of Signalbox; empty when it is."""
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
    """The attributes that are texts, wherever they stand; the first of two counts."""
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
            said = cast("dict[str, Any]", event)
            texts = {name: text for name, text in said.items() if isinstance(text, str)}
    return texts
