"""The first sync: all resources of a table, in chunks that the streams of new clients share.

A stream sends the chunks in turn and stores only its position: neither names nor frames of its own. A chunk
waits for the acknowledgement of the one before, which takes a proxy that starts longer than a large chunk. So
chunks are large while few streams are in their first sync, and small when their number would take memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakSet

from gateways.config_resource import ConfigResource
from xds.server.wire import Ready
from xds.store.resource import StoredResource

FEW = 4
"""First syncs with large chunks at a time; one proxy has one of its clusters, and one of its scopes."""


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """At most `bytes`, unless a single resource has more, and at most `names` resources."""

    bytes: int
    names: int


SMALL = ChunkSize(1 << 20, 4_000)
LARGE = ChunkSize(16 << 20, 64_000)


class Permit:
    """Held by a first sync with large chunks."""


class LargeChunks:
    """Gives permits to at most FEW first syncs at a time, of all gateways."""

    def __init__(self) -> None:
        self._held: WeakSet[Permit] = WeakSet()

    def permit(self) -> Permit | None:
        if len(self._held) >= FEW:
            return None
        permit = Permit()
        self._held.add(permit)
        return permit


@dataclass(slots=True, eq=False)
class Chunk:
    """Resources `start` to `stop` (exclusive) of a backlog made at change `seq`.

    `requires`: the types that the resources require; `newest`: the last change that added or removed a
    deployment of theirs. `plain`: each resource is offered as it is, none is quarantined. `proved`: some
    client has accepted the whole chunk.
    """

    seq: int
    start: int
    stop: int
    stored_resources: tuple[StoredResource, ...]
    resources: tuple[Ready, ...]
    entries: tuple[ConfigResource, ...]
    requires: frozenset[str]
    newest: int
    plain: bool
    proved: bool = False
    _looked: int = 0

    def unchanged(self, last: int) -> bool:
        """Whether no resource of the chunk has changed and it is plain; `last` is the table's last change."""
        if self.plain and last > max(self._looked, self.seq):
            self._looked = last
            self.plain = all(stored.seq <= self.seq for stored in self.stored_resources)
        return self.plain


@dataclass(slots=True, eq=False, weakref_slot=True)
class Backlog:
    """`chunks`: by the index of their first resource; `index`: that of each name. `small`: a small chunk
    takes everything."""

    seq: int
    stored_resources: tuple[StoredResource, ...]
    chunks: dict[int, Chunk]
    index: dict[str, int]
    small: bool


def backlog(stored_resources: Sequence[StoredResource], seq: int, most: ChunkSize) -> Backlog:
    """The backlog of a table's resources as of change `seq`."""
    wanted = tuple(stored for stored in stored_resources if stored.current or stored.offered)
    chunks: list[Chunk] = []
    start = size = total = 0
    for index, stored in enumerate(wanted):
        offered = stored.offered
        own = offered.size if offered else 0
        if index > start and (size + own > most.bytes or index - start >= most.names):
            chunks.append(_chunk(wanted, start, index, seq))
            start, size = index, 0
        size += own
        total += own
    if start < len(wanted):
        chunks.append(_chunk(wanted, start, len(wanted), seq))
    by_start = {chunk.start: chunk for chunk in chunks}
    index = {stored.name: index for index, stored in enumerate(wanted)}
    small = total <= SMALL.bytes and len(wanted) <= SMALL.names
    return Backlog(seq, wanted, by_start, index, small)


def _chunk(stored_resources: Sequence[StoredResource], start: int, stop: int, seq: int) -> Chunk:
    own = tuple(stored_resources[start:stop])
    resources = tuple(offered for stored in own if (offered := stored.offered))
    carried = [resource.deployments for resource in resources]
    return Chunk(
        seq,
        start,
        stop,
        own,
        resources,
        tuple(resource.entry for resource in resources),
        frozenset(key[0] for resource in resources for key in resource.entry.requires),
        max((change.seq for one in carried for change in (*one.added, *one.removed)), default=0),
        all(stored.reason is None and stored.current is not None for stored in own),
    )
