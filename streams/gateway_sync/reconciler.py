"""Finds entries that are missing on the config topic by their names, and compiles them again.

Done once, when gateway sync starts, so that changes do not pay for it. Entries of APIs that are there are as
they were put, so only missing ones are looked for; when another version of the translator made them, all are
compiled again. The entries of a gateway beside its APIs depend on its settings too, and are compared. That a
unit, or a gateway, has lost all its entries shows in their number.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from gateways.config_resource import ConfigResource, DeploymentRef
from gateways.translator import Translator
from schemas.aggregates.deployment import DeploymentStarted, DeploymentStopped
from schemas.catalog import GATEWAY
from schemas.upcasting import UnknownSchema
from streams.gateway_sync.config_changes import ConfigChanges
from streams.gateway_sync.event_history import Unreadable, event_of
from streams.gateway_sync.resource_refs import Resource
from streams.gateway_sync.unit_compiler import CannotCompile, UnitCompiler
from streams.gateway_sync.unit_entries import YIELD_AFTER_SECONDS
from streams.log import Log

BATCH = 1000
UNITS = 200
"""Units that are translated again in one put."""
CANDIDATES = 8
"""Maximum number of deployments of an API that a gateway may return to."""

OwnResources = Callable[[str], frozenset[Resource]]
"""The resources that a unit always has, except those that its entries require."""
Lost = Mapping[str, tuple[frozenset[Resource], OwnResources]]
"""By gateway: the entries that no unit has the deployments of."""

logger = logging.getLogger("signalbox.gateway-sync")


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Numbers of entries that are put again: missing ones, and those that the settings or the translator of
    this process make differently."""

    missing: int = 0
    changed: int = 0


