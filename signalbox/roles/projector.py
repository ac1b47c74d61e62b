"""Role `projector`: keeps the read models of the assigned partitions, and publishes the states of rollouts
and the liveness of gateways, which are derived from them."""

import asyncio

from projections.queries import ReadModels
from signalbox.roles.runtime import SOURCE, Runtime, Task
from signalbox.service_group import ServiceGroup
from streams.derived.liveness import LivenessPublisher
from streams.derived.rollouts import RolloutPublisher
from streams.projection import ProjectionRunner

GATHER_SECONDS = 0.2
"""A change reaches its stages within milliseconds, and shares the processors with its rollout: that waits
until the change serves, and is published once."""
WRITE_SECONDS = 0.025
"""In one process the read models are written once a change serves, with all that it caused, in one
transaction; who waits for them does not wait longer."""


async def start(runtime: Runtime, group: ServiceGroup) -> None:
    log = await runtime.log()
    database = await runtime.database()
    store = await database.store(group)
    read_models = ReadModels(store, partition_of=log.partition_of)
    group.callback(read_models.close)
    runner = ProjectionRunner(log, store, gather_seconds=WRITE_SECONDS if runtime.in_process else 0.0)
    runtime.add_readiness_check(lambda: runner.trouble or None)
    heartbeats = not runtime.in_process
    rollouts = RolloutPublisher(
        log,
        read_models,
        SOURCE,
        heartbeats=heartbeats,
        gather_seconds=GATHER_SECONDS,
    )
    liveness = LivenessPublisher(log, read_models, SOURCE, heartbeats=heartbeats)
    group.run("rollouts", _after_start(runtime, rollouts.run))
    group.run("liveness", _after_start(runtime, liveness.run))
    await database.host(runner, (rollouts, liveness), group)


async def _after_start(runtime: Runtime, publish: Task) -> None:
    """Publishes until the stop. That of one process stops its nodes, too: it is not reported of all that they
    serve, and taken back at the next start."""
    await runtime.others_started()
    publishing = asyncio.create_task(publish())
    stopping = asyncio.create_task(runtime.stopping.wait())
    try:
        ending = [publishing, stopping] if runtime.in_process else [publishing]
        await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            publishing.cancel()
        await publishing
    finally:
        publishing.cancel()
        stopping.cancel()
