"""A decider on a real log, and commands for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from schemas.catalog import subject_of
from schemas.envelope import Envelope
from schemas.identity import timestamp, uuid7
from schemas.message import Command
from schemas.outcome import Outcome
from streams.decider.decider import Decider
from streams.sqlite.log import SqliteLog


def envelope(command: Command, id: str | None = None) -> Envelope:
    id = id or uuid7()
    return Envelope(
        id=id,
        type=command.type(),
        source="/test",
        subject=subject_of(command, id),
        time=timestamp(),
        partitionkey=command.organization,
        data=command.data(),
        authid="tester",
    )


@dataclass
class Desk:
    """Hands commands to a decider and answers what became of them."""

    log: SqliteLog
    decider: Decider
    notified: list[Outcome] = field(default_factory=list[Outcome])
    position: int = 0

    async def decide(self, *envelopes: Envelope) -> list[Outcome]:
        """All in one transaction."""
        await self.log.append("commands", envelopes)
        records = await self.log.read("commands", 0, self.position, 1000)
        await self.decider.decide(records, records[-1].position)
        self.position = records[-1].position
        notified, self.notified = self.notified, []
        return notified

    async def events(self) -> list[Envelope]:
        return [r.envelope for r in await self.log.read("events", 0, 0, 10_000)]


@asynccontextmanager
async def desk(directory: Path, snapshot_every: int = 2_000) -> AsyncIterator[Desk]:
    log = await SqliteLog.open(directory)
    try:
        decider = Decider(log, 0, "/test", lambda done, _: None, snapshot_every=snapshot_every)
        made = Desk(log, decider)
        decider.decided = lambda done, _: made.notified.extend(outcome for _, outcome in done)
        decider.repeated = lambda outcomes: made.notified.extend(outcomes)
        await decider.start()
        made.position = await log.consumed("decider", "commands", 0)
        yield made
    finally:
        await log.close()
