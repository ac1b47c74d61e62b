"""The entries of units: of all APIs of a unit together, or of each API by itself when the unit is split.

A unit is split when it has many APIs, and stays so. Then a change of an API costs that API. When a part comes
or goes, what dispatches requests to the parts is made again, or that of one group of them if they are many.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter, time

from gateways.config_resource import ConfigResource, DeploymentRef
from gateways.translator import PartGroups
from streams.gateway_sync.resource_refs import Resource, ResourceRefs
from streams.gateway_sync.unit_compiler import CannotCompile, Uncompilable, UnitCompiler
from streams.gateway_sync.unit_membership import UnitMembership

logger = logging.getLogger("signalbox.gateway-sync")

YIELD_AFTER_SECONDS = 0.005
"""How long compiling may keep the loop to itself."""
SPLITTING = "signalbox.io/splitting"
"""The entry type of the time, in seconds, before which no unit of a gateway is split."""
DRAIN_SECONDS = 900
"""After a change of its listener, a proxy serves connections with the one before for less than this."""

Unit = tuple[str, str]
"""Gateway subject and unit."""


@dataclass(slots=True)
class UnitEntries:
    """`touch` and `made` may be repeated until `put`; `clock` is in seconds since 1970."""

    compiler: UnitCompiler
    membership: UnitMembership
    clock: Callable[[], float] = time
    refs: ResourceRefs = field(default_factory=ResourceRefs)
    _parts: dict[Unit, dict[str, str]] = field(default_factory=dict[Unit, dict[str, str]])
    """Of units that are split: the part of each API."""
    _names: dict[Unit, set[str]] = field(default_factory=dict[Unit, set[str]])
    """Of units that are split: the names of their groups."""
    _groups: dict[Unit, tuple[PartGroups, bool]] = field(default_factory=dict[Unit, tuple[PartGroups, bool]])
    """Of units in which parts came or went since the start; whether there may be groups."""
    _splitting: dict[str, int] = field(default_factory=dict[str, int])
    """By gateway: the time before which no unit is split."""
    _held: dict[str, int] = field(default_factory=dict[str, int])
    """Those of them that are not on the config topic."""
    _touched: dict[Unit, set[str]] = field(default_factory=dict[Unit, set[str]])
    """The APIs that changed."""
    _whole: set[Unit] = field(default_factory=set[Unit])
    """Units to be compiled again as a whole."""
    _regrouped: dict[Unit, set[str]] = field(default_factory=dict[Unit, set[str]])
    """Split units of which parts came or went: the names of unit and groups that are others for that."""
    left: dict[tuple[str, Resource], None] = field(default_factory=dict[tuple[str, Resource], None])
    """Shared resources that a unit no longer requires, to be removed unless another one does."""

    def load(self, entry: ConfigResource) -> None:
        """Takes up an entry of a gateway from the config topic."""
        gateway = entry.gateway
        if dispatched := self.compiler.dispatched(entry):
            unit, name = dispatched
            self.refs.add(gateway, name, frozenset(entry.requires))
            if name != unit:
                self._names.setdefault((gateway, unit), set()).add(name)
            return
        if not entry.deployments:
            return
        part = self.compiler.part_named(entry)
        for unit, refs in self._by_unit(entry).items():
            for ref in refs:
                self.membership.add(gateway, unit, ref)
                if part:
                    self._parts.setdefault((gateway, unit), {})[ref.api] = part
            self.refs.add(gateway, part or unit, frozenset(entry.requires))

    def _by_unit(self, entry: ConfigResource) -> Mapping[str, list[DeploymentRef]]:
        units: dict[str, list[DeploymentRef]] = {}
        for ref in entry.deployments:
            units.setdefault(self.compiler.unit_of(entry.gateway, ref), []).append(ref)
        return units

    # -- when units are split

    def load_splitting(self, entry: ConfigResource) -> None:
        """Takes up a note from the config topic."""
        self._splitting[entry.name.rpartition("/")[0]] = int(entry.version)

    def drain(self, gateway: str) -> None:
        """The listener of a gateway changes: the one before may not be able to serve a unit that is split."""
        self._splitting[gateway] = self._held[gateway] = int(self.clock()) + DRAIN_SECONDS

    def notes(self, partition: int, position: int) -> list[ConfigResource]:
        """The notes that are to be put."""
        return [
            ConfigResource("", "", SPLITTING, f"{gateway}/{partition}", str(at), position, b"-")
            for gateway, at in self._held.items()
        ]

    def _is_split(self, unit: Unit, apis: int) -> bool:
        above = self.compiler.split_above(unit[0])
        if above < 0:
            return False
        return unit in self._parts or (apis > above and self._may_split(unit[0]))

    def _may_split(self, gateway: str) -> bool:
        return self.clock() >= self._splitting.get(gateway, 0)

    def becomes_whole(self, unit: Unit) -> bool:
        """Whether a unit is split that the translator does not split any more."""
        return unit in self._parts and self.compiler.split_above(unit[0]) < 0

    # -- what changed

    def touch(self, unit: Unit, apis: Iterable[str] | None) -> None:
        """These APIs of a unit changed; None: it is to be compiled again as a whole."""
        if apis is None:
            self._whole.add(unit)
        else:
            self._touched.setdefault(unit, set()).update(apis)

    def put(self) -> None:
        """All that changed is on the config topic."""
        for unput in (self._touched, self._whole, self._regrouped, self._held, self.left):
            unput.clear()

    def required(self, unit: Unit) -> frozenset[Resource]:
        """The resources that a unit requires, with those that its parts and groups do."""
        gateway, name = unit
        parts = self._parts.get(unit, {}).values()
        names = (name, *parts, *self._names.get(unit, ()))
        own = (self.compiler.part_resources(gateway, part) for part in parts)
        return frozenset[Resource]().union(*own, *(self.refs.of(gateway, each) for each in names))

    # -- entries

    async def made(self, unit: Unit, position: int) -> list[ConfigResource]:
        """The entries of what changed of a unit. Raises CannotCompile."""
        gateway, name = unit
        members = self.membership.units.get(gateway, {}).get(name, {})
        if members and self._is_split(unit, len(members)):
            already = unit in self._parts
            try:
                return await self._split(unit, members, position)
            except CannotCompile:
                if already:
                    raise
        entries = await self.compiler.entries(gateway, name, members.values(), position)
        self._groups.pop(unit, None)
        for each in (*self._parts.pop(unit, {}).values(), *self._names.pop(unit, ())):
            self._require(gateway, each, frozenset())
        return self._requiring(gateway, name, entries)

    async def _split(
        self, unit: Unit, members: Mapping[str, DeploymentRef], position: int
    ) -> list[ConfigResource]:
        gateway, name = unit
        if unit not in self._parts:
            self._whole.add(unit)
        parts, touched = self._parts.setdefault(unit, {}), self._touched.get(unit, set())
        if unit in self._whole:
            self._regrouped.setdefault(unit, set())
            self._groups.pop(unit, None)
        groups, _ = self._groups.get(unit, (None, False))
        made = list[ConfigResource]()
        began = perf_counter()
        for api in sorted({*members, *parts} if unit in self._whole else touched):
            ref, part, before = members.get(api), "", parts.get(api, "")
            if ref is not None:
                try:
                    part, entries = await self.compiler.part(gateway, name, ref, position)
                except CannotCompile as error:
                    if api in touched or not before:
                        raise
                    logger.error("%s: the entries of %s stay as they are: %s", gateway, api, error)
                    continue
                parts[api] = part
                made += self._requiring(gateway, part, entries)
            if part != before:
                self._regrouped.setdefault(unit, set())
                self._require(gateway, before, frozenset())
                if groups is not None:
                    groups.place(api, await self.compiler.part_of(gateway, name, ref) if ref else None)
            if not part:
                parts.pop(api, None)
            if perf_counter() - began > YIELD_AFTER_SECONDS:
                await asyncio.sleep(0)
                began = perf_counter()
        if unit in self._regrouped:
            made += await self._dispatching(unit, members.values(), position)
        return made

    async def _dispatching(
        self, unit: Unit, refs: Collection[DeploymentRef], position: int
    ) -> list[ConfigResource]:
        """The entries of the unit and of its groups that are others since parts came or went."""
        gateway, name = unit
        names, changed = self._names.setdefault(unit, set()), self._regrouped[unit]
        several = bool(names) or self._may_split(gateway)
        groups, had_several = self._groups.get(unit, (None, False))
        if groups is None or several != had_several:
            parts = self._parts[unit]
            groups = await self.compiler.groups(gateway, name, parts, refs, several=several)
            self._groups[unit] = groups, several
            changed |= names
        changed |= groups.changed()
        made = list[ConfigResource]()
        for each in sorted(changed):
            dispatching = groups.of(each)
            if each != name and not dispatching.parts:
                names.discard(each)
                self._require(gateway, each, frozenset())
                continue
            if each != name:
                names.add(each)
            entries = await self.compiler.dispatching(gateway, each, dispatching, position)
            made += self._requiring(gateway, each, entries)
        return made

    def _require(self, gateway: str, name: str, required: frozenset[Resource]) -> None:
        """Notes what a unit or a part requires."""
        for resource in sorted(self.refs.set(gateway, name, required)):
            self.left[gateway, resource] = None

    def _requiring(self, gateway: str, name: str, entries: Sequence[ConfigResource]) -> list[ConfigResource]:
        """The entries of a unit or a part. Those that others may share carry no deployments."""
        required = frozenset(resource for entry in entries for resource in entry.requires)
        self._require(gateway, name, required)
        return [
            replace(e, deployments=()) if e.deployments and (e.type, e.name) in required else e
            for e in entries
        ]

    async def uncompilable(
        self,
        unit: Unit,
        base: Mapping[str, DeploymentRef],
        suspects: Sequence[DeploymentRef],
        position: int,
        error: CannotCompile,
    ) -> list[Uncompilable]:
        """Which of the suspects cannot be compiled together with `base`; `error` is that of all together."""
        gateway, name = unit
        if unit not in self._parts:
            return await self.compiler.uncompilable(gateway, name, base, suspects, position)
        found: list[Uncompilable] = []
        for ref in suspects:
            try:
                await self.compiler.part(gateway, name, ref, position)
            except CannotCompile as own:
                found.append((ref, str(own)))
        return found or [(ref, str(error)) for ref in suspects]
