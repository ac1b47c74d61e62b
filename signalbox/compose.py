"""The composition root: every part of an embedded Signalbox, started and stopped in order."""

import asyncio
import hmac
import logging
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol, TypeVar

from api.app import create_app
from api.authentication import FileTokenAuthenticator
from api.ports import Services
from api.ports import Settings as ApiSettings
from gateways.entry import Cause, Entry
from projections.queries import NotReady, ReadModels
from projections.store import open_store
from schemas import asyncapi
from schemas.canonical import sha256_hex
from schemas.catalog import GATEWAY
from schemas.envelope import Envelope
from schemas.outcome import Outcome
from schemas.status import Status
from signalbox.delivery import Delivery
from signalbox.demo import Demo
from signalbox.envoy import EnvoySupervisor
from signalbox.first_start import GATEWAY as LOCAL
from signalbox.first_start import ORGANIZATION, deploy_sample, make_house
from signalbox.gauges import Gauges
from signalbox.ports import remembered_port, require_free
from signalbox.probing import Listener, Prober, Target
from signalbox.serving import HttpServer
from signalbox.settings import Settings
from signalbox.telemetry import Telemetry
from signalbox.tokens import kept_secret, probe_secret
from signalbox.tracing import Changes, Traced, traceparent_of_request
from signalbox.translators import Translators
from streams.commanding import Commanding
from streams.deciding import Decider
from streams.gateway_sync import CREDENTIALS, GatewaySync
from streams.projecting import ProjectionRunner
from streams.reporting import StatusReporter
from streams.sqlite.config import SqliteConfigTopic
from streams.sqlite.documents import SqliteDocuments
from streams.sqlite.log import SqliteLog
from xds.bootstrap import bootstrap
from xds.server import DiscoveryServer
from xds.store import ResourceStore

logger = logging.getLogger("signalbox")

SOURCE = "/signalbox"
NODE = "envoy-1"
LOCAL_GATEWAY = GATEWAY.subject(ORGANIZATION, LOCAL)
STOP_SECONDS = 2.0


class Closing(Protocol):
    async def close(self) -> None: ...


P = TypeVar("P", bound=Closing)


