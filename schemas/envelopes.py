"""Envelopes of typed messages: the only place where CloudEvents are created from messages."""

from schemas.codecs.avro import dataschema
from schemas.envelope import Data, Envelope
from schemas.identity import timestamp, uuid7
from schemas.message import Message


def envelope_for(
    message: Message,
    *,
    source: str,
    subject: str,
    id: str | None = None,
    time: str | None = None,
    partitionkey: str | None = None,
    cause: Envelope | None = None,
    dataref: str = "",
    sequence: str = "",
    previoushash: str = "",
    traceparent: str = "",
    authtype: str = "",
    authid: str = "",
    data: Data | None = None,
) -> Envelope:
    """The CloudEvent of a message, with the `dataschema` of its newest published version.

    Defaults: a new id, the current time, the organization as partition key. `cause` is the event that led to
    the message: it sets `correlationid`, `causationid` and, without one of its own, `traceparent`. `data` is
    the message's, if the caller has it already.
    """
    # By position, which is faster, because every decision creates at least two.
    return Envelope(
        uuid7() if id is None else id,
        message.type(),
        source,
        subject,
        timestamp() if time is None else time,
        message.organization if partitionkey is None else partitionkey,
        message.data() if data is None else data,
        dataschema(type(message)),
        dataref,
        sequence,
        (cause.correlationid or cause.id) if cause else "",
        cause.id if cause else "",
        traceparent or (cause.traceparent if cause else ""),
        authtype,
        authid,
        previoushash,
    )
