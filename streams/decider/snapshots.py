"""Encodes and decodes decider state, one subject at a time, so that only changed subjects are written."""

import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

import orjson
from pydantic import TypeAdapter
from pydantic_core import from_json

from commands.decision import State
from commands.partition_state import PartitionState
from commands.rules import RULES
from schemas.catalog import BY_PLURAL
from streams.decider.head import ChainHead
from streams.log import Log, StateSnapshot, Transaction

OWNER = "decider"
PACKED_FROM = 100_000
"""States of at least this many bytes are compressed."""
SUBJECTS = 2_000
"""Maximum number of subjects per transaction of snapshots: a log limits the time of a transaction."""
HEAD = "head"
"""The pseudo-subject of the snapshot of the chain head."""

logger = logging.getLogger("signalbox.decider")


@cache
def _adapter(aggregate: str) -> TypeAdapter[Any]:
    return TypeAdapter(RULES[aggregate].State)


def fingerprint_of(rules: bytes, shapes: Mapping[str, Any]) -> str:
    """`rules`: the source of the rules; `shapes`: the JSON schema of each aggregate's state."""
    return sha256(rules + orjson.dumps(shapes, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


@cache
def fingerprint() -> str:
    """The fingerprint of the rules and of the shape of the state. Every snapshot contains it: snapshots with
    another one, or none, are ignored, and the events are replayed."""
    sources = sorted((f for f in files("commands").iterdir() if f.name.endswith(".py")), key=lambda f: f.name)
    rules = b"\0".join(source.read_bytes() for source in sources)
    return fingerprint_of(rules, {name: _adapter(name).json_schema() for name in RULES})


def of_head(head: ChainHead, partition: int) -> StateSnapshot:
    fields = {"sequence": head.sequence, "hash": head.hash, "time": head.time, "fingerprint": fingerprint()}
    return StateSnapshot(OWNER, partition, HEAD, head.position, orjson.dumps(fields))


def content_of(partition_state: PartitionState, subject: str, at: int) -> bytes:
    """The snapshot of a subject after the event at position `at`; a subject without state keeps its version,
    an unknown one is empty. It may be stored beside snapshots of an earlier position."""
    version = partition_state.version(subject)
    if not version:
        return b""
    state = partition_state.state(subject)
    fields = {"version": version, "state": state, "at": at, "fingerprint": fingerprint()}
    return _packed(orjson.dumps(fields))


@dataclass(frozen=True, slots=True)
class Restored:
    """The chain head of the snapshots, and by subject the position of snapshots that are ahead of it."""

    head: ChainHead
    ahead: Mapping[str, int]


def restore(partition_state: PartitionState, position: int, kept: list[StateSnapshot]) -> Restored:
    """Puts snapshots of the current rules back into an empty partition state.

    Without a head nothing is restored, and all events are replayed: after a change of the rules or of the
    state's shape, and if a snapshot cannot be read.
    """
    head: ChainHead | None = None
    states: dict[str, tuple[State | None, int]] = {}
    ahead: dict[str, int] = {}
    try:
        # One after the other: all of them decoded at once take more memory than all states.
        for snapshot in kept:
            content = _read(snapshot)
            if content.get("fingerprint") != fingerprint():
                continue
            if snapshot.subject == HEAD:
                head = ChainHead(position, content["sequence"], content["hash"], content["time"])
                continue
            states[snapshot.subject] = _state(snapshot.subject, content), int(content["version"])
            if content["at"] > position:
                ahead[snapshot.subject] = content["at"]
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        logger.warning("a snapshot cannot be read, so the events are replayed: %s", error)
        return Restored(ChainHead(), {})
    if head is None:
        if kept:
            logger.info("the snapshots are of another version of the rules: the events are replayed")
        return Restored(ChainHead(), {})
    for subject, (state, version) in states.items():
        partition_state.put(subject, state, version)
    return Restored(head, ahead)


async def drop_snapshots(log: Log, partition: int) -> int:
    """Claims a partition and drops its snapshots; returns their number. Raises LogUnavailable, Fenced."""
    await log.claim(partition)
    _, kept = await log.snapshots(OWNER, partition)
    # The head first: without it none of the others is restored.
    subjects = sorted((snapshot.subject for snapshot in kept), key=lambda subject: subject != HEAD)
    for start in range(0, len(subjects), SUBJECTS):
        empty = [StateSnapshot(OWNER, partition, s, 0, b"") for s in subjects[start : start + SUBJECTS]]
        await log.commit(Transaction(snapshots=empty))
    return len(subjects)


def _read(snapshot: StateSnapshot) -> dict[str, Any]:
    # Equal texts, such as the organization's name, become one object.
    return from_json(_unpacked(snapshot.state))


def _state(subject: str, content: Mapping[str, Any]) -> State | None:
    if content["state"] is None:
        return None
    return _adapter(BY_PLURAL[subject.split("/")[-2]].name).validate_python(content["state"])


def _packed(state: bytes) -> bytes:
    """JSON, compressed when it is large: the revisions of an API repeat themselves, and a log limits the size
    of messages."""
    return state if len(state) < PACKED_FROM else zlib.compress(state, 1)


def _unpacked(state: bytes) -> bytes:
    return state if state.startswith(b"{") else zlib.decompress(state)
