"""From the deployments of a group to its entries, and which of several deployments cannot be compiled.

The one module of gateway sync that knows translators. It holds no state but what it has read and compiled
lately.
"""

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from gateways.compiler import compile_api, denied_upstreams
from gateways.config_resource import ConfigResource, DeploymentRef
from gateways.model import DeployedApi, GatewaySettings, UnsupportedError, unsupported_text
from gateways.translator import Translator
from gateways.upstream_access import NetworkPort, own_network_ports, upstream_access
from streams.event_history import EventHistory, NotInLog, Recent
from streams.log import MessageTooLarge

KEPT = 1024
MOST_INLINE = 50
"""Operations of an API that is compiled on the event loop: some milliseconds."""

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("signalbox.gateway-sync")


class CannotCompile(Exception):
    """A gateway cannot have what was asked for; the text tells users why. Trying again does not help."""


Refused = tuple[DeploymentRef, str]
"""A deployment that cannot be compiled, and why."""


@dataclass(slots=True)
class GroupCompiler:
    """`require_size` raises MessageTooLarge for an entry that the config topic does not take.

    Whatever cannot be read raises what the log raises: LogUnavailable, LogDamaged.
    """

    reading: EventHistory
    translators: Mapping[str, Translator]
    probe_secret: Callable[[str], str]
    require_size: Callable[[ConfigResource], None]
    closed: tuple[NetworkPort, ...] = ()
    """What no gateway may send requests to, whatever it allows."""
    _compiled: Recent[DeployedApi] = field(default_factory=lambda: Recent[DeployedApi](KEPT))

    async def settings(self, gateway: str) -> GatewaySettings:
        """Of a gateway's subject. Raises CannotCompile."""
        organization, name = organization_and_name(gateway)
        try:
            fields = await self.reading.gateway(organization, name)
        except NotInLog as error:
            raise CannotCompile(str(error)) from error
        return GatewaySettings(
            subject=gateway,
            kind=fields.kind,
            address=fields.address,
            port=fields.port,
            revision_header=fields.revision_header,
            probe_secret=self.probe_secret(gateway),
            escaped_slashes=fields.escaped_slashes,
            underscore_headers=fields.underscore_headers,
            trusted_proxies=fields.trusted_proxies,
            access=upstream_access(
                fields.environment,
                fields.allowed_upstreams,
                (*self.closed, *own_network_ports(fields.address, fields.port)),
            ),
        )

    def forget(self, gateway: str, deployment: str) -> None:
        """Compiles a deployment anew when it is asked for next."""
        self._compiled.pop(f"{organization_and_name(gateway)[0]}/{deployment}", None)

    async def check(self, gateway: str, ref: DeploymentRef) -> None:
        """Whether a gateway can serve a deployment by itself. Raises CannotCompile."""
        where = f"{gateway}: deployment {ref.deployment}"
        settings = await self.settings(gateway)
        api = await self._deployed(gateway, ref)
        with _explained(where):
            findings = await _computed(len(api.routes), self.translators[settings.kind].check, api)
        if findings:
            raise CannotCompile(unsupported_text(findings))
        if denied := denied_upstreams(settings.access, api):
            raise CannotCompile("; ".join(denied))

    async def listener(self, gateway: str, position: int) -> Sequence[ConfigResource]:
        """What a gateway needs before any API. Raises CannotCompile."""
        settings = await self.settings(gateway)
        with _explained(f"{gateway}: the listener"):
            return self.translators[settings.kind].listener_entries(settings, position)

    async def group(
        self, gateway: str, group: str, refs: Iterable[DeploymentRef], position: int
    ) -> tuple[ConfigResource, ...]:
        """All entries of a group with these deployments, each small enough for the config topic.

        Raises CannotCompile.
        """
        where = f"{gateway}: the APIs under /{group}"
        settings = await self.settings(gateway)
        apis = [await self._deployed(gateway, ref) for ref in sorted(refs, key=lambda c: c.api)]
        with _explained(where):
            translate = self.translators[settings.kind].api_entries
            size = max((len(api.routes) for api in apis), default=0)
            entries = await _computed(size, translate, settings, group, apis, position)
            for entry in entries:
                self.require_size(entry)
        return entries

    async def refused(
        self,
        gateway: str,
        group: str,
        base: Mapping[str, DeploymentRef],
        suspects: Sequence[DeploymentRef],
        position: int,
    ) -> list[Refused]:
        """Which of the suspects cannot be compiled together with `base`, found by halving.

        `base` is what the group has without them, by API. When that cannot be compiled itself, none of them
        can.
        """
        try:
            await self.group(gateway, group, base.values(), position)
        except CannotCompile as error:
            return [(ref, f"the other APIs under /{group}: {error}") for ref in suspects]
        refused: list[Refused] = []
        await self._admit(gateway, group, dict(base), suspects, position, refused)
        return refused

    async def _admit(
        self,
        gateway: str,
        group: str,
        base: dict[str, DeploymentRef],
        suspects: Sequence[DeploymentRef],
        position: int,
        refused: list[Refused],
    ) -> None:
        """Adds to `base` those of the suspects that can be compiled with it, to `refused` the others."""
        if not suspects:
            return
        wanted = {**base, **{ref.api: ref for ref in suspects}}
        await asyncio.sleep(0)
        try:
            await self.group(gateway, group, wanted.values(), position)
        except CannotCompile as error:
            if len(suspects) == 1:
                refused.append((suspects[0], str(error)))
                return
            half = len(suspects) // 2
            await self._admit(gateway, group, base, suspects[:half], position, refused)
            await self._admit(gateway, group, base, suspects[half:], position, refused)
        else:
            base.update(wanted)

    async def _deployed(self, gateway: str, ref: DeploymentRef) -> DeployedApi:
        """Raises CannotCompile."""
        organization, _ = organization_and_name(gateway)
        key = f"{organization}/{ref.deployment}"
        if key not in self._compiled:
            try:
                spec = await self.reading.spec(organization, ref.api, ref.revision)
            except NotInLog as error:
                raise CannotCompile(str(error)) from error
            with _explained(f"{gateway}: deployment {ref.deployment}"):
                api = await _computed(
                    len(spec.operations),
                    compile_api,
                    *(organization, ref.api, ref.revision, ref.deployment, spec),
                )
            self._compiled.keep(key, api)
            return api
        return self._compiled[key]


async def _computed(operations: int, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The result of a pure function of so many operations; on a thread when that takes long.

    A thread costs about as much as translating one operation.
    """
    if operations <= MOST_INLINE:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)


@contextmanager
def _explained(where: str) -> Generator[None]:
    """For what is computed: whatever is raised inside becomes CannotCompile."""
    try:
        yield
    except MessageTooLarge as error:
        raise CannotCompile(f"the configuration would be too large: {error}") from error
    except UnsupportedError as error:
        raise CannotCompile(str(error)) from error
    except Exception as error:
        # A defect in a translator must stop neither the other APIs nor this process.
        logger.exception("%s could not be compiled", where)
        raise CannotCompile(f"could not be compiled: {type(error).__name__}") from error


def organization_and_name(gateway: str) -> tuple[str, str]:
    """Of a gateway's subject."""
    _, organization, _, name = gateway.split("/")
    return organization, name
