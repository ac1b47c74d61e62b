"""Runs the roles of a process: they start together, stop in order, and all stop when one of them fails."""

import asyncio
import importlib
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from signalbox.data_directory.listen_addresses import write_listen_addresses
from signalbox.envoy.supervisor import find_binary
from signalbox.machine.ports import listen, remembered_port, require_free
from signalbox.roles import ROLES
from signalbox.roles.runtime import Runtime
from signalbox.service_group import ServiceGroup
from signalbox.settings import Settings

LISTENERS = {
    "http": ("the HTTP API", "--http HOST:PORT"),
    "xds": ("the xDS server", "--xds HOST:PORT"),
    "gateway": ("the gateway", "--gateway HOST:PORT"),
}
"""By option, for a port that is taken."""
STOP_SECONDS = 10.0
"""For all roles together; the requests in flight through Envoy have a limit of their own."""

logger = logging.getLogger("signalbox.roles")


def everything(settings: Settings) -> "RoleRunner":
    """All roles in one process, which creates the default resources; Envoy only if the settings have it."""
    return RoleRunner(replace(settings, first_start=True), names_of(settings))


def names_of(settings: Settings) -> Sequence[str]:
    """All roles; Envoy only if the settings have it."""
    return [name for name in ROLES if name != "envoy" or settings.envoy]


def deploys_sample(settings: Settings, names: Collection[str]) -> bool:
    """Whether a process of these roles deploys the sample API: one whose Envoy reaches the service behind it,
    which listens on loopback. Several processes would take it from each other."""
    return settings.first_start and settings.envoy and settings.sample and {"api", "envoy"} <= set(names)


def require_possible_start(settings: Settings, names: Iterable[str]) -> None:
    """Call this before a data directory is created, so that a failed start leaves none behind.

    Raises PortUnusable, EnvoyMissing.
    """
    if settings.data.is_dir() and any(settings.data.iterdir()):
        return  # the Envoy of an earlier start may listen on the gateway's port, and is adopted
    _require_ports(settings, {ROLES[name].listens for name in names})
    if "envoy" in names:
        find_binary()


def _require_ports(settings: Settings, options: Iterable[str]) -> None:
    for option, (what, choose) in LISTENERS.items():
        if option in options:
            at = settings.addresses[option]
            require_free(at.host, at.port, what=what, option=choose)


def runtime_of(settings: Settings, group: ServiceGroup, names: Sequence[str]) -> Runtime:
    """Raises ModuleNotFoundError when the packages of the engine are not installed."""
    if settings.engine == "kafka":
        from signalbox.roles.kafka_runtime import KafkaRuntime

        return KafkaRuntime(settings, group, names)
    from signalbox.roles.embedded_runtime import EmbeddedRuntime

    return EmbeddedRuntime(settings, group, names)


Start = Callable[[Runtime, ServiceGroup], Coroutine[Any, Any, None]]
"""See `signalbox.roles`."""


@dataclass(slots=True)
class _Running:
    """`begun`: its `start` has returned. `starting` ends after the parts that need other roles, too."""

    group: ServiceGroup
    begun: asyncio.Event
    starting: asyncio.Task[None]


