"""The resources of one type of a gateway, and the order of their changes."""

from weakref import ReferenceType, ref

from xds.store.backlog import Backlog, ChunkSize, backlog
from xds.store.resource import StoredResource

TOMBSTONES = 1000
"""Tombstones kept per type whatever their age; further ones are kept while a stream needs them."""


class Table:
    """The resources of one type, in the order of their last change."""

    def __init__(self) -> None:
        self.stored_resources: dict[str, StoredResource] = {}
        self.last = 0
        self.removed = 0
        self.carrying = 0
        """Number of resources that carry deployments."""
        self._backlogs: dict[ChunkSize, ReferenceType[Backlog]] = {}

    def since(self, cursor: int) -> list[StoredResource]:
        """The resources that changed after `cursor`, oldest change first."""
        found: list[StoredResource] = []
        for stored in reversed(self.stored_resources.values()):
            if stored.seq <= cursor:
                break
            found.append(stored)
        found.reverse()
        return found

    def backlog(self, most: ChunkSize) -> Backlog:
        """All resources offered now, in chunks; the same object until the next change."""
        found = self._backlogs.get(most)
        known = found() if found else None
        if known is None or known.seq != self.last:
            known = backlog(tuple(self.stored_resources.values()), self.last, most)
            self._backlogs[most] = ref(known)
        return known

    def prune(self, seen: int) -> None:
        """Deletes the oldest tombstones, but none of a change after `seen`, which a stream still needs."""
        for stored in list(self.stored_resources.values()):
            if self.removed <= TOMBSTONES // 2 or stored.seq > seen:
                break
            if stored.gone and not stored.pins:
                del self.stored_resources[stored.name]
                self.removed -= 1
