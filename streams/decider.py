"""The decider loop: commands in, events and outcomes out, one writer per partition.

It folds the partition's events from the newest snapshot to the end, and only then decides. Events,
outcomes and the position in the commands become durable in one transaction; what an aborted
transaction evolved is taken back. A command id (of an organization) is decided once, on whichever path
it came.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from time import perf_counter

from commands.decision import rejected
from commands.partition_state import PartitionState
from commands.rules import evolve
from schemas.catalog import EVENTS
from schemas.envelope import Envelope, Key
from schemas.identity import timestamp
from schemas.outcome import Outcome
from schemas.upcasting import UnknownSchema, upcast
from streams.admission import admitted, answerable, normalized
from streams.dead_letters import dead_letter, removed_messages
from streams.decisions import Decisions
from streams.head import ChainHead
from streams.log import (
    Append,
    Consumed,
    Fault,
    Fenced,
    Log,
    LogDamaged,
    LogUnavailable,
    MessageTooLarge,
    Record,
    StateSnapshot,
    Transaction,
)
from streams.skip_decisions import remedy, skipped
from streams.snapshots import OWNER, SUBJECTS, of_head, of_subject, restore

logger = logging.getLogger("signalbox.decider")

RETRY_SECONDS = 0.5
BATCH_BYTES = 4_000_000
"""Once events and outcomes of a transaction exceed this, it takes no further command: a log has only so much
time for a transaction."""


def _nobody(outcomes: Sequence[Outcome]) -> None:
    """Nobody asks again."""


def _uncounted(many: int = 1) -> None:
    """Nobody counts."""


Listener = Callable[[Sequence[tuple[Envelope, Outcome]], float], None]
"""Told of commands and what became of them, once that is durable, and how many seconds it took.