@dataclass(slots=True)
class Reconciler:
    """`own` makes the entries of a gateway beside its APIs. Callers hold the lock `turn` of gateway sync."""

    log: Log
    partition: int
    changes: ConfigChanges
    compiler: UnitCompiler
    translators: Mapping[str, Translator[Any]]
    own: Callable[[str, str], Awaitable[Sequence[ConfigResource]]]

    async def run(self) -> Reconciled:
        """Raises LogUnavailable, LogDamaged."""
        changes, differing = self.changes, list[ConfigResource]()
        translated = 0
        lost: dict[str, tuple[frozenset[Resource], OwnResources]] = {}
        began = perf_counter()
        loaded, changes.loaded = changes.loaded, {}
        missing = changes.noted_count - sum(map(len, loaded.values()))
        count, changes.noted_count = changes.count, 0
        for gateway, there in loaded.items():
            try:
                kind = (await self.compiler.settings(gateway)).kind
                own = await self.own(gateway, kind)
                own_resources = await self._own_resources(gateway)
            except CannotCompile as error:
                logger.error("%s is not compared with its expected entries: %s", gateway, error)
                continue
            changed_own = changes.differing(own)
            if any(changes.current(*entry.key) is not None for entry in changed_own):
                changes.listener_changed(gateway)
            differing += changed_own
            if changes.translated_by(kind) != self.translators[kind].VERSION:
                translated += await self._translate_again(gateway)
            orphans = there.difference((entry.type, entry.name) for entry in own)
            for unit in tuple(changes.membership.units.get(gateway, ())):
                orphans -= changes.touch_incomplete(gateway, unit, own_resources(unit))
                if perf_counter() - began > YIELD_AFTER_SECONDS:
                    await asyncio.sleep(0)
                    began = perf_counter()
            if orphans:
                lost[gateway] = (frozenset(orphans), own_resources)
        if lost:
            await self._deploy_again(lost)
        marks = changes.translation_marks({kind: of.VERSION for kind, of in self.translators.items()})
        changed = sum(changes.current(e.gateway, e.type, e.name) is not None for e in differing)
        put = 0
        if differing or marks or changes.incomplete:
            put = await changes.put(changes.position, [*differing, *marks]) - len(marks)
        missing -= changes.count - count
        if missing > 0 and not translated:
            logger.error("%d entries of the configuration are missing", missing)
            gateways = await self._deploy_again(None)
            own = [entry for gateway in sorted(gateways) for entry in await self._own_entries(gateway)]
            put += await changes.put(changes.position, changes.differing(own))
        return Reconciled(missing=put - changed, changed=translated + changed)

    async def _translate_again(self, gateway: str) -> int:
        """Puts the entries that this version of the translator makes differently; returns their number."""
        changes, put = self.changes, 0
        units = tuple(changes.membership.units.get(gateway, ()))
        logger.info("%s: the APIs of %d units are translated again", gateway, len(units))
        for at in range(0, len(units), UNITS):
            for unit in units[at : at + UNITS]:
                changes.touch(gateway, unit)
            put += await changes.put(changes.position)
        return put

    async def _own_resources(self, gateway: str) -> OwnResources:
        settings = await self.compiler.settings(gateway)
        translator = self.translators[settings.kind]

        def own_resources(unit: str) -> frozenset[Resource]:
            # Without APIs these are the removals of all resources that are named after the unit.
            return frozenset((e.type, e.name) for e in translator.unit_entries(settings, unit, (), 0))

        return own_resources

    async def _own_entries(self, gateway: str) -> Sequence[ConfigResource]:
        return await self.own(gateway, (await self.compiler.settings(gateway)).kind)

    async def _deploy_again(self, lost: Lost | None) -> Set[str]:
        """Deploys the active deployments of units that have entries, but none that carries deployments; None:
        of all units without such an entry. The gateways of these deployments.

        Other active deployments that are not in force were rejected, and stay so. An API without a deployment
        that would be accepted today gets the last one back that only earlier versions accepted.
        """
        active = await self._active(lost)
        for (gateway, api), refs in active.items():
            if self.changes.membership.deployment(gateway, api) is not None:
                continue
            logger.error("%s: the configuration of the API %s is missing", gateway, api)
            accepted, formerly = list[DeploymentRef](), list[DeploymentRef]()
            for ref in refs:
                try:
                    await self.compiler.check(gateway, ref)
                except CannotCompile as error:
                    logger.error("%s: deployment %s: %s", gateway, ref.deployment, error)
                    formerly += [ref] if error.only_new else []
                else:
                    accepted.append(ref)
            for ref in accepted or formerly[-1:]:
                self.changes.deploy(gateway, ref, self.changes.position)
        return {gateway for gateway, _ in active}

    async def _known(self, gateway: str) -> bool:
        """Whether units of a gateway have names: its settings are loaded, unless it was removed."""
        try:
            await self.compiler.settings(gateway)
        except CannotCompile:
            return False
        return True

    async def _active(self, lost: Lost | None) -> dict[tuple[str, str], list[DeploymentRef]]:
        """By gateway and API: the deployments since it was stopped last, of those whose unit is lost."""
        active: dict[tuple[str, str], list[DeploymentRef]] = {}
        api_of: dict[tuple[str, str], str] = {}
        at = 0
        while at < self.changes.position:
            records = await self.log.read("events", self.partition, at, BATCH)
            if not records:
                break
            at = records[-1].position
            for record in records:
                if record.fault is not None or ".deployment." not in record.envelope.type:
                    continue
                try:
                    event = event_of(record.envelope)
                except (UnknownSchema, Unreadable):
                    continue  # it is dead-lettered
                match event:
                    case DeploymentStarted():
                        api_of[event.organization, event.name] = event.api
                        ref = DeploymentRef(
                            event.name, event.api, event.revision, event.context, event.hosts[0]
                        )
                        for name in event.gateways:
                            gateway = GATEWAY.subject(event.organization, name)
                            if gateway in lost if lost is not None else await self._known(gateway):
                                unit = self.compiler.unit_of(gateway, ref)
                                before = active.get((gateway, event.api), [])
                                same = [c for c in before if self.compiler.unit_of(gateway, c) == unit]
                                active[gateway, event.api] = [*same, ref][-CANDIDATES:]
                    case DeploymentStopped():
                        api = api_of.get((event.organization, event.name), "")
                        for name in event.left:
                            active.pop((GATEWAY.subject(event.organization, name), api), None)
                    case _:
                        pass
        return {
            (gateway, api): refs
            for (gateway, api), refs in active.items()
            if lost is None or await self._own_of(gateway, refs[-1], lost[gateway][1]) & lost[gateway][0]
        }

    async def _own_of(
        self, gateway: str, ref: DeploymentRef, own_resources: OwnResources
    ) -> frozenset[Resource]:
        """The resources of the unit of a deployment, and those of its part if the unit is split."""
        unit = self.compiler.unit_of(gateway, ref)
        own = own_resources(unit)
        if self.compiler.split_above(gateway) < 0:
            return own
        try:
            part = await self.compiler.part_of(gateway, unit, ref)
        except CannotCompile:
            return own
        return own | self.compiler.part_resources(gateway, part.name)
