"""Gateways of the embedded engine: gateway sync, the xDS server, the local Envoy and its prober.

It starts before the other modules are loaded, so that proxies wait as short as possible. The answers of
proxies are held until the read models have been asked for earlier reports.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from gateways.config_resource import ConfigResource, DeploymentRef
from schemas.status import Status
from signalbox.closed_upstreams import closed_upstreams
from signalbox.discovery.delivery import Delivery, serving
from signalbox.discovery.server import Discovery
from signalbox.discovery.tls import identity, own_trust
from signalbox.envoy.memory import envoy_heap
from signalbox.envoy.prober import Listener, Prober, Target
from signalbox.envoy.supervisor import EnvoySupervisor
from signalbox.local_gateway import LOCAL_GATEWAY, NODE
from signalbox.service_group import ServiceGroup
from signalbox.settings import Settings
from signalbox.tokens import gateway_token, kept_secret, probe_secret
from signalbox.translators import Translators
from streams.config_topic import ConfigTopic
from streams.gateway_sync import CREDENTIALS, GatewaySync
from streams.log import Log
from xds.bootstrap import bootstrap
from xds.observer import Connection, Progress

STOP_SECONDS = 2.0
PROGRESS_SECONDS = 10.0
WARMING_SECONDS = 2.0

WARMING = (
    "the gateway's listener is warming and answers no request: Envoy waits for a resource that it needs; "
    "`signalbox doctor` compares what there is"
)

logger = logging.getLogger("signalbox.gateways")


class DataPlane:
    """`report`, `reported` and `compiled` are set before `begin`; `token` is known after `start`."""

    def __init__(self, settings: Settings, group: ServiceGroup, log: Log, config: ConfigTopic) -> None:
        self._settings = settings
        self._group = group
        self._config = config
        self._log = log
        self._begins_empty = False
        self._warming = False
        self.token = ""
        probe_key = kept_secret(settings.data / "probe.key", "")
        self.report: Callable[[Sequence[Status]], None] = _report_too_early
        self.reported: Callable[[], Awaitable[None]] = _durable_too_early
        self.compiled: Callable[[int, float], None] = _unmeasured
        self._envoy: EnvoySupervisor | None = None
        # Of each API the deployment that was probed last, and on which connection.
        self._probed: dict[str, tuple[str, str]] = {}
        self._proved: dict[str, str] = {}  # of each API the deployment that was proved to serve last
        self.delivery = Delivery(
            lambda messages: self.report(messages),
            self._probe,
            lambda of, entries: self.sync.acknowledged(of.gateway, of.id, entries),
            lambda of, entries, reason: self.sync.rejected(of.gateway, of.id, entries, reason),
            lambda of, listener, reason: self._discovery.offer_again_later(of, listener, reason),
            self._caught_up,
            self._present,
        )
        self._discovery = Discovery(self.delivery, log.partition_of)
        self.store = self._discovery.store
        self.server = self._discovery.server
        self.quarantined = self._discovery.quarantined
        self.sync = GatewaySync(
            log=log,
            config=config,
            translators=Translators(),
            current=self.store.entry,
            report=lambda messages: self.report(messages),
            reported=lambda: self.reported(),
            probe_secret=lambda gateway: probe_secret(probe_key, gateway),
            compiled=lambda entries, seconds: self.compiled(entries, seconds),
            closed=closed_upstreams(settings),
        )
        self._prober = Prober(
            Listener(
                LOCAL_GATEWAY,
                NODE,
                settings.gateway.host,
                settings.gateway.port,
                probe_secret(probe_key, LOCAL_GATEWAY),
            ),
            self._serving,
        )

    async def start(self) -> None:
        """Serves what is on the config topic, and starts Envoy.

        Raises PortUnusable, EnvoyMissing, SettingsError.
        """
        settings = self._settings
        async for entries in self._config.load():
            self._discovery.serve(entries)
            self.sync.load(entries)
        self._config.subscribe(self._discovery.serve)
        known = self.store.entry(LOCAL_GATEWAY, CREDENTIALS, "token")
        registered = known.body.decode() if known is not None and known.body else None
        self.token = gateway_token(settings.gateway_token, registered, needed=settings.envoy)
        self._begins_empty = self.sync.position == 0 and await self._log.end("events", 0) > 0
        if not self._begins_empty:
            await self._listen()
        if settings.envoy:
            self._group.push_async_callback(self._prober.close)
            self._group.run("prober", self._prober.run())
            envoy = EnvoySupervisor(
                directory=settings.data / "envoy",
                bootstrap=lambda admin: bootstrap(
                    node_id=NODE,
                    gateway=LOCAL_GATEWAY,
                    token=self.token,
                    xds_host=settings.xds.host,
                    xds_port=settings.xds.port,
                    trust=own_trust(settings),
                    admin_socket=str(admin),
                    max_heap=envoy_heap(),
                ),
                listen=(settings.gateway.host, settings.gateway.port),
                secrets=(self.token,),
            )
            await envoy.start()
            self._group.push_async_callback(envoy.stop)
            self._envoy = envoy
            self._group.run("listeners of Envoy", self._watch_listeners(envoy))

    async def _watch_listeners(self, envoy: EnvoySupervisor) -> None:
        """Notices listeners that warm for longer than a moment, until cancelled."""
        before = False
        while True:
            await asyncio.sleep(WARMING_SECONDS)
            # An Envoy that is not connected has been sent no listener.
            now = bool(self.delivery.connection(LOCAL_GATEWAY, NODE)) and await envoy.idle()
            self._warming = before and now
            before = now

    def trouble(self) -> str | None:
        """Why the local gateway does not serve, when that is known."""
        if self._envoy is None:
            return None
        status = self._envoy.status
        if status.state != "running":
            return f"the gateway's Envoy does not run: {status.reason}"
        if rejected := self.delivery.listener_refused(LOCAL_GATEWAY, NODE):
            return f"the gateway's Envoy rejected its listener: {rejected}"
        return WARMING if self._warming else None

    async def _listen(self) -> None:
        xds = self._settings.xds
        await self.server.start(xds.host, xds.port, identity(self._settings))
        self._group.push_async_callback(self.server.stop, STOP_SECONDS)

    async def complete(self) -> None:
        """Computes the configuration from the first event on where there is none, and only then lets proxies
        in: they would take an empty one for the removal of all they have. Raises LogUnavailable, LogDamaged.
        """
        if self._begins_empty:
            logger.warning("the configuration of the gateways is computed from the events; proxies wait")
            await self.load_translators()
            await self.sync.catch_up()
            await self._listen()

    async def reconcile(self) -> None:
        """Compiles again what is missing in the configuration. Raises LogUnavailable, LogDamaged."""
        await self.sync.reconcile()

    def begin(self) -> None:
        """Processes the answers of proxies, and consumes the events."""
        self.delivery.begin()
        self._group.run("progress of gateways", self._progress())
        self._group.run("gateway sync", self.sync.run())
        self._group.run("gateway sync's repairs", self.sync.run_responses())
        self._group.run("gateway sync's verdicts", self.sync.run_verdict_deadlines())

    async def load_translators(self) -> None:
        """Loads them in a thread: it is slow, and the first change must not wait for it."""
        await asyncio.to_thread(Translators().load)

    def remember(self, proved: Callable[[str], bool]) -> None:
        """Loads which deployments were proved to serve before this process started; the others are probed."""
        for entry in self._served(LOCAL_GATEWAY):
            self._proved |= {c.api: c.deployment for c in entry.deployments if proved(c.deployment)}

    def _served(self, gateway: str) -> list[ConfigResource]:
        return [entry for entry in self.store.entries(gateway) if entry.served]

    async def _progress(self) -> None:
        """Reports how far proxies have come where that changed, until cancelled."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            for connection, progress in self.server.progress():
                self.delivery.progressed(connection, progress)

    def _present(self, connection: Connection, connected: bool) -> None:
        if connected:
            self.sync.connected(connection.gateway, connection.id)
        else:
            self.sync.disconnected(connection.gateway, connection.id)

    def _caught_up(self, connection: Connection, progress: Progress) -> None:
        """Probes the deployments that a new connection acknowledged and that are not proved to serve."""
        if connection.gateway != LOCAL_GATEWAY:
            return
        lacking = {lack.deployment for lack in progress.lacking}
        for entry in self._served(connection.gateway):
            for ref in entry.deployments if entry.position <= progress.acknowledged else ():
                proved = self._proved.get(ref.api) == ref.deployment
                probed = self._probed.get(ref.api) == (ref.deployment, connection.id)
                if not (proved or probed or ref.deployment in lacking):
                    self._probe(connection.gateway, ref, entry.position)

    def _probe(self, gateway: str, ref: DeploymentRef, position: int) -> None:
        """Probes deployments of the local Envoy; no other listener can be reached from here."""
        if gateway == LOCAL_GATEWAY and self._settings.envoy:
            before, _ = self._probed.get(ref.api, ("", ""))
            if before not in ("", ref.deployment):
                self._prober.forget(before)
            self._probed[ref.api] = (ref.deployment, self.delivery.connection(gateway, NODE))
            self._prober.submit(Target.of(ref, position))

    def _serving(self, target: Target, gateway: str, node: str, at: str) -> None:
        self._proved[target.api] = target.deployment
        connection = self.delivery.connection(gateway, node)
        message = serving(target, gateway, node, connection, at)
        self.report([message])


def _report_too_early(messages: Sequence[Status]) -> None:
    raise RuntimeError(f"reported before `report` was set: {messages}")


async def _durable_too_early() -> None:
    raise RuntimeError("waited for reports before `reported` was set")


def _unmeasured(entries: int, seconds: float) -> None:
    """The default: durations are not recorded."""
