"""The resources of one type of a gateway, and what changed since when."""

from weakref import ReferenceType, ref

from xds.backlog import Backlog, backlog
from xds.slot import Slot

TOMBSTONES = 1000
"""Removed names that are remembered per type, however old; younger ones as long as a stream needs them."""


class Table:
    """The slots of one type, in the order of their last change."""

    def __init__(self) -> None:
        self.slots: dict[str, Slot] = {}
        self.last = 0
        self.removed = 0
        self.carrying = 0
        """How many resources carry deployments."""
        self._backlog: ReferenceType[Backlog] | None = None

    def since(self, cursor: int) -> list[Slot]:
        """What changed after `cursor`, oldest change first."""
        found: list[Slot] = []
        for slot in reversed(self.slots.values()):
            if slot.seq <= cursor:
                break
            found.append(slot)
        found.reverse()
        return found

    def backlog(self) -> Backlog:
        """What is offered now; the same for all who ask before the next change."""
        known = self._backlog() if self._backlog else None
        if known is None or known.seq != self.last:
            known = backlog(tuple(self.slots.values()), self.last)
            self._backlog = ref(known)
        return known

    def prune(self, seen: int) -> None:
        """Forgets the oldest tombstones; not those of changes after `seen`, which a stream still needs."""
        for slot in list(self.slots.values()):
            if self.removed <= TOMBSTONES // 2 or slot.seq > seen:
                break
            if slot.gone and not slot.pins:
                del self.slots[slot.name]
                self.removed -= 1
