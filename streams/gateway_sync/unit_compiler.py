"""Compiles the deployments of a unit to its entries, and finds those that cannot be compiled.

A unit is the set of APIs of one gateway that share entries; the gateway's translator chooses it. This is the
one module of gateway sync that calls translators. It holds no state except caches.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from gateways.compiler import compile_api, denied_upstreams, upstreams_of
from gateways.config_resource import ConfigResource, DeploymentRef
from gateways.model import DeployedApi, GatewaySettings, UnsupportedError, unsupported_text
from gateways.translator import Dispatching, Part, PartGroups, Translator, UnitSplitter
from gateways.upstream_access import NetworkPort, own_network_ports, upstream_access
from schemas.aggregates.gateway import GatewayFields
from streams.compute_process import Compute, NoProcess
from streams.gateway_sync.event_history import EventHistory, NotInLog, Recent
from streams.gateway_sync.translation_ahead import Ahead, TranslationsAhead, own_units
from streams.log import MessageTooLarge

KEPT = 1024
TRANSLATED_KEPT = 20_000
MOST_INLINE = 50
"""Maximum number of operations of an API that is compiled on the event loop: some milliseconds."""
NAMED = 3
"""Maximum number of APIs that an error names."""

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("signalbox.gateway-sync")


class CannotCompile(Exception):
    """A deployment cannot be compiled for a gateway; the text is for users. Trying again does not help.

    `only_new`: a gateway that serves it already, since an earlier version accepted it, continues to.
    """

    def __init__(self, text: str, *, only_new: bool = False) -> None:
        super().__init__(text)
        self.only_new = only_new


Uncompilable = tuple[DeploymentRef, str]
"""A deployment that cannot be compiled, and the reason."""


@dataclass(frozen=True, slots=True)
class _Translated:
    """The result of `Translator.translate`, and its input."""

    ref: DeploymentRef
    settings: GatewaySettings
    operations: int
    api: Any


@dataclass(slots=True)
class UnitCompiler:
    """`require_size` raises MessageTooLarge for an entry that the config topic does not take.

    Reading raises the errors of the log: LogUnavailable, LogDamaged.
    """

    reading: EventHistory
    translators: Mapping[str, Translator[Any]]
    probe_secret: Callable[[str], str]
    require_size: Callable[[ConfigResource], None]
    closed: tuple[NetworkPort, ...] = ()
    """Addresses that no gateway may send requests to, whatever it allows."""
    compute: Compute = field(default_factory=NoProcess)
    _kinds: dict[str, str] = field(default_factory=dict[str, str])
    """By gateway."""
    _settings: dict[str, tuple[GatewayFields, GatewaySettings]] = field(
        default_factory=dict[str, tuple[GatewayFields, GatewaySettings]]
    )
    """By gateway: the event's fields and the settings made of them; the same object until they change."""
    _deployed: Recent[DeployedApi] = field(default_factory=lambda: Recent[DeployedApi](KEPT))
    """By organization and deployment."""
    _translated: Recent[_Translated] = field(default_factory=lambda: Recent[_Translated](TRANSLATED_KEPT))
    """By gateway and deployment, of units with several APIs: a change translates the changed API alone."""
    _parts: Recent[Part] = field(default_factory=lambda: Recent[Part](TRANSLATED_KEPT))
    """By gateway and deployment, of units that are split."""
    ahead: TranslationsAhead = field(init=False)
    _splitters: Mapping[str, UnitSplitter] = field(init=False)
    """The translators that split units, by kind: examining a translator takes 20 µs."""

    def __post_init__(self) -> None:
        self.ahead = TranslationsAhead(self.compute)
        self._splitters = {kind: t for kind, t in self.translators.items() if isinstance(t, UnitSplitter)}

    def load(self, gateway: str, kind: str) -> None:
        """Records the kind of a gateway with an entry on the config topic."""
        self._kinds[gateway] = kind

    def unit_of(self, gateway: str, ref: DeploymentRef) -> str:
        """The unit of a deployment, on a gateway that has entries or whose settings were read."""
        return self.translators[self._kinds[gateway]].unit_of(ref)

    def _splitter(self, gateway: str) -> UnitSplitter | None:
        return self._splitters.get(self._kinds[gateway])

    def split_above(self, gateway: str) -> int:
        """A unit with more APIs is split; below 0: none is."""
        splitter = self._splitter(gateway)
        return splitter.split_above if splitter else -1

    def part_named(self, entry: ConfigResource) -> str:
        """The part of a unit that an entry of a gateway is of, if any."""
        splitter = self._splitter(entry.gateway)
        return splitter.part_named(entry) if splitter else ""

    def dispatched(self, entry: ConfigResource) -> tuple[str, str] | None:
        """The split unit that an entry of a gateway takes requests to parts or groups for, if any, and the
        name of the unit or group that the entry is of."""
        splitter = self._splitter(entry.gateway)
        return splitter.dispatched(entry) if splitter else None

    def part_resources(self, gateway: str, part: str) -> frozenset[tuple[str, str]]:
        """The resources of a part that its unit requires."""
        splitter = self._splitter(gateway)
        return frozenset(splitter.part_resources(gateway, part)) if splitter else frozenset()

    async def settings(self, gateway: str) -> GatewaySettings:
        """The settings of a gateway (its subject). Raises CannotCompile."""
        organization, name = organization_and_name(gateway)
        try:
            fields = await self.reading.gateway(organization, name)
        except NotInLog as error:
            raise CannotCompile(str(error)) from error
        of, known = self._settings.get(gateway, (None, None))
        if known is not None and of is fields:
            return known
        settings = GatewaySettings(
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
        self._kinds[gateway] = settings.kind
        if known is not None and known == settings:
            settings = known
        self._settings[gateway] = (fields, settings)
        return settings

    def forget(self, gateway: str, deployment: str) -> None:
        """Has a deployment compiled again when it is needed next."""
        self._deployed.pop(f"{organization_and_name(gateway)[0]}/{deployment}", None)
        self._translated.pop(f"{gateway} {deployment}", None)
        self._parts.pop(f"{gateway} {deployment}", None)

    async def translate_ahead(
        self,
        gateway: str,
        refs: Sequence[DeploymentRef],
        members: Mapping[str, Mapping[str, DeploymentRef]],
    ) -> None:
        """Has another process, if it runs, translate these; `members` are the deployments of each unit."""
        try:
            settings = await self.settings(gateway)
            organization, _ = organization_and_name(gateway)
            units = own_units(refs, [self.unit_of(gateway, ref) for ref in refs], members)
            many = [
                Ahead.of(
                    organization, ref, unit, await self.reading.spec(organization, ref.api, ref.revision)
                )
                for ref, unit in zip(refs, units, strict=True)
            ]
        except (CannotCompile, NotInLog):
            return
        self.ahead.begin(self.translators[settings.kind], settings, many)

    async def check(self, gateway: str, ref: DeploymentRef) -> None:
        """Raises CannotCompile unless a gateway can serve the deployment by itself."""
        settings = await self.settings(gateway)
        if ahead := await self.ahead.of(settings, ref):
            findings, denied = ahead.findings, ahead.denied
        else:
            api = await self._deployed_api(gateway, ref)
            with _explained(f"{gateway}: deployment {ref.deployment}"):
                findings = await _computed(len(api.routes), self.translators[settings.kind].check, api)
            denied = denied_upstreams(settings.access, upstreams_of(api))
        if findings:
            only_new = not denied and all(finding.only_new for finding in findings)
            raise CannotCompile(unsupported_text(findings), only_new=only_new)
        if denied:
            raise CannotCompile("; ".join(denied))

    async def listener(self, gateway: str, position: int) -> Sequence[ConfigResource]:
        """The entries that a gateway needs before any API. Raises CannotCompile."""
        settings = await self.settings(gateway)
        with _explained(f"{gateway}: the listener"):
            return self.translators[settings.kind].listener_entries(settings, position)

    async def entries(
        self, gateway: str, unit: str, refs: Collection[DeploymentRef], position: int
    ) -> tuple[ConfigResource, ...]:
        """All entries of a unit with these deployments, each small enough for the config topic.

        Raises CannotCompile.
        """
        settings = await self.settings(gateway)
        if len(refs) == 1:
            (ref,) = refs
            ahead = await self.ahead.of(settings, ref)
            if ahead and ahead.made and ahead.unit == unit:
                entries = ahead.entries(settings, ref, position)
                self._require_sizes(f"{gateway}: {named(refs)}", entries)
                return entries
        apis = [
            await self._translate(gateway, settings, ref, keep=len(refs) > 1)
            for ref in sorted(refs, key=lambda ref: ref.api)
        ]
        with _explained(f"{gateway}: {named(refs)}"):
            assemble = self.translators[settings.kind].unit_entries
            operations = max((each.operations for each in apis), default=0)
            entries = await _computed(
                operations, assemble, settings, unit, [each.api for each in apis], position
            )
        self._require_sizes(f"{gateway}: {named(refs)}", entries)
        return entries

    async def part(
        self, gateway: str, unit: str, ref: DeploymentRef, position: int
    ) -> tuple[str, tuple[ConfigResource, ...]]:
        """The part of a unit that is one deployment: its name and entries. Raises CannotCompile."""
        part = await self.part_of(gateway, unit, ref)
        return part.name, await self.entries(gateway, part.name, [ref], position)

    async def part_of(self, gateway: str, unit: str, ref: DeploymentRef, name: str = "") -> Part:
        """The part of a unit that a deployment is, and its name, if known. Raises CannotCompile."""
        key = f"{gateway} {ref.deployment}"
        part = self._parts.get(key)
        splitter = self._splitter(gateway)
        assert splitter is not None
        if part is None and name:
            part = splitter.part_of_deployment(unit, ref, name)
        if part is None:
            part = splitter.part_of_api(unit, await self._deployed_api(gateway, ref))
        self._parts.keep(key, part)
        return part

    async def groups(
        self,
        gateway: str,
        unit: str,
        parts: Mapping[str, str],
        refs: Collection[DeploymentRef],
        *,
        several: bool,
    ) -> PartGroups:
        """The parts of a unit, whose names are known by API; `several`: there may be groups of them. Raises
        CannotCompile."""
        splitter = self._splitter(gateway)
        assert splitter is not None
        groups = splitter.groups(unit, several=several)
        for ref in refs:
            groups.place(ref.api, await self.part_of(gateway, unit, ref, parts.get(ref.api, "")))
        return groups

    async def dispatching(
        self, gateway: str, name: str, dispatching: Dispatching, position: int
    ) -> tuple[ConfigResource, ...]:
        """The entries of a unit or a group, which take requests to parts or groups. Raises CannotCompile."""
        splitter = self._splitter(gateway)
        assert splitter is not None
        settings = await self.settings(gateway)
        with _explained(f"{gateway}: {name}"):
            routes = len(dispatching.parts) + len(dispatching.groups)
            entries = await _computed(
                routes, splitter.dispatching_entries, settings, name, dispatching, position
            )
        self._require_sizes(f"{gateway}: {name}", entries)
        return entries

    def _require_sizes(self, where: str, entries: Sequence[ConfigResource]) -> None:
        """Raises CannotCompile for an entry that the config topic does not take."""
        with _explained(where):
            for entry in entries:
                self.require_size(entry)

    async def uncompilable(
        self,
        gateway: str,
        unit: str,
        base: Mapping[str, DeploymentRef],
        suspects: Sequence[DeploymentRef],
        position: int,
    ) -> list[Uncompilable]:
        """The suspects that cannot be compiled together with `base`, found by bisection.

        `base` has the other deployments of the unit, by API. If it cannot be compiled itself, none of the
        suspects can.
        """
        try:
            await self.entries(gateway, unit, base.values(), position)
        except CannotCompile as error:
            return [(ref, f"beside {named(base.values())}: {error}") for ref in suspects]
        found: list[Uncompilable] = []
        await self._admit(gateway, unit, dict(base), suspects, position, found)
        return found

    async def _admit(
        self,
        gateway: str,
        unit: str,
        base: dict[str, DeploymentRef],
        suspects: Sequence[DeploymentRef],
        position: int,
        uncompilable: list[Uncompilable],
    ) -> None:
        """Adds to `base` those of the suspects that can be compiled with it, to `uncompilable` the others."""
        if not suspects:
            return
        wanted = {**base, **{ref.api: ref for ref in suspects}}
        await asyncio.sleep(0)
        try:
            await self.entries(gateway, unit, wanted.values(), position)
        except CannotCompile as error:
            if len(suspects) == 1:
                uncompilable.append((suspects[0], str(error)))
                return
            half = len(suspects) // 2
            await self._admit(gateway, unit, base, suspects[:half], position, uncompilable)
            await self._admit(gateway, unit, base, suspects[half:], position, uncompilable)
        else:
            base.update(wanted)

    async def _translate(
        self, gateway: str, settings: GatewaySettings, ref: DeploymentRef, *, keep: bool
    ) -> _Translated:
        """Raises CannotCompile."""
        key = f"{gateway} {ref.deployment}"
        made = self._translated.get(key)
        if made is None or made.settings is not settings or made.ref != ref:
            api = await self._deployed_api(gateway, ref)
            with _explained(f"{gateway}: deployment {ref.deployment}"):
                translate = self.translators[settings.kind].translate
                translated = await _computed(len(api.routes), translate, settings, api)
            made = _Translated(ref, settings, len(api.routes), translated)
        if keep:
            self._translated.keep(key, made)
        return made

    async def _deployed_api(self, gateway: str, ref: DeploymentRef) -> DeployedApi:
        """Raises CannotCompile."""
        organization, _ = organization_and_name(gateway)
        key = f"{organization}/{ref.deployment}"
        if key not in self._deployed:
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
            self._deployed.keep(key, api)
            return api
        return self._deployed[key]


def named(refs: Collection[DeploymentRef]) -> str:
    """The APIs of a unit, for a message: the first by name, and the number of others."""
    names = sorted(ref.api for ref in refs)
    more = len(names) - NAMED
    listed = ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"the APIs {listed}" if len(names) > 1 else f"the API {listed}"


async def _computed(operations: int, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The result of a pure function for so many operations; in a thread if they are more than `MOST_INLINE`.

    A thread costs about as much as translating one operation.
    """
    if operations <= MOST_INLINE:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)


@contextmanager
def _explained(where: str) -> Generator[None]:
    """Converts every exception of a computation to CannotCompile."""
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
    """The names of organization and gateway in a gateway's subject."""
    _, organization, _, name = gateway.split("/")
    return organization, name
