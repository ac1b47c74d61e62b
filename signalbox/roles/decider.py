"""Role `decider`: decides the commands of the partitions that are assigned to this process."""

from collections.abc import Callable, Sequence
from functools import partial

from schemas.envelope import Envelope
from schemas.outcome import Outcome
from signalbox.observability.tracing import ChangeTraces
from signalbox.roles.runtime import SOURCE, Runtime
from signalbox.service_group import ServiceGroup
from streams.decider.decider import Decider, decide_until
from streams.log import Log
from streams.partition_workers import Assignment, PartitionWorkers

BATCH = 1_000
"""Maximum commands per transaction on Kafka, whose cost for the broker hardly depends on their number."""
FINISH_SECONDS = 10.0
"""Time limit to finish a batch when its partition is assigned to another process."""


async def start(runtime: Runtime, group: ServiceGroup) -> None:
    log = await runtime.log()
    changes = ChangeTraces(runtime.telemetry)
    # A deployment is measured by the process that decided it. Only deployments that are decided from now on
    # are measured.
    await runtime.follow_reports(changes.reported, group)
    change_log = runtime.change_log

    def decided(decisions: Sequence[tuple[Envelope, Outcome]], seconds: float) -> None:
        runtime.decided([outcome for _, outcome in decisions])
        changes.decided(decisions, seconds)
        change_log.decided(decisions)

    def decider(partition: int) -> Decider:
        made = Decider(
            log,
            partition,
            SOURCE,
            decided,
            listener_failed=partial(runtime.telemetry.listener_failures.add, 1),
            removed=runtime.telemetry.removed_unread.add,
        )
        if runtime.in_process:
            made.repeated = runtime.decided
            made.source_of_commands = runtime.command_source()
        else:
            made.answer_again, made.batch = True, BATCH
        return made

    work = partition_deciders(decider, log)
    runtime.add_readiness_check(work.trouble)
    await runtime.run_partitions("decider", "commands", work, group)


def partition_deciders(decider: Callable[[int], Decider], log: Log) -> PartitionWorkers:
    """Creates a decider for each assigned partition."""

    async def decide(assignment: Assignment) -> None:
        await decide_until(assignment.revoked, decider(assignment.partition), assignment.ready)

    return PartitionWorkers("decided", decide, log.release, finish_seconds=FINISH_SECONDS)
