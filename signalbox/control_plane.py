"""Decider, projections and HTTP API of the embedded engine."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from projections.failures import error_summary, unavailable
from projections.queries import NotReady, ReadModels
from projections.store import Store, open_store
from schemas.envelope import Envelope
from schemas.identity import timestamp
from schemas.outcome import Outcome
from schemas.status import NodeReported, Status
from signalbox.data_plane import DataPlane
from signalbox.first_start import create_default_resources
from signalbox.http.server import HttpServer
from signalbox.http_api import HttpApi
from signalbox.local_gateway import LOCAL_GATEWAY
from signalbox.observability.change_log import ChangeLog, soon
from signalbox.observability.telemetry import Telemetry
from signalbox.observability.tracing import ChangeTraces
from signalbox.service_group import ServiceGroup
from signalbox.settings import Settings
from streams.command_port import CommandPort
from streams.decider import Decider
from streams.documents import DocumentStore
from streams.projection import ProjectionRunner
from streams.sqlite.log import SqliteLog
from streams.sqlite.set_aside import computed_fault, set_aside
from streams.status_reporter import StatusReporter

SOURCE = "/signalbox"


def open_read_models(path: Path) -> Store:
    """The read models' file in a directory that is locked; a damaged one is set aside, to be computed anew.

    Blocks. Raises LogUnavailable, sqlalchemy.exc.OperationalError.
    """
    fault = computed_fault(path)
    if fault is not None:
        set_aside(path, fault)
    try:
        return open_store(path)
    except DatabaseError as error:
        if unavailable(error):
            raise
        set_aside(path, error_summary(error))
        return open_store(path)


class ControlPlane:
    def __init__(
        self,
        settings: Settings,
        group: ServiceGroup,
        log: SqliteLog,
        documents: DocumentStore,
        gateways: DataPlane,
        store: Store,
        refusing: Callable[[], str | None],
    ) -> None:
        """`refusing` answers which file refuses writes at the moment, and why; None when none does."""
        self._settings = settings
        self._group = group
        self._log = log
        self._gateways = gateways
        self._telemetry = Telemetry(otlp=settings.otlp)
        group.callback(self._telemetry.close)
        log.measure(self._telemetry.append.record)
        self._changes = ChangeTraces(self._telemetry)
        self._change_log = ChangeLog(self._telemetry.refused, soon())
        group.callback(self._change_log.flush)
        self._commands = CommandPort(log)
        self._read_models = ReadModels(store, partition_of=log.partition_of)
        self._runner = ProjectionRunner(log, store)
        self._http_api = HttpApi(
            settings=settings,
            group=group,
            telemetry=self._telemetry,
            commands=self._commands,
            log=log,
            read_models=self._read_models,
            checkpoints=self._runner,
            documents=documents,
        )
        self._refusing = refusing
        self._not_ready: str | None = "starting"
        self.sample_deployed = False

    async def start(self) -> None:
        """Returns when the HTTP API answers from everything that is on the log.

        Raises LogDamaged, LogUnavailable, FirstStartFailed, OSError.
        """
        await self._follow_gateways()
        decider = Decider(
            self._log,
            0,
            SOURCE,
            self._decided,
            repeated=self._commands.decided,
            listener_failed=partial(self._telemetry.listener_failures.add, 1),
        )
        await decider.start()
        self._group.push_async_callback(decider.stop)
        await self._gateways.complete()
        self._group.run("decider", decider.run())
        self._group.run("projections", self._runner.run())
        self._gateways.begin()
        await create_default_resources(self._commands, self._settings, self._gateways.token)
        await self._serve()
        await self._group.wait(self._runner.ready.wait())
        self.sample_deployed = await self._http_api.deploy_sample()
        delivery, quarantined = self._gateways.delivery, self._gateways.quarantined
        self._telemetry.gauge("connected_proxies", lambda: {"": len(delivery.proxies)})
        self._telemetry.gauge("quarantined_resources", lambda: {"": quarantined()})
        self._http_api.measure()
        self._not_ready = None

    async def _follow_gateways(self) -> None:
        """Publishes the answers of gateways as status messages, except those that were reported before."""
        reporter = self._group.closed_at_stop(StatusReporter(self._log, SOURCE))
        self._group.run("status", reporter.run())

        def report(messages: Sequence[Status]) -> None:
            self._changes.reported(messages)
            self._change_log.reported(messages)
            reporter.report(messages)

        self._gateways.report = report
        self._gateways.reported = reporter.durable
        self._gateways.compiled = lambda entries, seconds: self._telemetry.compile.record(seconds)
        try:
            for gateway in self._gateways.store.gateways():
                report(await self._left(gateway))
            self._gateways.remember(frozenset(await self._proved(LOCAL_GATEWAY)).__contains__)
        except NotReady:
            return  # the first start: nothing was reported yet

    async def _left(self, gateway: str) -> list[Status]:
        """Reports that the nodes which were connected when the last process ended are disconnected."""
        _, organization, _, name = gateway.split("/")
        return [
            NodeReported(
                organization=organization,
                name=name,
                at=timestamp(),
                node=node["node"],
                connected=False,
                connection=node.get("connection", ""),
            )
            for node in await self._read_models.nodes(organization, name)
            if node["connected"]
        ]

    async def _proved(self, gateway: str) -> list[str]:
        """The deployments in force on a gateway that were proved to serve there."""
        entries = self._gateways.store.entries(gateway)
        names = list({ref.deployment: None for entry in entries if entry.served for ref in entry.deployments})
        _, organization, _, name = gateway.split("/")
        reports = await self._read_models.reports(organization, names)
        return [r["deployment"] for r in reports if r["gateway"] == name and r["fact"] == "serving"]

    def _decided(self, decisions: Sequence[tuple[Envelope, Outcome]], seconds: float) -> None:
        self._commands.decided(outcome for _, outcome in decisions)
        self._changes.decided(decisions, seconds)
        self._change_log.decided(decisions)

    async def _serve(self) -> None:
        http = HttpServer(
            self._http_api.application(self._trouble, self._group.stopping), self._settings.http
        )
        await http.start()
        self._group.push_async_callback(http.stop)
        self._group.callback(self._group.stopping.set)

    def _trouble(self) -> str | None:
        """Why this process is not ready."""
        if self._group.failed.done():
            return "a part of it has ended; its log says why"
        return self._not_ready or self._refusing() or self._runner.trouble or self._gateways.trouble()
