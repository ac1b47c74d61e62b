"""Envelopes as rows: what is searched for in columns, the rest as one JSON array.

Decoding decides how fast read models are rebuilt. The records are filled through their classes' slots,
which takes a third of the time of their constructors (they are frozen: each field would be set through
`object.__setattr__`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from schemas.envelope import Envelope
from streams.log import Fault, Record, Topic
from streams.sqlite.schema import MAX_POSITION, POSITION_BITS

Row = tuple[int, str, str, str, bytes]
"""Key, id, type, subject, rest."""

Set = Callable[[Any, Any], None]


def _setter(owner: type, name: str) -> Set:
    return owner.__dict__[name].__set__


_new_envelope = Envelope.__new__
_id = _setter(Envelope, "id")
_type = _setter(Envelope, "type")
_subject = _setter(Envelope, "subject")
_source = _setter(Envelope, "source")
_time = _setter(Envelope, "time")
_partitionkey = _setter(Envelope, "partitionkey")
_dataschema = _setter(Envelope, "dataschema")
_dataref = _setter(Envelope, "dataref")
_sequence = _setter(Envelope, "sequence")
_correlationid = _setter(Envelope, "correlationid")
_causationid = _setter(Envelope, "causationid")
_traceparent = _setter(Envelope, "traceparent")
_authtype = _setter(Envelope, "authtype")
_authid = _setter(Envelope, "authid")
_previoushash = _setter(Envelope, "previoushash")
_data = _setter(Envelope, "data")

_new_record = Record.__new__
_topic = _setter(Record, "topic")
_partition = _setter(Record, "partition")
_position = _setter(Record, "position")
_envelope = _setter(Record, "envelope")
_fault = _setter(Record, "fault")


def encode(envelope: Envelope) -> tuple[str, str, str, bytes]:
    """The row without its key. Raises TypeError for data that JSON cannot say."""
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
    """Raises ValueError when the row is none that `encode` made."""
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
    envelope = _new_envelope(Envelope)
    _id(envelope, id)
    _type(envelope, type)
    _subject(envelope, subject)
    _source(envelope, source)
    _time(envelope, time)
    _partitionkey(envelope, partitionkey)
    _dataschema(envelope, schema)
    _dataref(envelope, ref)
    _sequence(envelope, sequence)
    _correlationid(envelope, correlation)
    _causationid(envelope, causation)
    _traceparent(envelope, trace)
    _authtype(envelope, at)
    _authid(envelope, ai)
    _previoushash(envelope, previous)
    _data(envelope, data)
    record = _new_record(Record)
    _topic(record, topic)
    _partition(record, key >> POSITION_BITS)
    _position(record, key & MAX_POSITION)
    _envelope(record, envelope)
    _fault(record, None)
    return record
