"""Messages that cannot be taken, as they are kept on the parked topic."""

from base64 import b64encode

import orjson

from schemas.avro import dataschema
from schemas.envelope import Envelope
from schemas.identity import uuid7
from schemas.parked import MessageParked
from streams.log import Fault, Record


def parked(record: Record, fault: Fault, source: str, now: str) -> Envelope:
    """The CloudEvent that tells of a parked message."""
    envelope = record.envelope
    body = fault.value or (orjson.dumps(envelope.data) if envelope.data else b"")
    message = MessageParked(
        organization=envelope.partitionkey,
        name=envelope.id,
        topic=record.topic,
        partition=record.partition,
        position=record.position,
        of_type=envelope.type,
        about=envelope.subject,
        rule=fault.rule,
        reason=fault.reason,
        size=len(body),
        value=b64encode(body).decode(),
    )
    return Envelope(
        id=uuid7(),
        type=message.type(),
        source=source,
        subject=f"{record.topic}/{record.partition}/{record.position}",
        time=now,
        partitionkey=envelope.partitionkey,
        dataschema=dataschema(MessageParked),
        correlationid=envelope.correlationid or envelope.id,
        causationid=envelope.id,
        traceparent=envelope.traceparent,
        data=message.data(),
    )
