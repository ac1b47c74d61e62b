"""The roles of a process: started together, stopped in order, and together when one of them fails."""

import asyncio
import importlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from signalbox.http.health import HealthApp, ReadinessGate
from signalbox.http.server import HttpServer
from signalbox.listen_addresses import write_listen_addresses
from signalbox.ports import require_free
from signalbox.roles import ROLES
from signalbox.roles.runtime import Runtime
from signalbox.service_group import ServiceGroup
from signalbox.settings import Settings
from streams.sqlite.lock import DirectoryLock

logger = logging.getLogger("signalbox.roles")


def everything(settings: Settings) -> "RoleRunner":
    """All roles in one process; Envoy only when it is wanted."""
    return RoleRunner(settings, [name for name in ROLES if name != "envoy" or settings.envoy])


Start = Callable[[Runtime, ServiceGroup], Coroutine[Any, Any, None]]
"""See `signalbox.roles`."""


@dataclass(slots=True)
class _Running:
    name: str
    group: ServiceGroup
    starting: asyncio.Task[None]


class RoleRunner:
    """`async with Roles(settings, names)`: inside, roles are on their way up; `started` waits for them.

    `failed` is done when a task that must run until the stop has ended, with its error.
    """

    def __init__(self, settings: Settings, names: Sequence[str]) -> None:
        self._settings = settings
        self._names = [name for name in ROLES if name in names]
        self._group = ServiceGroup()
        self._running: list[_Running] = []
        self._http: HttpServer | None = None
        self.failed = self._group.failed
        self.runtime = Runtime(settings, self._group, self._names)

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
        everything = asyncio.gather(*(running.starting for running in self._running))
        await asyncio.wait([everything, self.failed], return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            everything.cancel()
            await asyncio.gather(everything, return_exceptions=True)
            self.failed.result()
        await everything

    async def _open(self) -> None:
        settings, runtime = self._settings, self.runtime
        runtime.add_readiness_check(self._trouble)
        for directory in (settings.data, settings.secrets_directory):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._group.callback(DirectoryLock(settings.data).release)
        options = {ROLES[name].listens for name in self._names}
        write_listen_addresses(
            settings.data, {option: at for option, at in settings.addresses.items() if option in options}
        )
        if settings.health is not None:
            app = HealthApp(runtime.not_ready_reason, runtime.telemetry.exposition)
            require_free(
                settings.health.host, settings.health.port, what="health", option="--health HOST:PORT"
            )
            health = HttpServer(app, settings.health)
            await health.start()
            self._group.push_async_callback(health.stop)
        if "api" in self._names:
            require_free(
                settings.http.host, settings.http.port, what="the HTTP API", option="--http HOST:PORT"
            )
            runtime.api_gate = ReadinessGate(HealthApp(runtime.not_ready_reason))
            http = HttpServer(runtime.api_gate, settings.http)
            await http.start()
            self._http = http
        starts: dict[str, Start] = {}
        for name in self._names:
            # Imports would block the event loop for long enough that a health check fails.
            module = await asyncio.to_thread(importlib.import_module, f"signalbox.roles.{ROLES[name].module}")
            starts[name] = vars(module)["start"]
        for name, start in starts.items():
            group = ServiceGroup()
            group.failed.add_done_callback(self._fails)
            starting = asyncio.create_task(start(runtime, group), name=f"start of {name}")
            starting.add_done_callback(self._fails)
            self._running.append(_Running(name, group, starting))

    async def _stop(self) -> None:
        """Each role finishes its work in progress; they stop in the reverse order of their start."""
        self._group.stopping.set()
        self.runtime.stopping.set()
        if self._http is not None:
            # Requests in flight are answered before their dependencies stop.
            await self._http.stop()
        for running in reversed(self._running):
            if not running.starting.done():
                running.starting.cancel()
            await asyncio.gather(running.starting, return_exceptions=True)
            try:
                await running.group.stop()
            except Exception:
                # The others must be stopped in order, too.
                logger.exception("%s did not stop in order", running.name)
        await self._group.stop()

    def _trouble(self) -> str | None:
        if self.failed.done():
            return "a part of it has ended; its log says why"
        starting = [running.name for running in self._running if not running.starting.done()]
        if not starting and len(self._running) == len(self._names):
            return None
        return f"starting {', '.join(starting or self._names)}"

    def _fails(self, ended: asyncio.Future[None]) -> None:
        error = None if ended.cancelled() else ended.exception()
        if error is not None and not self.failed.done():
            self.failed.set_exception(error)
