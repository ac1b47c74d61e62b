"""Upcasters: convert messages of old schemas to the current ones on reading. Stored messages are never
changed.

Each upcaster converts one major version to a later one; the chain ends at a type of the catalog. An upcast
envelope keeps its id, position and `previoushash`, but its own hash is meaningless: the hash chain covers
the stored form, so verify first and upcast afterwards.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from schemas.catalog import MESSAGES
from schemas.envelope import Envelope

Upcaster = Callable[[Envelope], Envelope]


class UnknownSchema(Exception):
    """This version cannot read messages of `type`; `known` are the readable types of the same family."""

    def __init__(self, type: str) -> None:
        family, _, major = type.rpartition(".")
        readable = sorted(t for t in (*MESSAGES, *UPCASTERS) if t.rpartition(".")[0] == family)
        if readable:
            text = f"{type} cannot be read: needs version {major} of {family}, here are {', '.join(readable)}"
        else:
            text = f"{type} cannot be read: needs a version of Signalbox that supports it"
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
    """One `gateway` became `gateways`; `requested_at` was not recorded: the event's time is used."""
    data = {name: value for name, value in old.data.items() if name != "gateway"}
    data |= {"gateways": [old.data["gateway"]], "requested_at": old.time}
    return replace(old, type="io.signalbox.deployment.started.v1", dataschema="", data=data)


UPCASTERS: Mapping[str, Upcaster] = MappingProxyType(
    {"io.signalbox.deployment.started.v0": _deployment_started_v0}
)
"""By type that is no longer written: the conversion to the next one."""
