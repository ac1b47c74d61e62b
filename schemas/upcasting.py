"""Old forms of messages, made new on reading. What was written is never rewritten.

Each upcaster takes one major form to a later one; the chain ends at a type of the catalog. An upcast
envelope keeps its id, place and `previoushash`, but its own hash means nothing: the hash chain is
computed over what was written, so verify first and upcast then.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from schemas.catalog import MESSAGES
from schemas.envelope import Envelope

Upcaster = Callable[[Envelope], Envelope]


class UnknownSchema(Exception):
    """No reader here for a message's type. `type` is the type, `known` the types of the same family."""

    def __init__(self, type: str) -> None:
        family, _, major = type.rpartition(".")
        readable = sorted(t for t in (*MESSAGES, *UPCASTERS) if t.rpartition(".")[0] == family)
        if readable:
            text = f"{type} cannot be read: needs version {major} of {family}, here are {', '.join(readable)}"
        else:
            text = f"{type} cannot be read: needs a version of Signalbox that knows it"
        super().__init__(text)
        self.type = type
        self.known = tuple(readable)


def upcast(envelope: Envelope) -> Envelope:
    """The envelope in a type of the catalog: itself when it is current.

    Raises UnknownSchema; KeyError when the old form lacks a field it must have.
    """
    while envelope.type not in MESSAGES:
        step = UPCASTERS.get(envelope.type)
        if step is None:
            raise UnknownSchema(envelope.type)
        envelope = step(envelope)
    return envelope


def _deployment_started_v0(old: Envelope) -> Envelope:
    """One `gateway` became `gateways`; `requested_at` was not kept: the time of recording is the nearest."""
    data = {name: value for name, value in old.data.items() if name != "gateway"}
    data |= {"gateways": [old.data["gateway"]], "requested_at": old.time}
    return replace(old, type="io.signalbox.deployment.started.v1", dataschema="", data=data)


UPCASTERS: Mapping[str, Upcaster] = MappingProxyType(
    {"io.signalbox.deployment.started.v0": _deployment_started_v0}
)
"""From a type no longer written to the next."""
