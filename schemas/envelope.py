"""The CloudEvents 1.0 envelope on the hot path, and its JSON form.

The CloudEvents SDK reads and writes external messages (`schemas.codecs.cloudevents_http`). Internal code
uses this class and orjson: a round trip through the SDK costs twenty times as much.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any

import orjson

from schemas.codecs.canonical import canonical, sha256_hex

GENESIS = "0" * 64
"""The `previoushash` of the first event of a partition."""

Data = dict[str, Any]

QualifiedName = tuple[str, str]
"""Organization and name, of a resource of one kind."""

MessageKey = tuple[str, str]
"""Organization and id: ids are unique within an organization only."""


@dataclass(slots=True)
class Envelope:
    """A CloudEvent. Empty attributes are absent. `data` is a JSON object.

    Treat it as immutable (`dataclasses.replace` makes another): it is not frozen because a frozen class takes
    four times as long to construct, and every message is constructed several times. Name the arguments;
    only the codec of Kafka and `schemas.envelopes` pass them by position, which takes a third of the time.

    `sequence` counts the events of a partition from 1, zero-padded to 20 digits;
    `previoushash` is the hash of the event before it in the partition.
    """

    id: str
    type: str
    source: str
    subject: str
    time: str
    partitionkey: str
    data: Data
    dataschema: str = ""
    dataref: str = ""
    sequence: str = ""
    correlationid: str = ""
    causationid: str = ""
    traceparent: str = ""
    authtype: str = ""
    authid: str = ""
    previoushash: str = ""

    @property
    def key(self) -> MessageKey:
        return (self.partitionkey, self.id)

    def attributes(self) -> dict[str, str]:
        """The context attributes that are set, `specversion` and `datacontenttype` included."""
        texts = ("1.0", "application/json", *values(self))
        return {name: text for name, text in zip(_WITH_CONSTANTS, texts, strict=True) if text}

    def structured(self) -> dict[str, Any]:
        """The structured JSON form as an object."""
        form: dict[str, Any] = self.attributes()
        form["data"] = self.data
        return form

    def to_json(self) -> bytes:
        return orjson.dumps(self.structured())

    def hash(self) -> str:
        """SHA-256 of the canonical structured form; the next event carries it as `previoushash`."""
        return sha256_hex(canonical(self.structured()))

    def chained(self, sequence: int, previous: str) -> "Envelope":
        """This event as number `sequence` of its partition, after the one whose hash is `previous`."""
        return replace(self, sequence=f"{sequence:020d}", previoushash=previous)


ATTRIBUTES: tuple[str, ...] = tuple(f.name for f in fields(Envelope) if f.name != "data")
_WITH_CONSTANTS = ("specversion", "datacontenttype", *ATTRIBUTES)
values: Callable[[Envelope], tuple[str, ...]] = attrgetter(*ATTRIBUTES)
"""The attributes of an envelope, in the order of `ATTRIBUTES`; absent ones are empty."""


def from_structured(event: dict[str, Any]) -> Envelope:
    """The envelope of a structured JSON object; attributes unknown here are left out.

    Raises KeyError when a required attribute is missing.
    """
    present = {name: str(event[name]) for name in ATTRIBUTES if name in event}
    return Envelope(data=event["data"], **present)
