"""What a table offers to clients that have nothing of it yet, in chunks that all their streams share.

A stream goes through the chunks one by one and keeps only how far it has come: neither names nor frames of
its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateways.config_resource import ConfigResource
from xds.slot import Slot
from xds.wire import Ready

CHUNK_BYTES = 256 << 10
CHUNK_NAMES = 1_000


@dataclass(slots=True, eq=False)
class Chunk:
    """Slots `start` to `stop` of a backlog made at change `seq`.

    `requires` are the types of what the resources require; `newest` is the last change by which a deployment
    came or left. `plain`: each resource is offered as it is, none is quarantined. `proved`: some client has
    accepted it as a whole.
    """

    seq: int
    start: int
    stop: int
    slots: tuple[Slot, ...]
    resources: tuple[Ready, ...]
    entries: tuple[ConfigResource, ...]
    requires: frozenset[str]
    newest: int
    plain: bool
    proved: bool = False
    _looked: int = 0

    def unchanged(self, last: int) -> bool:
        """Whether no slot has changed since the backlog was made; `last` is the table's last change."""
        if self.plain and last > max(self._looked, self.seq):
            self._looked = last
            self.plain = all(slot.seq <= self.seq for slot in self.slots)
        return self.plain


@dataclass(slots=True, eq=False, weakref_slot=True)
class Backlog:
    """`chunks` are by the index of their first slot, `index` is that of each name."""

    seq: int
    slots: tuple[Slot, ...]
    chunks: dict[int, Chunk]
    index: dict[str, int]


def backlog(slots: Sequence[Slot], seq: int) -> Backlog:
    """The backlog of a table's slots after change `seq`."""
    wanted = tuple(slot for slot in slots if slot.current or slot.offered)
    chunks: list[Chunk] = []
    start = size = 0
    for index, slot in enumerate(wanted):
        offered = slot.offered
        own = len(offered.head) + len(offered.entry.body) if offered else 0
        if index > start and (size + own > CHUNK_BYTES or index - start >= CHUNK_NAMES):
            chunks.append(_chunk(wanted, start, index, seq))
            start, size = index, 0
        size += own
    if start < len(wanted):
        chunks.append(_chunk(wanted, start, len(wanted), seq))
    by_start = {chunk.start: chunk for chunk in chunks}
    return Backlog(seq, wanted, by_start, {slot.name: index for index, slot in enumerate(wanted)})


def _chunk(slots: Sequence[Slot], start: int, stop: int, seq: int) -> Chunk:
    own = tuple(slots[start:stop])
    resources = tuple(offered for slot in own if (offered := slot.offered))
    carried = [resource.carried for resource in resources]
    return Chunk(
        seq,
        start,
        stop,
        own,
        resources,
        tuple(resource.entry for resource in resources),
        frozenset(key[0] for resource in resources for key in resource.entry.requires),
        max((arrival.seq for one in carried for arrival in (*one.here, *one.left)), default=0),
        all(slot.reason is None and slot.current is not None for slot in own),
    )
