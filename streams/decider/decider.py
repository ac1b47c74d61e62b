"""The decider: consumes commands, writes events and outcomes; the only writer of its partition.

It folds the partition's events from the newest snapshot to the end before it decides. Events, outcomes and
the position in the commands are committed in one transaction; changes of an aborted transaction are rolled
back. A command id of an organization is decided once, over whichever interface the command came.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from time import perf_counter

from commands.decision import rejected
from commands.partition_state import PartitionState
from commands.rules import evolve
from schemas.catalog import EVENTS
from schemas.envelope import Envelope, MessageKey
from schemas.identity import timestamp
from schemas.outcome import Outcome
from schemas.upcasting import UnknownSchema, upcast
from streams.dead_letters import dead_letter, removed_messages
from streams.decider.admission import admitted, answerable, normalized
from streams.decider.decisions import Decisions
from streams.decider.event_clock import EventClock
from streams.decider.head import ChainHead
from streams.decider.skip_decisions import remedy, skipped
from streams.decider.snapshots import OWNER, SUBJECTS, content_of, of_head, restore
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
from streams.retry import Retry
from streams.subscription import Source, Subscription

logger = logging.getLogger("signalbox.decider")

BATCH_BYTES = 4_000_000
"""Once events and outcomes exceed this, a transaction takes no further command: a log limits the time of a
transaction."""


def _nobody(outcomes: Sequence[Outcome]) -> None:
    """The default: repeated commands are ignored."""


def _uncounted(many: int = 1) -> None:
    """The default: nothing is counted."""


Listener = Callable[[Sequence[tuple[Envelope, Outcome]], float], None]
"""Called with commands and their outcomes, once these are durable, and the seconds that the decision took.

