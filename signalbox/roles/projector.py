"""Role `projector`: keeps the read models of the partitions that its group assigns to this process, and
publishes rollout status and liveness."""

import asyncio

from sqlalchemy.exc import DBAPIError

from projections.catalog import DERIVED, READ_MODELS
from projections.queries import ReadModels
from projections.store import Store, open_store
from signalbox.roles.runtime import SOURCE, Runtime
from signalbox.service_group import ServiceGroup
from streams.faust.host import FaustHost
from streams.faust.liveness import LivenessPublisher
from streams.faust.rollouts import RolloutPublisher
from streams.projection import ProjectionRunner

MODELS = (*READ_MODELS, *DERIVED)


async def start(runtime: Runtime, group: ServiceGroup) -> None:
    """Returns when the group has assigned partitions to this process."""
    log = await runtime.log()

    async def opened() -> Store:
        return await asyncio.to_thread(open_store, runtime.settings.postgres)

    store = await runtime.retry("PostgreSQL (SIGNALBOX_POSTGRES)", opened, DBAPIError)
    group.callback(store.close)
    read_models = ReadModels(store, partition_of=log.partition_of)
    group.callback(read_models.close)
    runner = ProjectionRunner(log, store, MODELS)
    rollouts = RolloutPublisher(log, read_models, SOURCE)
    liveness = LivenessPublisher(log, read_models, SOURCE)
    host = FaustHost(runtime.kafka, log, runner, (rollouts, liveness), log.integrity)
    runtime.add_readiness_check(lambda: host.trouble or runner.trouble or None)
    group.run("rollouts", rollouts.run())
    group.run("liveness", liveness.run())
    group.run("projections", runner.host())
    group.run("Faust", host.run())
    await group.wait(host.joined.wait())
