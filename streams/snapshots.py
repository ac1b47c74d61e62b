"""Decider state as bytes and back, one subject at a time, so that a snapshot costs what changed."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from pydantic import TypeAdapter

from commands.decision import State
from commands.partition_state import PartitionState
from commands.rules import RULES
from schemas.catalog import BY_PLURAL
from streams.head import ChainHead
from streams.log import StateSnapshot

OWNER = "decider"
PACKED_FROM = 100_000
"""Bytes of a state from which on it is compressed."""
FORM = 3
"""Of the states, and of 2 those without `at`. Snapshots of another form are passed over: the events say the
state of this one."""
SUBJECTS = 2_000
"""The most subjects in the snapshots of one transaction: a log has only so much time for it."""
HEAD = "head"
"""The pseudo-subject under which the head of the chain is kept."""


@cache
def _adapter(aggregate: str) -> TypeAdapter[Any]:
    return TypeAdapter(RULES[aggregate].State)


def of_head(head: ChainHead, partition: int) -> StateSnapshot:
    content = orjson.dumps({"sequence": head.sequence, "hash": head.hash, "time": head.time, "form": FORM})
    return StateSnapshot(OWNER, partition, HEAD, head.position, content)


def of_subject(partition_state: PartitionState, partition: int, subject: str, position: int) -> StateSnapshot:
    """The subject as it is now, after the event at `position`; a subject that ended keeps its version, one
    that is forgotten is empty. It may be kept beside snapshots that stand for an earlier position."""
    version = partition_state.version(subject)
    if not version:
        return StateSnapshot(OWNER, partition, subject, position, b"")
    state = orjson.dumps({"version": version, "state": partition_state.state(subject), "at": position})
    return StateSnapshot(OWNER, partition, subject, position, _packed(state))


@dataclass(frozen=True, slots=True)
class Restored:
    """The head that snapshots stand for, and the position of the last event in those that are ahead of it."""

    head: ChainHead
    ahead: Mapping[str, int]


def restore(partition_state: PartitionState, position: int, kept: list[StateSnapshot]) -> Restored:
    """Puts snapshots back into an empty partition state; of another form none, and the head is the first."""
    head = _head(position, kept)
    if head is None:
        return Restored(ChainHead(), {})
    ahead: dict[str, int] = {}
    for one in kept:
        if one.subject == HEAD:
            continue
        content = orjson.loads(_unpacked(one.state))
        state: State | None = None
        if content["state"] is not None:
            plural = one.subject.split("/")[-2]
            state = _adapter(BY_PLURAL[plural].name).validate_python(content["state"])
        partition_state.put(one.subject, state, content["version"])
        if (at := content.get("at", position)) > position:
            ahead[one.subject] = at
    return Restored(head, ahead)


def _head(position: int, kept: list[StateSnapshot]) -> ChainHead | None:
    for one in kept:
        if one.subject == HEAD:
            content = orjson.loads(_unpacked(one.state))
            if content.get("form", 1) in (2, FORM):
                return ChainHead(position, content["sequence"], content["hash"], content.get("time", ""))
    return None


def _packed(state: bytes) -> bytes:
    """JSON, compressed when it is large: the revisions of an API repeat themselves, and a log takes messages
    up to some size only."""
    return state if len(state) < PACKED_FROM else zlib.compress(state, 1)


def _unpacked(state: bytes) -> bytes:
    return state if state.startswith(b"{") else zlib.decompress(state)