Its exceptions are logged and counted, and not raised."""


@dataclass(slots=True)
class Decider:
    """The decider of a partition. `repeated` is called with the first outcomes of commands sent again."""

    log: Log
    partition: int
    source: str
    decided: Listener
    clock: Callable[[], str] = timestamp
    repeated: Callable[[Sequence[Outcome]], None] = _nobody
    listener_failed: Callable[[], None] = _uncounted
    """Counts exceptions of `decided` and `repeated`."""
    removed: Callable[[int], None] = _uncounted
    """Counts positions of commands that retention removed before they were read."""
    answer_again: bool = False
    """Appends the first outcome again when a command is sent again: its sender may wait for it on the log."""
    snapshot_every: int = 2_000
    batch: int = 256
    """Maximum number of commands per transaction, which takes all waiting ones and so grows with the load."""
    source_of_commands: Source | None = None
    """Where commands are read, if not from `log`: it may have commands that become durable with the
    transaction that consumes them."""
    partition_state: PartitionState = field(default_factory=PartitionState)
    head: ChainHead = field(default_factory=ChainHead)
    _kept: ChainHead = field(default_factory=ChainHead)
    """The chain head of the snapshots."""
    _tried_at: int = 0
    """The position of the last snapshot, written or failed."""
    _dirty: dict[str, None] = field(default_factory=dict[str, None])
    """Subjects that changed since their snapshots."""
    _ahead: Mapping[str, int] = field(default_factory=dict[str, int])
    """Positions of the snapshots that contain events after `_kept`, by subject."""
    _event_clock: EventClock = field(init=False)
    _deciding: bool = False
    """The partition state holds changes that may not be durable."""
    _uncertain: bool = False
    """Only a claim of the partition shows whether the last transaction is durable."""
    _position: int = 0
    """The position up to which commands are decided."""

    def __post_init__(self) -> None:
        self._event_clock = EventClock(self.partition)

    async def start(self) -> None:
        """Claims the partition and folds it to its end: in this order, or events of the previous writer would
        be missed.

        Raises LogDamaged when an event does not follow its predecessor, LogUnavailable.
        """
        await self.log.claim(self.partition)
        self.partition_state = PartitionState()
        self._dirty.clear()
        self._deciding = self._uncertain = False
        restored = restore(self.partition_state, *await self.log.snapshots(OWNER, self.partition))
        self.head = self._kept = restored.head
        self._ahead = restored.ahead
        self._tried_at = self.head.position
        await self._fold_rest()

    async def _fold_rest(self) -> None:
        end = await self.log.end("events", self.partition)
        if end < self.head.position:
            raise LogDamaged(
                f"events/{self.partition} ends at position {end} and its snapshot is of position "
                f"{self.head.position}: events were lost. Restore the log's data, or all of it from a backup."
            )
        while self.head.position < end:
            # Up to the end, not to the first read without records: the broker may show them a moment later.
            await self.log.wait("events", self.partition, self.head.position)
            for record in await self.log.read("events", self.partition, self.head.position, 1000):
                if record.fault is None:
                    self._fold(record)
                else:
                    await self._pass_over(record, record.fault)

    async def _pass_over(self, record: Record, fault: Fault) -> None:
        """Leaves an unreadable record out of the chain if an operator decided to skip it."""
        if not await skipped(self.log, self.partition, record.position):
            raise LogDamaged(
                f"events/{self.partition}, position {record.position}: a record that cannot be read "
                f"({fault.reason}). {remedy(self.partition, record.position)}"
            )
        logger.warning(
            "events/%d, position %d: skipped, as an operator decided", self.partition, record.position
        )
        self.head = self.head._replace(position=record.position)

    def _fold(self, record: Record) -> None:
        envelope = record.envelope
        if envelope.previoushash != self.head.hash:
            raise LogDamaged(
                f"events/{self.partition}, position {record.position}: the event does not follow its "
                "predecessor: the hash chain is broken. `signalbox doctor` shows details; restore a backup."
            )
        self.head = self.head.after(envelope, record.position)
        try:
            current = upcast(envelope)
        except UnknownSchema as error:
            raise LogDamaged(
                f"events/{self.partition}, position {record.position}: {error}. Its effects are unknown; "
                "start a version of Signalbox that can read it."
            ) from error
        # A snapshot that is ahead of the others contains the event already.
        if record.position > self._ahead.get(envelope.subject, 0):
            evolve(self.partition_state, EVENTS[current.type].of(current.data))
        self._dirty[envelope.subject] = None

    async def run(self) -> None:
        """Decides until cancelled, and waits while the log is unavailable; call `start` first.

        Raises Fenced, LogDamaged.
        """
        await self.commands().run((self.partition,))

    def commands(self) -> Subscription:
        """The consumer of the partition's commands."""
        return Subscription(
            self.source_of_commands or self.log,
            "commands",
            self._handle,
            start=self._begin,
            retry=Retry("deciding waits for the log", logger),
            batch=self.batch,
            read_ahead=True,
        )

    async def _begin(self, partition: int) -> int:
        if self._uncertain:
            await self.log.claim(partition)
            await self._fold_rest()
        self._uncertain = True
        self._position = await self._consumed()
        self._uncertain = False
        return self._position

    async def _handle(self, records: Sequence[Record]) -> None:
        if self._uncertain:
            await self._begin(self.partition)
        self._uncertain = True
        if records[0].position > self._position + 1:
            # A gap: of transactions of senders, or because retention removed records before this read.
            self._position = await self._past_removed(self._position, records[0].position)
        undecided = [record for record in records if record.position > self._position]
        if undecided:
            await self.decide(undecided, undecided[-1].position)
            self._position = undecided[-1].position
        self._uncertain = False

    async def _consumed(self) -> int:
        return await self._past_removed(await self.log.consumed(OWNER, "commands", self.partition))

    async def _past_removed(self, position: int, before: int | None = None) -> int:
        """The position to continue after. Reports and skips commands after `position` that retention removed,
        with `before` only those before that position. Raises Fenced, LogUnavailable."""
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

    async def stop(self) -> None:
        """Writes a snapshot of the changes since the last one; the log must still be open.

        Not after a cancelled transaction: only the log shows whether it is durable, and the next start folds
        it.
        """
        while self._dirty and not self._deciding:
            snapshots = self._snapshots(self.head)
            try:
                await self.log.commit(Transaction(snapshots=snapshots))
            except (LogUnavailable, Fenced, MessageTooLarge) as error:
                logger.error("no snapshot is kept, so the next start takes longer: %s", error)
                return
            self._keep(snapshots, self.head)

    async def decide(self, records: Sequence[Record], after: int) -> None:
        """Decides `records`, the last of which is at `after`, in as few transactions as can hold them.

        Raises Fenced, and LogUnavailable: then the state is as before the transaction that failed.
        """
        began = perf_counter()
        keys = [record.envelope.key for record in records if record.fault is None]
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

    async def _commit(
        self, records: Sequence[Record], after: int, known: Mapping[MessageKey, Outcome]
    ) -> tuple[Decisions, int]:
        """Decides the first of `records` (up to `after`) in one transaction; returns decisions and number.

        A transaction that is too large for the log is retried with fewer commands; a single command whose
        events are too large is rejected. Raises LogUnavailable, Fenced.
        """
        most, snapshots = len(records), True
        refused: MessageTooLarge | None = None
        while True:
            at = await self.log.next_position(self.partition)
            now = self._event_clock.after(self.head, self.clock())
            batch = Decisions(self.partition_state, self.head, self.source, now, at)
            self._deciding = True
            count = 1
            if refused is None:
                count = self._take(batch, records[:most], known)
            else:
                fault = Fault("too-large", f"the events of the command are too large. {refused}")
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

    def _take(self, batch: Decisions, records: Sequence[Record], known: Mapping[MessageKey, Outcome]) -> int:
        """Adds `records` to the batch until it is full; returns the number added, at least one."""
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
            # The outcomes are durable: a failing listener must not stop the decider.
            logger.exception("a listener of the decisions of partition %d failed", self.partition)
            self.listener_failed()

    def _rollback(self, batch: Decisions) -> None:
        self.partition_state.rollback(batch.changes)
        self._deciding = False

    def _reject(self, batch: Decisions, record: Record, fault: Fault, *, whole: bool = True) -> None:
        """Rejects the command; dead-letters it if no outcome can name it, without its body unless `whole`."""
        if answerable(record.envelope):
            batch.reject(normalized(record.envelope, batch.now), rejected(fault.rule, fault.reason))
        else:
            batch.dead_letter(dead_letter(record, fault, self.source, batch.now, whole=whole))

    def _snapshots(self, head: ChainHead) -> list[StateSnapshot]:
        """Snapshots of the subjects that wait longest, as many as a transaction takes. With the last of them,
        the position of all snapshots becomes `head`; until then it stays the previous one."""
        contents: dict[str, bytes] = {}
        size = 0
        for subject in islice(self._dirty, SUBJECTS):
            contents[subject] = content_of(self.partition_state, subject, head.position)
            size += len(contents[subject])
            if size > BATCH_BYTES:
                break
        head = head if len(contents) == len(self._dirty) else self._kept
        kept = [StateSnapshot(OWNER, self.partition, s, head.position, c) for s, c in contents.items()]
        return [of_head(head, self.partition), *kept]

    def _keep(self, snapshots: Sequence[StateSnapshot], head: ChainHead) -> None:
        """Records that these snapshots, taken at `head`, are durable."""
        for snapshot in snapshots:
            self._dirty.pop(snapshot.subject, None)
        if not self._dirty:
            self._kept, self._tried_at = head, head.position


async def decide_until(stop: asyncio.Event, decider: Decider, started: Callable[[], None]) -> None:
    """Starts a decider, calls `started`, decides until `stop` is set and then writes a snapshot.

    Raises Fenced, LogDamaged, LogUnavailable.
    """
    await decider.start()
    started()
    await decider.commands().run_until(stop, (decider.partition,))
    await decider.stop()
