"""The decider loop: commands in, events and outcomes out, one writer per partition.

It folds the partition's events from the newest snapshot to the end, and only then decides. Events,
outcomes and the position in the commands become durable in one transaction; what an aborted
transaction evolved is taken back. A command id is decided once, on whichever path it came.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from commands.rules import evolve
from commands.world import World
from schemas.catalog import EVENTS
from schemas.envelope import Envelope
from schemas.identity import timestamp
from schemas.outcome import Outcome
from schemas.upcasting import upcast
from streams.decisions import Decisions
from streams.head import Head
from streams.log import Append, Consumed, Log, LogDamaged, LogUnavailable, Record, Snapshot, Transaction
from streams.snapshots import OWNER, of_head, of_subject, restore

logger = logging.getLogger("signalbox.decider")

BATCH = 256
RETRY_SECONDS = 0.5


def _nobody(outcomes: Sequence[Outcome]) -> None:
    """Nobody asks again."""


Listener = Callable[[Sequence[tuple[Envelope, Outcome]], float], None]
"""Told of commands and what became of them, once that is durable, and how many seconds it took."""


@dataclass(slots=True)
class Decider:
    """One partition's decider. `repeated` hears the first answers to ids that were asked again."""

    log: Log
    partition: int
    source: str
    decided: Listener
    clock: Callable[[], str] = timestamp
    repeated: Callable[[Sequence[Outcome]], None] = _nobody
    snapshot_every: int = 2_000
    world: World = field(default_factory=World)
    head: Head = field(default_factory=Head)
    finishing: bool = False
    """No further batch is begun."""
    _snapshot_at: int = 0
    _dirty: dict[str, None] = field(default_factory=dict[str, None])
    _deciding: bool = False
    """The world holds changes that may not be durable."""

    async def start(self) -> None:
        """Folds the partition to its end.

        Raises LogDamaged when an event does not follow its predecessor.
        """
        self.world = World()
        self._dirty.clear()
        self._deciding = False
        at, kept = await self.log.snapshots(OWNER, self.partition)
        self.head = restore(self.world, at, kept)
        self._snapshot_at = self.head.position
        while records := await self.log.read("events", self.partition, self.head.position, 1000):
            for record in records:
                self._fold(record)

    def _fold(self, record: Record) -> None:
        envelope = record.envelope
        if envelope.previoushash != self.head.hash:
            raise LogDamaged(
                f"events/{self.partition}, position {record.position}: the event does not follow its "
                "predecessor (the chain of hashes is broken). `signalbox doctor` says more; restore a backup."
            )
        self.head = self.head.after(envelope, record.position)
        current = upcast(envelope)
        before = evolve(self.world, EVENTS[current.type].of(current.data))
        self._dirty[before.subject] = None

    @property
    def deciding(self) -> bool:
        """A batch is on its way to the log."""
        return self._deciding

    async def run(self) -> None:
        """Decides until cancelled, or the batch after which it is `finishing`; `start` comes first."""
        position = await self.log.consumed(OWNER, "commands", self.partition)
        while not self.finishing:
            await self.log.wait("commands", self.partition, position)
            records = await self.log.read("commands", self.partition, position, BATCH)
            after = records[-1].position
            if await self.decide(records, after):
                position = after
            else:
                await asyncio.sleep(RETRY_SECONDS)

    async def stop(self) -> None:
        """Keeps a snapshot of what changed since the last one; the log must still be open.

        Not when deciding was cut short: whether that happened is on the log alone, and folded at the start.
        """
        if self._dirty and not self._deciding:
            try:
                await self.log.commit(Transaction(snapshots=self._snapshots(self.head)))
            except LogUnavailable as error:
                logger.error("no snapshot is kept, so the next start takes longer: %s", error)
            else:
                self._dirty.clear()

    async def decide(self, records: Sequence[Record], after: int) -> bool:
        """Decides `records`, the last of which is at `after`, in one transaction.

        False when the log refused it: nothing happened, and the same may be tried again.
        """
        began = perf_counter()
        known = await self.log.find_all("outcomes", [r.envelope.id for r in records])
        batch = Decisions(self.world, self.head, self.source, self.clock)
        self._deciding = True
        first = {id: Outcome.of(record.envelope.data) for id, record in known.items()}
        for record in records:
            batch.take(record.envelope, first.get(record.envelope.id))
        for before in batch.changes:
            self._dirty[before.subject] = None
        snapshots: Sequence[Snapshot] = ()
        if batch.head.position - self._snapshot_at >= self.snapshot_every:
            snapshots = self._snapshots(batch.head)
        appends: list[Append] = []
        if batch.events:
            appends.append(Append("events", self.partition, batch.events, expected=self.head.position))
        if batch.outcomes or batch.reused:
            appends.append(Append("outcomes", self.partition, batch.outcome_envelopes()))
        consumed = (Consumed(OWNER, "commands", self.partition, after),)
        try:
            await self.log.commit(Transaction(appends, consumed, snapshots))
        except LogUnavailable as error:
            logger.error("deciding waits for the log: %s", error)
            self.world.undo(batch.changes)
            self._deciding = False
            return False
        self.head = batch.head
        self._deciding = False
        if snapshots:
            self._dirty.clear()
            self._snapshot_at = self.head.position
        self.decided(tuple(batch.outcomes.values()), perf_counter() - began)
        if known:
            self.repeated(list(first.values()))
        return True

    def _snapshots(self, head: Head) -> list[Snapshot]:
        kept = [of_subject(self.world, self.partition, subject, head.position) for subject in self._dirty]
        return [of_head(head, self.partition), *kept]
