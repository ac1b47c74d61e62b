"""Envelopes as other programs get them: as events of the CloudEvents SDK, and as HTTP messages."""

from collections.abc import Sequence
from typing import Any

import orjson
from cloudevents.core.bindings.http import HTTPMessage
from cloudevents.core.v1.event import CloudEvent

from schemas.codecs.cloudevents_http import BATCH, STRUCTURED, moment, strict_event
from schemas.envelope import Envelope, from_structured


def to_sdk(envelope: Envelope) -> CloudEvent:
    """The SDK's event. Raises Malformed when the envelope's attributes break the specification."""
    attributes: dict[str, Any] = dict(envelope.attributes())
    if envelope.time:
        attributes["time"] = moment(envelope.time)
    return strict_event(attributes, envelope.data)


def to_http_structured(envelope: Envelope) -> HTTPMessage:
    return HTTPMessage({"content-type": STRUCTURED}, envelope.to_json())


def to_http_batch(envelopes: Sequence[Envelope]) -> HTTPMessage:
    body = b"[" + b",".join(e.to_json() for e in envelopes) + b"]"
    return HTTPMessage({"content-type": BATCH}, body)


def from_json(text: bytes | str) -> Envelope:
    return from_structured(orjson.loads(text))
