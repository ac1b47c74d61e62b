"""The progress of one stream's first sync: all resources, in chunks, for a client that has none."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from xds.store.backlog import Backlog, Chunk, Permit
from xds.store.resource import StoredResource


@dataclass(slots=True, eq=False)
class FirstSync:
    """The client has answered the resources of `backlog` before index `at`; those in `separate` are sent
    separately. `chunk_next`: a chunk is sent next, not a pending resource. `permit`: its chunks are large."""

    backlog: Backlog | None = None
    at: int = 0
    separate: set[str] = field(default_factory=set[str])
    chunk_next: bool = True
    permit: Permit | None = None

    def begin(self, backlog: Backlog, permit: Permit | None) -> None:
        self.backlog, self.permit = backlog, permit

    def waits(self, name: str) -> bool:
        """Whether the name will be part of a chunk that has not been answered."""
        return (
            self.backlog is not None
            and self.backlog.index.get(name, -1) >= self.at
            and name not in self.separate
        )

    def take_out(self, name: str) -> bool:
        """Takes a name out of its chunk, to send it separately. Returns whether it was waiting in one."""
        waits = self.waits(name)
        if waits:
            self.separate.add(name)
        return waits

    def waiting(self) -> Iterator[StoredResource]:
        """The resources for which `waits` is true, in the order of sending."""
        for stored in self.backlog.stored_resources[self.at :] if self.backlog else ():
            if self.waits(stored.name):
                yield stored

    def next_chunk(self) -> Chunk | None:
        return self.backlog.chunks[self.at] if self.backlog else None

    def advance(self, chunk: Chunk) -> None:
        """Moves on to the next chunk; ends after the last."""
        self.at = chunk.stop
        if self.backlog and self.at == len(self.backlog.stored_resources):
            self.end()

    def end(self) -> None:
        self.backlog, self.permit, self.at = None, None, 0
        self.separate.clear()