What it raises is logged and counted, and goes no further."""


@dataclass(slots=True)
class Decider:
    """One partition's decider. `repeated` hears the first answers to ids that were asked again."""

    log: Log
    partition: int
    source: str
    decided: Listener
    clock: Callable[[], str] = timestamp
    repeated: Callable[[Sequence[Outcome]], None] = _nobody
    listener_failed: Callable[[], None] = _uncounted
    """Counts what `decided` and `repeated` raise."""
    removed: Callable[[int], None] = _uncounted
    """Counts positions of commands that retention removed before they were read."""
    answer_again: bool = False
    """Puts the first outcome on the log once more for whoever asks again: it may wait there for it."""
    snapshot_every: int = 2_000
    batch: int = 256
    """The most commands of a transaction; it takes what has come meanwhile, so it grows with the load."""
    partition_state: PartitionState = field(default_factory=PartitionState)
    head: ChainHead = field(default_factory=ChainHead)
    finishing: bool = False
    """No further batch is begun."""
    _kept: ChainHead = field(default_factory=ChainHead)
    """What the snapshots stand for."""
    _tried_at: int = 0
    """Where a snapshot was kept last, or could not be."""
    _dirty: dict[str, None] = field(default_factory=dict[str, None])
    """Subjects that changed since their snapshots."""
    _ahead: Mapping[str, int] = field(default_factory=dict[str, int])
    """Subjects whose snapshots hold events after `_kept`, and up to where."""
    _behind: bool = False
    """The clock is behind the last event."""
    _deciding: bool = False
    """The partition state holds changes that may not be durable."""

    async def start(self) -> None:
        """Claims the partition and folds it to its end: in this order, or events of the writer before
        would be missed.

        Raises LogDamaged when an event does not follow its predecessor, LogUnavailable.
        """
        await self.log.claim(self.partition)
        self.partition_state = PartitionState()
        self._dirty.clear()
        self._deciding = False
        at, kept = await self.log.snapshots(OWNER, self.partition)
        restored = restore(self.partition_state, at, kept)
        self.head = self._kept = restored.head
        self._ahead = restored.ahead
        self._tried_at = self.head.position
        await self._fold_rest()

    async def _fold_rest(self) -> None:
        end = await self.log.end("events", self.partition)
        if end < self.head.position:
            raise LogDamaged(
                f"events/{self.partition} ends at position {end} and its snapshot stands for "
                f"{self.head.position}: events were lost. Restore the log's data, or all of it from a backup."
            )
        while self.head.position < end:
            # The end counts, not the first read without records: the broker may show them a moment later.
            await self.log.wait("events", self.partition, self.head.position)
            for record in await self.log.read("events", self.partition, self.head.position, 1000):
                if record.fault is None:
                    self._fold(record)
                else:
                    await self._pass_over(record, record.fault)

    async def _pass_over(self, record: Record, fault: Fault) -> None:
        """A record that cannot be read stays out of the chain when somebody decided so."""
        if not await skipped(self.log, self.partition, record.position):
            raise LogDamaged(
                f"events/{self.partition}, position {record.position}: a record that cannot be read "
                f"({fault.reason}). {remedy(self.partition, record.position)}"
            )
        logger.warning("events/%d, position %d: skipped, as was decided", self.partition, record.position)
        self.head = self.head._replace(position=record.position)

    def _fold(self, record: Record) -> None:
        envelope = record.envelope
        if envelope.previoushash != self.head.hash:
            raise LogDamaged(
                f"events/{self.partition}, position {record.position}: the event does not follow its "
                "predecessor (the chain of hashes is broken). `signalbox doctor` says more; restore a backup."
            )
        self.head = self.head.after(envelope, record.position)
        try:
            current = upcast(envelope)
        except UnknownSchema as error:
            raise LogDamaged(
                f"events/{self.partition}, position {record.position}: {error}. What follows from it is not "
                "known; start a version of Signalbox that can read it."
            ) from error
        # A snapshot that is ahead of the others holds the event already.
        if record.position > self._ahead.get(envelope.subject, 0):
            evolve(self.partition_state, EVENTS[current.type].of(current.data))
        self._dirty[envelope.subject] = None

    @property
    def deciding(self) -> bool:
        """A batch is on its way to the log."""
        return self._deciding

    async def run(self) -> None:
        """Decides until cancelled, or the batch after which it is `finishing`; `start` comes first.

        Raises Fenced, LogDamaged, LogUnavailable.
        """
        position = await self._consumed()
        ahead: asyncio.Task[Sequence[Record]] | None = None
        try:
            while not self.finishing:
                records = await (ahead or self._next(position))
                if records[0].position > position + 1:
                    # Transactions of those who command leave gaps too, or retention went past this decider.
                    await self._past_removed(position, records[0].position)
                position = records[-1].position
                # With more waiting than a transaction takes, it is read while the log is busy with this one;
                # else whatever comes meanwhile had better be in the next batch.
                ahead = asyncio.create_task(self._next(position)) if len(records) >= self.batch else None
                if not await self.decide(records, position):
                    await _ended(ahead)
                    ahead, position = None, await self._resume()
        finally:
            await _ended(ahead)

    async def _next(self, position: int) -> Sequence[Record]:
        """The next batch, as soon as there is one."""
        await self.log.wait("commands", self.partition, position)
        return await self.log.read("commands", self.partition, position, self.batch)

    async def _consumed(self) -> int:
        return await self._past_removed(await self.log.consumed(OWNER, "commands", self.partition))

    async def _past_removed(self, position: int, before: int | None = None) -> int:
        """Where to go on after `position`; commands that retention removed there are reported and given up,
        those that stood before `before` when it is given. Raises Fenced, LogUnavailable."""
        first = await self.log.first("commands", self.partition)
        last = (first if before is None else min(first, before)) - 1
        if last <= position:
            return position
        report = removed_messages("commands", self.partition, position, last, self.source, self.clock())
        consumed = Consumed(OWNER, "commands", self.partition, last)
        await self.log.commit(Transaction((Append("parked", self.partition, [report]),), (consumed,)))
        logger.error("commands are lost: %s", report.data["reason"])
        self._notify(partial(self.removed, last - position))
        return last

    async def _resume(self) -> int:
        """Finds out what became of the last transaction; where to go on in the commands."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                await self.log.claim(self.partition)
                await self._fold_rest()
                return await self._consumed()
            except LogUnavailable as error:
                logger.error("deciding waits for the log: %s", error)

    async def stop(self) -> None:
        """Keeps a snapshot of what changed since the last one; the log must still be open.

        Not when deciding was cut short: whether that happened is on the log alone, and folded at the start.
        """
        while self._dirty and not self._deciding:
            snapshots = self._snapshots(self.head)
            try:
                await self.log.commit(Transaction(snapshots=snapshots))
            except (LogUnavailable, Fenced, MessageTooLarge) as error:
                logger.error("no snapshot is kept, so the next start takes longer: %s", error)
                return
            self._keep(snapshots, self.head)

    async def decide(self, records: Sequence[Record], after: int) -> bool:
        """Decides `records`, the last of which is at `after`, in as few transactions as can hold them.

        False when the log could not say that one is durable: what that evolved is taken back. Raises Fenced.
        """
        began = perf_counter()
        keys = [record.envelope.key for record in records if record.fault is None]
        try:
            found = await self.log.find_all("outcomes", keys)
            known = {key: Outcome.of(record.envelope.data) for key, record in found.items()}
            waiting = records
            while waiting:
                batch, count = await self._commit(waiting, after, known)
                repeated = [known[r.envelope.key] for r in waiting[:count] if r.envelope.key in known]
                known.update({key: outcome for key, (_, outcome) in batch.outcomes.items()})
                waiting = waiting[count:]
                self._notify(partial(self.decided, tuple(batch.outcomes.values()), perf_counter() - began))
                if repeated:
                    self._notify(partial(self.repeated, repeated))
        except LogUnavailable as error:
            logger.error("deciding waits for the log: %s", error)
            return False
        return True

    def _now(self) -> str:
        """The time, and never before that of an event: what was so at a time stays so when the clock is put
        back."""
        now = self.clock()
        if now >= self.head.time:
            self._behind = False
            return now
        if not self._behind:
            self._behind = True
            logger.warning(
                "the clock says %s, and the last event of partition %d is from %s: events have that time "
                "until the clock is past it",
                now,
                self.partition,
                self.head.time,
            )
        return self.head.time

    async def _commit(
        self, records: Sequence[Record], after: int, known: Mapping[Key, Outcome]
    ) -> tuple[Decisions, int]:
        """Decides the first of `records`, which end at `after`, in one transaction; how many these are.

        What the log refuses as too large is found by trying with less: a command that is too large alone is
        rejected. Raises LogUnavailable, Fenced.
        """
        most, snapshots = len(records), True
        refused: MessageTooLarge | None = None
        while True:
            at = await self.log.next_position(self.partition)
            batch = Decisions(self.partition_state, self.head, self.source, self._now(), at)
            self._deciding = True
            count = 1
            if refused is None:
                count = self._take(batch, records[:most], known)
            else:
                fault = Fault("too-large", f"what follows from the command is too large. {refused}")
                self._reject(batch, records[0], fault, whole=False)
            for before in batch.changes:
                self._dirty[before.subject] = None
            consumed = after if count == len(records) else records[count - 1].position
            transaction = self._transaction(batch, consumed, snapshots=snapshots)
            try:
                await self.log.commit(transaction)
            except (LogUnavailable, Fenced):
                self._rollback(batch)
                raise
            except MessageTooLarge as error:
                self._rollback(batch)
                if transaction.snapshots:
                    logger.error("no snapshot is kept, so the next start takes longer: %s", error)
                    snapshots, self._tried_at = False, batch.head.position
                elif count > 1:
                    most = count // 2
                elif refused is None:
                    refused = error
                else:
                    raise
                continue
            self.head = batch.head
            self._deciding = False
            if transaction.snapshots:
                self._keep(transaction.snapshots, self.head)
            return batch, count

    def _take(self, batch: Decisions, records: Sequence[Record], known: Mapping[Key, Outcome]) -> int:
        """Adds `records` to the batch until it is full; how many these are, one at least."""
        for number, record in enumerate(records):
            if batch.size > BATCH_BYTES:
                return number
            command = admitted(record, batch.now)
            if isinstance(command, Fault):
                self._reject(batch, record, command)
            else:
                batch.take(command, known.get(command.key))
        return len(records)

    def _transaction(self, batch: Decisions, consumed: int, *, snapshots: bool) -> Transaction:
        appends: list[Append] = []
        if batch.events:
            appends.append(
                Append("events", self.partition, batch.events, expected=self.head.position, first=batch.first)
            )
        if outcomes := batch.outcome_envelopes(again=self.answer_again):
            appends.append(Append("outcomes", self.partition, outcomes))
        if batch.dead_letters:
            appends.append(Append("parked", self.partition, batch.dead_letters))
        due = snapshots and batch.head.position - self._tried_at >= self.snapshot_every
        kept = self._snapshots(batch.head) if due else ()
        return Transaction(appends, (Consumed(OWNER, "commands", self.partition, consumed),), kept)

    def _notify(self, listener: Callable[[], None]) -> None:
        try:
            listener()
        except Exception:
            # The outcomes are durable: deciding goes on whatever a listener makes of them.
            logger.exception("a listener failed on what was decided in partition %d", self.partition)
            self.listener_failed()

    def _rollback(self, batch: Decisions) -> None:
        self.partition_state.rollback(batch.changes)
        self._deciding = False

    def _reject(self, batch: Decisions, record: Record, fault: Fault, *, whole: bool = True) -> None:
        """Tells the sender where that is possible, and keeps what nobody can be told of.

        Without `whole` the message's body is left out.
        """
        if answerable(record.envelope):
            batch.reject(normalized(record.envelope, batch.now), rejected(fault.rule, fault.reason))
        else:
            batch.dead_letter(dead_letter(record, fault, self.source, batch.now, whole=whole))

    def _snapshots(self, head: ChainHead) -> list[StateSnapshot]:
        """Of the subjects that wait longest, as many as a transaction takes. With the last of them, all
        snapshots stand for `head`; until then for what they stood for before."""
        kept: list[StateSnapshot] = []
        size = 0
        for subject in islice(self._dirty, SUBJECTS):
            kept.append(of_subject(self.partition_state, self.partition, subject, head.position))
            size += len(kept[-1].state)
            if size > BATCH_BYTES:
                break
        if len(kept) < len(self._dirty):
            head = self._kept
            kept = [replace(snapshot, position=head.position) for snapshot in kept]
        return [of_head(head, self.partition), *kept]

    def _keep(self, snapshots: Sequence[StateSnapshot], head: ChainHead) -> None:
        """Notes that these are durable, taken at `head`."""
        for snapshot in snapshots:
            self._dirty.pop(snapshot.subject, None)
        if not self._dirty:
            self._kept, self._tried_at = head, head.position


async def _ended(task: asyncio.Task[Sequence[Record]] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
