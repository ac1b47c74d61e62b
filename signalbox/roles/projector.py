"""Role `projector`: keeps the read models of the partitions that its group gives this process, and tells what
follows from them."""

import asyncio

from sqlalchemy.exc import DBAPIError

from projections.catalog import DERIVED, READ_MODELS
from projections.queries import ReadModels
from projections.store import Store, open_store
from signalbox.parts import Parts
from signalbox.roles.runtime import SOURCE, Runtime
from streams.faust.host import FaustHost
from streams.faust.liveness import LivenessPublisher
from streams.faust.rollouts import RolloutPublisher
from streams.projection import ProjectionRunner

MODELS = (*READ_MODELS, *DERIVED)


async def start(runtime: Runtime, parts: Parts) -> None:
    """Returns when the group has said which partitions are ours."""
    log = await runtime.log()

    async def opened() -> Store:
        return await asyncio.to_thread(open_store, runtime.settings.postgres)

    store = await runtime.patiently("PostgreSQL (SIGNALBOX_POSTGRES)", opened, DBAPIError)
    parts.callback(store.close)
    read_models = ReadModels(store, partition_of=log.partition_of)
    parts.callback(read_models.close)
    runner = ProjectionRunner(log, store, MODELS)
    rollouts = RolloutPublisher(log, read_models, SOURCE)
    liveness = LivenessPublisher(log, read_models, SOURCE)
    host = FaustHost(runtime.kafka, log, runner, (rollouts, liveness), log.integrity)
    runtime.tell_trouble(lambda: host.trouble or runner.trouble or None)
    parts.run("rollouts", rollouts.run())
    parts.run("liveness", liveness.run())
    parts.run("projections", runner.host())
    parts.run("Faust", host.run())
    await parts.wait(host.joined.wait())