class Signalbox:
    """All roles in one process: `async with Signalbox(settings)` is up until the block ends.

    `failed` is done when a part that should run for ever has ended, with what ended it.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.envoy: EnvoySupervisor | None = None
        self._not_ready: str | None = "starting"
        self._stopping = asyncio.Event()
        self._stack = AsyncExitStack()
        self._telemetry = Telemetry(otlp=settings.otlp)
        self._changes = Changes(self._telemetry)
        self._store = ResourceStore()

    async def __aenter__(self) -> "Signalbox":
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        await self._stack.aclose()

    async def _start(self) -> None:
        settings = self.settings
        self._stack.callback(self._telemetry.close)
        log = await self._until_stop(await SqliteLog.open(settings.data))
        log.measure(self._telemetry.append.record)
        require_free(settings.http.host, settings.http.port, what="the HTTP API", option="--http HOST:PORT")
        require_free(settings.xds.host, settings.xds.port, what="the xDS server", option="--xds HOST:PORT")
        kept_secret(settings.admin_token, "sba_")
        gateway_token = kept_secret(settings.gateway_token, "sbg_")
        probe_key = kept_secret(settings.data / "probe.key", "")
        config = await self._until_stop(await SqliteConfigTopic.open(settings.data))
        documents = await self._until_stop(await SqliteDocuments.open(settings.data))

        reporter = StatusReporter(log, SOURCE)
        self._stack.push_async_callback(reporter.flush)
        self._run("status", reporter.run())

        def report(messages: Sequence[Status]) -> None:
            self._changes.reported(messages)
            reporter.report(messages)

        sync = GatewaySync(
            log=log,
            config=config,
            translators=Translators(),
            current=self._store.entry,
            report=report,
            probe_secret=lambda gateway: probe_secret(probe_key, gateway),
            compiled=lambda entries, seconds: self._telemetry.compile.record(seconds),
        )
        delivery = Delivery(report, self._probe, sync.acknowledged, sync.refused)
        self._prober = Prober(
            Listener(
                LOCAL_GATEWAY,
                NODE,
                settings.gateway.host,
                settings.gateway.port,
                probe_secret(probe_key, LOCAL_GATEWAY),
            ),
            delivery.serving,
        )
        if settings.envoy:
            self._stack.push_async_callback(self._prober.close)
            self._run("prober", self._prober.run())

        async for entries in config.load():
            self._serve(entries)
            sync.load(entries)
        config.subscribe(self._serve)
        store = open_store(settings.data / "readmodels.db")
        self._stack.callback(store.close)
        read_models = ReadModels(store, partition_of=log.partition_of)
        await self._remember(delivery, read_models)
        ads = DiscoveryServer(self._store, self._authenticate, delivery)
        await ads.start(settings.xds.host, settings.xds.port)
        self._stack.push_async_callback(ads.stop, STOP_SECONDS)
        if settings.envoy:
            await self._start_envoy(gateway_token)

        commanding = Commanding(log)

        def decided(decisions: Sequence[tuple[Envelope, Outcome]], seconds: float) -> None:
            commanding.decided(outcome for _, outcome in decisions)
            self._changes.decided(decisions, seconds)

        decider = Decider(log, 0, SOURCE, decided)
        await decider.start()
        self._stack.push_async_callback(decider.stop)
        self._run("decider", decider.run())
        self._run("gateway sync", sync.run())
        self._run("gateway sync's repairs", sync.repair())

        runner = ProjectionRunner(log, store)
        self._run("projections", runner.run())
        await make_house(commanding, settings, gateway_token)

        gauges = Gauges(
            self._telemetry, runner, read_models, delivery, lambda: len(ads.quarantined(LOCAL_GATEWAY))
        )
        services = Services(
            commands=commanding,
            read_models=read_models,
            waiter=runner,
            log=log,
            documents=documents,
            authenticator=FileTokenAuthenticator(settings.admin_token),
            ready=lambda: self._not_ready,
            metrics=self._telemetry.exposition,
            stopping=self._stopping,
            settings=ApiSettings(max_body=settings.max_body),
            traceparent=traceparent_of_request,
        )
        http = HttpServer(Traced(create_app(services, asyncapi.document)), settings.http)
        await http.start()
        self._stack.push_async_callback(http.stop)
        self._stack.callback(self._stopping.set)
        if settings.sample and settings.envoy:
            demo = Demo(remembered_port(settings.data / "demo.port"))
            await demo.start()
            self._stack.push_async_callback(demo.close)
            await deploy_sample(commanding, documents, demo.url)
        await self._first(runner.ready.wait())
        self._not_ready = None
        self._run("gauges", gauges.run())
        # Compiling needs the translator, and loading it is slow: not on the way of the first change.
        await asyncio.to_thread(Translators().load)

    async def _start_envoy(self, token: str) -> None:
        settings = self.settings
        envoy = EnvoySupervisor(
            directory=settings.data / "envoy",
            bootstrap=lambda admin_port: bootstrap(
                node_id=NODE,
                gateway=LOCAL_GATEWAY,
                token=token,
                xds_host=settings.xds.host,
                xds_port=settings.xds.port,
                admin_host="127.0.0.1",
                admin_port=admin_port,
            ),
            listen=(settings.gateway.host, settings.gateway.port),
            secrets=(token,),
        )
        await envoy.start()
        self._stack.push_async_callback(envoy.stop)
        self.envoy = envoy

    async def _remember(self, delivery: Delivery, read_models: ReadModels) -> None:
        """What the read models know of the deployments in force, before a proxy says it again."""
        for gateway in self._store.gateways():
            causes = [cause for entry in self._store.entries(gateway) for cause in entry.causes]
            names = list({cause.deployment: None for cause in causes})
            try:
                reports = await read_models.reports(gateway.split("/")[1], names)
            except NotReady:
                return  # the first start: nothing was reported yet
            delivery.remember(gateway, causes, reports)

    def _serve(self, entries: Sequence[Entry]) -> None:
        self._store.apply([entry for entry in entries if entry.gateway])

    def _authenticate(self, gateway: str, token: str) -> bool:
        known = self._store.entry(gateway, CREDENTIALS, "token")
        return known is not None and hmac.compare_digest(known.body, sha256_hex(token.encode()).encode())

    def _probe(self, gateway: str, cause: Cause) -> None:
        """Only the listener of our own Envoy is within reach."""
        if gateway == LOCAL_GATEWAY and self.settings.envoy:
            self._prober.submit(
                Target(cause.deployment, cause.api, cause.revision, cause.context, cause.host)
            )

    async def _until_stop(self, part: P) -> P:
        self._stack.push_async_callback(part.close)
        return part

    def _run(self, name: str, part: Coroutine[Any, Any, None]) -> None:
        """Runs a part until we stop; its failure is ours."""
        task = asyncio.create_task(part, name=name)
        task.add_done_callback(self._ended)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(end)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._stopping.is_set():
            return
        error = task.exception() or RuntimeError("it ended")
        logger.error("%s ended: %s", task.get_name(), error, exc_info=error)
        self._not_ready = f"{task.get_name()} ended: {error}"
        if not self.failed.done():
            self.failed.set_exception(error)

    async def _first(self, waiting: Coroutine[Any, Any, Any]) -> None:
        """Waits, but not longer than every part runs."""
        task = asyncio.ensure_future(waiting)
        await asyncio.wait([task, self.failed], return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            task.cancel()
            self.failed.result()
