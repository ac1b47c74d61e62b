"""How far one stream has come with what a client that has nothing gets in chunks."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from xds.store.backlog import Backlog, Chunk
from xds.store.resource import StoredResource


@dataclass(slots=True, eq=False)
class FirstSync:
    """Of `backlog` the client has got, and answered, what is before `at`; `separate` are names that are
    treated one by one instead. `chunk_next`: it is a chunk's turn, not that of what is pending."""

    backlog: Backlog | None = None
    at: int = 0
    separate: set[str] = field(default_factory=set[str])
    chunk_next: bool = True

    def waits(self, name: str) -> bool:
        """Whether the name will be part of a chunk that has not been answered."""
        return (
            self.backlog is not None
            and self.backlog.index.get(name, -1) >= self.at
            and name not in self.separate
        )

    def take_out(self, name: str) -> bool:
        """Takes a name out of its chunk, to be treated on its own. Whether it waited in one."""
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
        """Goes on to what comes after the chunk."""
        self.at = chunk.stop
        if self.backlog and self.at == len(self.backlog.stored_resources):
            self.end()

    def end(self) -> None:
        self.backlog, self.at = None, 0
        self.separate.clear()
