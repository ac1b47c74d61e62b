"""Envelopes as rows: searchable attributes in columns, the rest as one JSON array.

Decoding takes most of the time of a rebuild of the read models.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from schemas.envelope import Envelope
from streams.log import Fault, Record, Topic
from streams.sqlite.schema import MAX_POSITION, POSITION_BITS

Row = tuple[int, str, str, str, bytes]
"""Key, id, type, subject, rest."""


def encode(envelope: Envelope) -> tuple[str, str, str, bytes]:
    """The row without its key. Raises TypeError for data that JSON cannot represent."""
    e = envelope
    rest = orjson.dumps(
        (
            e.source,
            e.time,
            e.partitionkey,
            e.dataschema,
            e.dataref,
            e.sequence,
            e.correlationid,
            e.causationid,
            e.traceparent,
            e.authtype,
            e.authid,
            e.previoushash,
            e.data,
        )
    )
    return (e.id, e.type, e.subject, rest)


def unreadable(topic: Topic, row: Sequence[Any], error: Exception) -> Record:
    """The record of a row that cannot be decoded, with the fault."""
    key, id, type, subject, rest = row
    value = rest if isinstance(rest, bytes) else str(rest).encode()
    texts = [text if isinstance(text, str) else "" for text in (id, type, subject)]
    envelope = Envelope(
        id=texts[0], type=texts[1], source="", subject=texts[2], time="", partitionkey="", data={}
    )
    fault = Fault("malformed", f"it cannot be decoded: {error}", value)
    return Record(topic, key >> POSITION_BITS, key & MAX_POSITION, envelope, fault)


def decode(topic: Topic, row: Row) -> Record:
    """Raises ValueError when `encode` did not write the row."""
    key, id, type, subject, rest = row
    (
        source,
        time,
        partitionkey,
        schema,
        ref,
        sequence,
        correlation,
        causation,
        trace,
        at,
        ai,
        previous,
        data,
    ) = orjson.loads(rest)
    # By position, in the order of the fields, which takes a third of the time.
    # fmt: off
    envelope = Envelope(
        id, type, source, subject, time, partitionkey, data, schema, ref, sequence,
        correlation, causation, trace, at, ai, previous,
    )
    # fmt: on
    return Record(topic, key >> POSITION_BITS, key & MAX_POSITION, envelope)
