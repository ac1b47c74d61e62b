"""One node of a gateway on this machine: its Envoy, its listener, and the prober beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schemas.status import Status
from signalbox.discovery.delivery import serving
from signalbox.envoy.listener_watch import ListenerWatch
from signalbox.envoy.memory import envoy_heap
from signalbox.envoy.probe_targets import ProbeTargets
from signalbox.envoy.prober import Listener, Prober, Target
from signalbox.envoy.supervisor import EnvoySupervisor
from signalbox.service_group import ServiceGroup
from signalbox.settings import Address, Settings
from xds.bootstrap import Trust, bootstrap


@dataclass(frozen=True, slots=True)
class Node:
    """`gateway` is a subject; `servers` are the addresses of the xDS servers."""

    gateway: str
    name: str
    servers: tuple[Address, ...]

    @property
    def hosts(self) -> list[str]:
        return [server.host for server in self.servers]


class LocalNode:
    """`probe_secret` gives access to the node's probe routes; `report` is called with the deployments that
    it was proved to serve. `probes` sets the source of deployments to probe."""

    def __init__(
        self,
        settings: Settings,
        node: Node,
        *,
        token: str,
        probe_secret: str,
        trust: Trust | None,
        report: Callable[[Sequence[Status]], None],
    ) -> None:
        self._report = report
        self._targets: ProbeTargets | None = None
        listen = settings.gateway
        first, *others = node.servers
        self._envoy = EnvoySupervisor(
            directory=settings.data / "envoy",
            bootstrap=lambda admin: bootstrap(
                node_id=node.name,
                gateway=node.gateway,
                token=token,
                xds_host=first.host,
                xds_port=first.port,
                other_servers=[(server.host, server.port) for server in others],
                trust=trust,
                admin_socket=str(admin),
                max_heap=envoy_heap(),
            ),
            listen=(listen.host, listen.port),
            secrets=(token,),
        )
        self._watch = ListenerWatch(self._envoy.listening, lambda: bool(self._connection))
        self.prober = Prober(
            Listener(node.gateway, node.name, listen.host, listen.port, probe_secret),
            self._serving,
            on_given_up=self._given_up,
        )

    async def start(self, group: ServiceGroup) -> None:
        """Returns when Envoy runs. Raises PortUnusable, EnvoyMissing."""
        await self._envoy.start()
        group.push_async_callback(self._envoy.stop)
        group.run("listeners of Envoy", self._watch.run())
        group.closed_at_stop(self.prober)
        group.run("prober", self.prober.run())

    def probes(self, targets: ProbeTargets) -> None:
        """Sets the state of the node, which submits its deployments to `prober`."""
        self._targets = targets

    def trouble(self) -> str | None:
        """The reason why the node does not serve, if it is known."""
        status = self._envoy.status
        if status.state != "running":
            return f"the gateway's Envoy does not run: {status.reason}"
        if self._targets is not None and (rejected := self._targets.listener_refused):
            return f"the gateway's Envoy rejected its listener: {rejected}"
        # At a first start its token is registered a moment after it starts.
        if self._targets is not None and not self._targets.has_connected:
            return "the gateway's Envoy has not connected to an xDS server yet"
        return self._watch.trouble

    @property
    def _connection(self) -> str:
        return self._targets.connection if self._targets is not None else ""

    def _serving(self, target: Target, gateway: str, node: str, at: str) -> None:
        self._report([serving(target, gateway, node, self._connection, at)])

    def _given_up(self, target: Target, _: str) -> None:
        if self._targets is not None:
            self._targets.given_up(target)
