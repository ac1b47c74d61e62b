"""Role `api`: answers HTTP from the read models in PostgreSQL, and hands commands to Kafka."""

import asyncio
import importlib
from functools import partial

from sqlalchemy.exc import DBAPIError

from api.authentication import FileTokenAuthenticator
from api.ports import Services
from api.ports import Settings as ApiSettings
from projections.catalog import DERIVED, READ_MODELS
from projections.queries import NotReady, ReadModels
from projections.store import Store, open_store
from schemas import asyncapi
from signalbox.demo import Demo
from signalbox.first_start import (
    ORGANIZATION,
    FirstStartFailed,
    create_default_resources,
    deploy_sample,
    move_gateway,
)
from signalbox.observability.gauges import ReadModelGauges
from signalbox.observability.http_telemetry import MeasuredApp, TracedApp
from signalbox.observability.tracing import traceparent_of_request
from signalbox.ports import remembered_port
from signalbox.roles.runtime import Runtime
from signalbox.service_group import ServiceGroup
from signalbox.tokens import kept_secret, shared_gateway_token
from streams.command_port import CommandPort
from streams.documents import DocumentStore
from streams.kafka.log import KafkaLog
from streams.log import LogUnavailable
from streams.outcomes_following import outcomes_follower
from streams.postgres.documents import PostgresDocuments
from streams.projection.checkpoints import CheckpointWaiter

POSTGRES = "PostgreSQL (SIGNALBOX_POSTGRES)"
CAUGHT_UP_SECONDS = 30.0


async def start(runtime: Runtime, group: ServiceGroup) -> None:
    settings = runtime.settings
    kept_secret(settings.admin_token, "sba_")
    # Loading it takes longer than all before it: in a thread, while health checks are answered.
    await asyncio.to_thread(importlib.import_module, "api.app")
    from api.app import create_app

    log = await runtime.log()
    commanding = CommandPort(log)
    follower = outcomes_follower(log, commanding.decided)
    await runtime.retry("the topic of outcomes", follower.start, LogUnavailable)
    group.run("outcomes", follower.run())
    runtime.add_readiness_check(
        lambda: f"outcomes are not heard: {follower.trouble}" if follower.trouble else None
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
    group.run("gauges", ReadModelGauges(runtime.telemetry, waiter.lag, read_models).run())
    services = Services(
        commands=commanding,
        read_models=read_models,
        read_model_runner=waiter,
        dead_letters=waiter,
        log=log,
        documents=documents,
        authenticator=FileTokenAuthenticator(settings.admin_token),
        ready=runtime.not_ready_reason,
        metrics=runtime.telemetry.exposition,
        stopping=runtime.stopping,
        settings=ApiSettings(max_body=settings.max_body, max_command=settings.kafka.max_message),
        traceparent=traceparent_of_request,
    )
    assert runtime.api_gate is not None
    app = create_app(services, partial(asyncapi.document, runtime.kafka.prefix))
    runtime.api_gate.application = MeasuredApp(TracedApp(app), runtime.telemetry.requests.record)
    if settings.first_start:
        await _first_start(runtime, group, log, commanding, read_models, documents, waiter)


async def _first_start(
    runtime: Runtime,
    group: ServiceGroup,
    log: KafkaLog,
    commanding: CommandPort,
    read_models: ReadModels,
    documents: DocumentStore,
    waiter: CheckpointWaiter,
) -> None:
    """Of several that do this at once each asks for the same, under the same ids: it is done once."""
    settings = runtime.settings
    token = shared_gateway_token(settings.gateway_token)

    async def house() -> None:
        await create_default_resources(commanding, settings, token)

    await runtime.retry(
        "a decider that makes what everything begins with", house, FirstStartFailed, LogUnavailable
    )

    async def caught_up() -> None:
        partition = log.partition_of(ORGANIZATION)
        async with asyncio.timeout(CAUGHT_UP_SECONDS):
            await waiter.wait_for("resources", partition, await log.end("events", partition))

    await runtime.retry(
        "a projector that fills the read models", caught_up, TimeoutError, NotReady, LogUnavailable
    )
    if settings.envoy:
        await move_gateway(commanding, read_models, settings)
    if settings.envoy and settings.sample:
        demo = group.closed_at_stop(Demo(remembered_port(settings.data / "demo.port")))
        await demo.start()
        runtime.sample_deployed = await deploy_sample(commanding, log, read_models, documents, demo.url)
