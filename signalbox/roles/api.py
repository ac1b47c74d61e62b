"""Role `api`: answers HTTP from the read models in PostgreSQL, and hands commands to Kafka."""

import asyncio
import importlib

from sqlalchemy.exc import DBAPIError

from projections.catalog import DERIVED, READ_MODELS
from projections.queries import NotReady, ReadModels
from projections.store import Store, open_store
from signalbox.first_start import (
    ORGANIZATION,
    FirstStartFailed,
    create_default_resources,
)
from signalbox.roles.runtime import Runtime
from signalbox.service_group import ServiceGroup
from signalbox.tokens import kept_secret, shared_gateway_token
from streams.command_port import CommandPort
from streams.kafka.log import KafkaLog
from streams.log import LogUnavailable
from streams.outcome_subscription import outcome_subscription
from streams.postgres.documents import PostgresDocuments
from streams.projection.checkpoints import CheckpointWaiter

POSTGRES = "PostgreSQL (SIGNALBOX_POSTGRES)"
CAUGHT_UP_SECONDS = 30.0


async def start(runtime: Runtime, group: ServiceGroup) -> None:
    settings = runtime.settings
    kept_secret(settings.admin_token, "sba_")
    # Loading it takes longer than all before it: in a thread, while health checks are answered.
    await asyncio.to_thread(importlib.import_module, "signalbox.http_api")
    from signalbox.http_api import HttpApi

    log = await runtime.log()
    commands = CommandPort(log)
    outcomes = outcome_subscription(log, commands.decided)
    await runtime.retry("the topic of outcomes", outcomes.open, LogUnavailable)
    group.run("outcomes", outcomes.run())
    runtime.add_readiness_check(
        lambda: f"outcomes are not received: {outcomes.trouble}" if outcomes.trouble else None
    )

    async def opened() -> Store:
        return await asyncio.to_thread(open_store, settings.postgres)

    store = await runtime.retry(POSTGRES, opened, DBAPIError)
    group.callback(store.close)
    waiter = CheckpointWaiter(log, store, (*READ_MODELS, *DERIVED))
    read_models = ReadModels(store, partition_of=log.partition_of, behind=waiter.behind)
    group.callback(read_models.close)
    group.run("positions of read models", waiter.run())
    runtime.add_readiness_check(lambda: waiter.trouble or None)
    documents = group.closed_at_stop(
        await runtime.retry(POSTGRES, lambda: PostgresDocuments.open(settings.postgres), LogUnavailable)
    )
    http_api = HttpApi(
        settings=settings,
        group=group,
        telemetry=runtime.telemetry,
        commands=commands,
        log=log,
        read_models=read_models,
        checkpoints=waiter,
        documents=documents,
        kafka=runtime.kafka,
    )
    http_api.measure()
    assert runtime.api_gate is not None
    runtime.api_gate.application = http_api.application(runtime.not_ready_reason, runtime.stopping)
    if settings.first_start:
        await _first_start(runtime, commands, log, waiter)
        runtime.sample_deployed = await http_api.deploy_sample()


async def _first_start(
    runtime: Runtime, commands: CommandPort, log: KafkaLog, waiter: CheckpointWaiter
) -> None:
    """Of several processes that do this at once each sends the same commands with the same ids: they are
    decided once."""
    settings = runtime.settings
    token = shared_gateway_token(settings.gateway_token)

    async def created() -> None:
        await create_default_resources(commands, settings, token)

    await runtime.retry(
        "a decider that makes what everything begins with", created, FirstStartFailed, LogUnavailable
    )

    async def caught_up() -> None:
        partition = log.partition_of(ORGANIZATION)
        async with asyncio.timeout(CAUGHT_UP_SECONDS):
            await waiter.wait_for("resources", partition, await log.end("events", partition))

    await runtime.retry(
        "a projector that fills the read models", caught_up, TimeoutError, NotReady, LogUnavailable
    )