class RoleRunner:
    """`async with RoleRunner(settings, names)`: inside, roles are starting; `started` waits for them.

    `failed` is done when a task that must run until the stop has ended, with its error.
    """

    def __init__(self, settings: Settings, names: Sequence[str]) -> None:
        self._settings = settings
        self._names = [name for name in ROLES if name in names]
        self._group = ServiceGroup()
        self._running: dict[str, _Running] = {}
        self._all_begin = asyncio.Event()
        self._starting: asyncio.Task[None] | None = None
        self.failed = self._group.failed
        self.runtime = runtime_of(settings, self._group, self._names)

    async def __aenter__(self) -> "RoleRunner":
        try:
            await self._open()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._stop()

    @property
    def sample_deployed(self) -> bool:
        return self.runtime.sample_deployed

    async def started(self) -> None:
        """Returns when every role has started. Raises the error of one that failed."""
        assert self._starting is not None
        await self._group.wait(asyncio.shield(self._starting))

    async def _open(self) -> None:
        settings, runtime = self._settings, self.runtime
        runtime.add_readiness_check(self._trouble)
        require_possible_start(settings, self._names)
        # Checking the files takes no interpreter: meanwhile modules are loaded, up to the one in hand.
        loading = asyncio.create_task(self._load())
        try:
            await runtime.open()
        finally:
            await _cancelled(loading)
        options = {ROLES[name].listens for name in self._names}
        # The port of the gateway is checked when an Envoy starts: one may run.
        _require_ports(settings, options - {"gateway"})
        write_listen_addresses(
            settings.data, {option: at for option, at in settings.addresses.items() if option in options}
        )
        if settings.health is not None:
            await self._serve_health()
        if deploys_sample(settings, self._names):
            # Envoy may have the sample from an earlier start: its requests wait for the service, and do not
            # fail.
            runtime.sample_listener = self._group.enter_context(listen(remembered_port(settings.demo_port)))
        self._starting = asyncio.create_task(self._start(), name="start of roles")
        self._starting.add_done_callback(self._fails)

    async def _load(self) -> None:
        for role in sorted((ROLES[name] for name in self._names), key=lambda role: not role.first):
            for module in role.modules:
                await asyncio.to_thread(importlib.import_module, module)

    async def _serve_health(self) -> None:
        from signalbox.http.health import HealthApp
        from signalbox.http.server import HttpServer

        settings, runtime = self._settings, self.runtime
        assert settings.health is not None
        app = HealthApp(runtime.not_ready_reason, runtime.telemetry.exposition)
        require_free(settings.health.host, settings.health.port, what="health", option="--health HOST:PORT")
        health = HttpServer(app, settings.health)
        await health.start()
        self._group.push_async_callback(health.stop)

    async def _start(self) -> None:
        first = [name for name in self._names if ROLES[name].first]
        # In one process Envoy starts while the configuration is loaded that it will request.
        for together in [first] if self.runtime.in_process else [[name] for name in first]:
            await self._begin(together)
            for running in [self._running[name] for name in together]:
                await _first(running.begun.wait(), self.runtime.waits.wait(), running.starting)
        await self._begin([name for name in self._names if not ROLES[name].first])
        self._all_begin.set()
        await asyncio.gather(*(running.starting for running in self._running.values()))
        await self.runtime.all_started()

    async def _begin(self, names: Iterable[str]) -> None:
        starts: dict[str, Start] = {}
        for name in names:
            # Imports would block the event loop for long enough that a health check fails.
            module = await asyncio.to_thread(importlib.import_module, ROLES[name].modules[0])
            starts[name] = vars(module)["start"]
        for name, start in starts.items():
            group, begun = ServiceGroup(), asyncio.Event()
            group.failed.add_done_callback(self._fails)
            starting = asyncio.create_task(self._start_role(start, group, begun), name=f"start of {name}")
            starting.add_done_callback(self._fails)
            self._running[name] = _Running(group, begun, starting)

    async def _start_role(self, start: Start, group: ServiceGroup, begun: asyncio.Event) -> None:
        await start(self.runtime, group)
        begun.set()
        await self._all_begin.wait()
        await group.finish_start()

    async def _stop(self) -> None:
        """Each role finishes its work in progress; they stop in the reverse order of their start. What has
        not stopped within `STOP_SECONDS` is abandoned, and logged."""
        self._group.stopping.set()
        clock = asyncio.get_running_loop().time
        deadline = clock() + STOP_SECONDS
        await _cancelled(self._starting)
        for name in reversed(self._names):
            running = self._running.get(name)
            if running is None:
                continue
            await _cancelled(running.starting)
            began = clock()
            try:
                await running.group.stop(None if name == "envoy" else deadline)
            except Exception:
                # The others must be stopped in order, too.
                logger.exception("%s did not stop in order", name)
            if name == "envoy":
                deadline += clock() - began
        await self._group.stop(deadline)

    def _trouble(self) -> str | None:
        if self.failed.done():
            return "a task has ended; the log has the reason"
        running = self._running
        starting = [n for n in self._names if n not in running or not running[n].starting.done()]
        return f"starting {', '.join(starting)}" if starting else None

    def _fails(self, ended: asyncio.Future[None]) -> None:
        error = None if ended.cancelled() else ended.exception()
        if error is not None and not self.failed.done():
            self.failed.set_exception(error)


async def _first(*waiting: Coroutine[Any, Any, Any] | asyncio.Task[None]) -> None:
    """Returns when one of these is done; tasks continue."""
    own = [asyncio.create_task(one) for one in waiting if asyncio.iscoroutine(one)]
    given = [one for one in waiting if isinstance(one, asyncio.Task)]
    try:
        await asyncio.wait([*own, *given], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in own:
            task.cancel()
        await asyncio.gather(*own, return_exceptions=True)


async def _cancelled(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
