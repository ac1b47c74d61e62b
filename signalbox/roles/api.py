"""Role `api`: answers HTTP from the read models, and appends commands to the log."""

import asyncio
import importlib

from projections.read_transactions import NotReady
from signalbox.data_directory.tokens import kept_secret
from signalbox.first_start.default_resources import ORGANIZATION, FirstStartFailed, create_default_resources
from signalbox.http.health import HealthApp, ReadinessGate
from signalbox.http.server import HttpServer
from signalbox.roles.database import Checkpoints
from signalbox.roles.runtime import Runtime
from signalbox.service_group import ServiceGroup
from streams.log import Log, LogUnavailable
from streams.submission.command_port import CommandPort

CAUGHT_UP_SECONDS = 30.0


async def start(runtime: Runtime, group: ServiceGroup) -> None:
    """Returns when requests are answered; before that only health checks are."""
    settings = runtime.settings
    kept_secret(settings.admin_token, "sba_")
    gate = ReadinessGate(HealthApp(runtime.not_ready_reason))
    http = HttpServer(gate, settings.http)
    await http.start()
    group.first_at_stop(http.stop)
    # Loading it takes longer than all before it: in a thread, while health checks are answered.
    await asyncio.to_thread(importlib.import_module, "signalbox.http_api")
    from signalbox.http_api import HttpApi

    log = await runtime.log()
    commands = await runtime.command_port(group)
    database = await runtime.database()
    read_models, checkpoints = await database.read_models(group)
    http_api = HttpApi(
        settings=settings,
        group=group,
        telemetry=runtime.telemetry,
        commands=commands,
        log=log,
        read_models=read_models,
        checkpoints=checkpoints,
        documents=await database.documents(group),
        kafka=runtime.kafka,
        compute=runtime.compute,
    )
    http_api.measure()
    gate.application = http_api.application(runtime.not_ready_reason, runtime.stopping)
    if settings.first_start:
        await _first_start(runtime, commands, log, checkpoints)
        runtime.sample_deployed = await http_api.deploy_sample(runtime.sample_listener)


async def _first_start(runtime: Runtime, commands: CommandPort, log: Log, checkpoints: Checkpoints) -> None:
    """Several processes may do this at once: they send the same commands with the same ids, which are
    decided once."""
    settings = runtime.settings
    token = await runtime.gateway_token(needed=False)

    async def created() -> None:
        await create_default_resources(commands, settings, token)

    await runtime.retry(
        "a decider that creates the default resources", created, FirstStartFailed, LogUnavailable
    )

    async def caught_up() -> None:
        partition = log.partition_of(ORGANIZATION)
        async with asyncio.timeout(CAUGHT_UP_SECONDS):
            await checkpoints.wait_for("resources", partition, await log.end("events", partition))

    await runtime.retry(
        "a projector that fills the read models", caught_up, TimeoutError, NotReady, LogUnavailable
    )
