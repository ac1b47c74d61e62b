"""Messages that cannot be taken, as they are kept on the parked topic."""

from base64 import b64encode

from schemas.envelope import Envelope
from schemas.identity import uuid7
from streams.log import Fault, Record

TYPE = "io.signalbox.message.parked.v1"


def parked(record: Record, fault: Fault, source: str, now: str) -> Envelope:
    """The CloudEvent that tells of a parked message. Its data: topic, partition, position, id, type, subject,
    rule, reason, and `value`, the body in base64."""
    envelope = record.envelope
    return Envelope(
        id=uuid7(),
        type=TYPE,
        source=source,
        subject=f"{record.topic}/{record.partition}/{record.position}",
        time=now,
        partitionkey=envelope.partitionkey,
        correlationid=envelope.correlationid or envelope.id,
        causationid=envelope.id,
        traceparent=envelope.traceparent,
        data={
            "topic": record.topic,
            "partition": record.partition,
            "position": record.position,
            "id": envelope.id,
            "type": envelope.type,
            "subject": envelope.subject,
            "rule": fault.rule,
            "reason": fault.reason,
            "value": b64encode(fault.value).decode(),
        },
    )
