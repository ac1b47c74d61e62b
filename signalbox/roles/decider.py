"""Role `decider`: decides the commands of the partitions that its group gives this process."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from pydantic import ValidationError

from schemas.envelope import Envelope
from schemas.outcome import Outcome
from schemas.status import DeliveryReported
from signalbox.observability.tracing import ChangeTraces
from signalbox.roles.runtime import SOURCE, Runtime
from signalbox.service_group import ServiceGroup
from streams.decider import Decider
from streams.kafka.log import KafkaLog
from streams.kafka.membership import Membership
from streams.log import Fenced, LogDamaged, LogUnavailable, Record
from streams.subscription import Subscription, end_of

GROUP = "decider"
BATCH = 1_000
"""Commands of a transaction, which costs the broker nearly the same whatever is in it."""
RETRY_SECONDS = 1.0
DAMAGED_SECONDS = 60.0
FINISH_SECONDS = 10.0
"""How long a batch may take to be finished when its partition goes to another process."""

Decided = Callable[[Sequence[tuple[Envelope, Outcome]], float], None]
logger = logging.getLogger("signalbox.decider")


async def start(runtime: Runtime, group: ServiceGroup) -> None:
    log = await runtime.log()
    changes = ChangeTraces(runtime.telemetry)

    # Deployments are measured where they were decided, for that is one process.
    async def measure(records: Sequence[Record]) -> None:
        changes.reported(_reports(records))

    # It begins at the end: only what is decided from now on is measured.
    answers = Subscription(log, "status", measure, start=end_of(log, "status"))
    await runtime.retry("the status topic", answers.open, LogUnavailable)
    group.run("status", answers.run())
    change_log = runtime.change_log

    def decided(decisions: Sequence[tuple[Envelope, Outcome]], seconds: float) -> None:
        changes.decided(decisions, seconds)
        change_log.decided(decisions)

    deciding = PartitionDeciders(
        log,
        decided,
        partial(runtime.telemetry.listener_failures.add, 1),
        runtime.telemetry.removed_unread.add,
    )
    runtime.add_readiness_check(deciding.trouble)
    membership = Membership(runtime.kafka, GROUP, "commands", deciding.assigned, deciding.revoked)
    deciding.rejoin = membership.rejoin
    group.run("the deciders' group", membership.run())
    await group.wait(membership.joined.wait())


def _reports(records: Sequence[Record]) -> list[DeliveryReported]:
    """The reports of deliveries among status records; invalid ones are left out."""
    reports: list[DeliveryReported] = []
    for record in records:
        if record.fault is None and record.envelope.type == DeliveryReported.type():
            with suppress(ValidationError):
                reports.append(DeliveryReported.of(record.envelope.data))
    return reports


def _nothing() -> None:
    """The default: there is no callback."""


def _uncounted(many: int) -> None:
    """The default: nothing is counted."""


class PartitionDeciders:
    """A decider for each assigned partition. `rejoin` makes the consumer rejoin its group."""

    def __init__(
        self,
        log: KafkaLog,
        decided: Decided,
        listener_failed: Callable[[], None] = _nothing,
        removed: Callable[[int], None] = _uncounted,
    ) -> None:
        self._log = log
        self._decided = decided
        self._listener_failed = listener_failed
        self._removed = removed
        self.rejoin: Callable[[], None] = _nothing
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._finish: dict[int, asyncio.Event] = {}
        self._troubles: dict[int, str] = {}

    async def assigned(self, partition: int) -> None:
        logger.info("partition %d is decided here", partition)
        self._troubles[partition] = f"partition {partition} is being folded"
        finish = self._finish[partition] = asyncio.Event()
        task = asyncio.create_task(self._hold(partition, finish), name=f"decider {partition}")
        self._tasks[partition] = task

    async def revoked(self, partition: int) -> None:
        """Returns when this process has stopped deciding the partition."""
        task, finish = self._tasks.pop(partition), self._finish.pop(partition)
        finish.set()
        await asyncio.wait([task], timeout=FINISH_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self._log.release(partition)
        self._troubles.pop(partition, None)
        logger.info("partition %d is no longer decided here", partition)

    def trouble(self) -> str | None:
        return next((why for why in self._troubles.values() if why), None)

    async def _hold(self, partition: int, finish: asyncio.Event) -> None:
        """Decides until `finish` is set; retries when the log fails."""
        while not finish.is_set():
            pause, trouble = RETRY_SECONDS, "the decider failed; the log says why"
            try:
                await self._decide(partition, finish)
                return
            except Fenced:
                # The state is dropped. The group knows the new owner of the partition.
                logger.warning("partition %d has been claimed by another process", partition)
                self._troubles[partition] = ""
                await _either(finish, RETRY_SECONDS)
                self.rejoin()
                await finish.wait()
                return
            except LogUnavailable as error:
                logger.warning("partition %d is not decided: %s", partition, error)
                trouble = str(error)
            except LogDamaged as error:
                # Only an operator can repair it: another process would find the same damage.
                logger.error("partition %d is not decided: %s", partition, error)
                pause, trouble = DAMAGED_SECONDS, str(error)
            except Exception:
                logger.exception("partition %d: the decider failed and starts anew", partition)
            self._troubles[partition] = f"partition {partition} is not decided: {trouble}"
            await _either(finish, pause)

    async def _decide(self, partition: int, finish: asyncio.Event) -> None:
        decider = Decider(
            self._log,
            partition,
            SOURCE,
            self._decided,
            listener_failed=self._listener_failed,
            removed=self._removed,
            answer_again=True,
            batch=BATCH,
        )
        finishing = asyncio.create_task(finish.wait())
        working = asyncio.create_task(decider.start(), name=f"folding {partition}")
        try:
            await asyncio.wait([working, finishing], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                return
            working.result()
            self._troubles[partition] = ""
            working = asyncio.create_task(decider.run(), name=f"deciding {partition}")
            await asyncio.wait([working, finishing], return_when=asyncio.FIRST_COMPLETED)
            decider.finishing = True
            if not decider.deciding:
                working.cancel()
            await asyncio.wait([working])
            if not working.cancelled():
                working.result()
        finally:
            for task in (working, finishing):
                task.cancel()
            await asyncio.gather(working, finishing, return_exceptions=True)
        await decider.stop()


async def _either(finish: asyncio.Event, seconds: float) -> None:
    """Waits until `finish` is set, for at most `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await finish.wait()
    except TimeoutError:
        return
