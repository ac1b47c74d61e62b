"""What the config topic lacks of what it should have, found by names and compiled again.

Done once, when gateway sync starts: a change does not pay for it. Entries of APIs that are there are as they
were put, so only their absence is looked for; when another version of the translator made them, all are
compiled again. What a gateway has beside its APIs depends on settings too, and is compared.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from gateways.compiler import group_of
from gateways.config_resource import ConfigResource, DeploymentRef
from gateways.translator import Translator
from schemas.catalog import GATEWAY
from schemas.deployment import DeploymentStarted, DeploymentStopped
from schemas.upcasting import UnknownSchema
from streams.config_changes import BREATH_SECONDS, ConfigChanges
from streams.event_history import Unreadable, event_of
from streams.group_compiler import CannotCompile, GroupCompiler
from streams.log import Log
from streams.resource_refs import Resource

BATCH = 1000
GROUPS = 200
"""Groups that are translated again in one put."""
CANDIDATES = 8
"""How many deployments of an API a gateway may go back to."""

Named = Callable[[str], frozenset[Resource]]
"""Of a group: what it cannot be without, but for what its entries require."""

logger = logging.getLogger("signalbox.gateway-sync")


@dataclass(slots=True)
class Reconciler:
    """`own` answers what a gateway has beside its APIs. All of it holds the turn of gateway sync."""

    log: Log
    partition: int
    changes: ConfigChanges
    compiler: GroupCompiler
    translators: Mapping[str, Translator]
    own: Callable[[str, str], Awaitable[Sequence[ConfigResource]]]

    async def run(self) -> int:
        """How many entries were missing or differed and are put again. Raises LogUnavailable, LogDamaged."""
        changes, lacking = self.changes, list[ConfigResource]()
        put = 0
        lost: dict[str, tuple[frozenset[Resource], Named]] = {}
        began = perf_counter()
        loaded, changes.loaded = changes.loaded, {}
        for gateway, there in loaded.items():
            try:
                kind = (await self.compiler.settings(gateway)).kind
                own = await self.own(gateway, kind)
                named = await self._named(gateway)
            except CannotCompile as error:
                logger.error("%s is not compared with what it should have: %s", gateway, error)
                continue
            lacking += changes.differing(own)
            if changes.translated_by(kind) != self.translators[kind].VERSION:
                put += await self._translate_again(gateway)
            orphans = there.difference((entry.type, entry.name) for entry in own)
            for group in tuple(changes.membership.groups.get(gateway, ())):
                orphans -= changes.touch_incomplete(gateway, group, named(group))
                if perf_counter() - began > BREATH_SECONDS:
                    await asyncio.sleep(0)
                    began = perf_counter()
            if orphans:
                lost[gateway] = (frozenset(orphans), named)
        if lost:
            await self._deploy_again(lost)
        marks = changes.translation_marks({kind: of.VERSION for kind, of in self.translators.items()})
        if not lacking and not marks and not changes.incomplete:
            return put
        return put + await changes.put(changes.position, [*lacking, *marks]) - len(marks)

    async def _translate_again(self, gateway: str) -> int:
        """Puts what another version of the translator makes differently; how many entries."""
        changes, put = self.changes, 0
        groups = tuple(changes.membership.groups.get(gateway, ()))
        logger.info("%s: the APIs under %d first path segments are translated again", gateway, len(groups))
        for at in range(0, len(groups), GROUPS):
            for group in groups[at : at + GROUPS]:
                changes.touch(gateway, group)
            put += await changes.put(changes.position)
        return put

    async def _named(self, gateway: str) -> Named:
        settings = await self.compiler.settings(gateway)
        translator = self.translators[settings.kind]

        def named(group: str) -> frozenset[Resource]:
            # Without APIs it is the removal of all that the group has by name.
            return frozenset((e.type, e.name) for e in translator.api_entries(settings, group, (), 0))

        return named

    async def _deploy_again(self, lost: Mapping[str, tuple[frozenset[Resource], Named]]) -> None:
        """Deploys what was active in groups of which something is left, but not what carries deployments.

        What is not in force otherwise was refused, and stays so.
        """
        for (gateway, api), refs in (await self._active(lost)).items():
            if self.changes.membership.deployment(gateway, api) is not None:
                continue
            logger.error("%s: the configuration of the API %s is missing", gateway, api)
            for ref in refs:
                try:
                    await self.compiler.check(gateway, ref)
                except CannotCompile as error:
                    logger.error("%s: deployment %s: %s", gateway, ref.deployment, error)
                else:
                    self.changes.deploy(gateway, ref, self.changes.position)

    async def _active(
        self, lost: Mapping[str, tuple[frozenset[Resource], Named]]
    ) -> dict[tuple[str, str], list[DeploymentRef]]:
        """By gateway and API: the deployments since it was stopped last, of those whose group is lost."""
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
                    continue  # it is on the parked topic
                match event:
                    case DeploymentStarted():
                        api_of[event.organization, event.name] = event.api
                        ref = DeploymentRef(
                            event.name, event.api, event.revision, event.context, event.hosts[0]
                        )
                        for name in event.gateways:
                            gateway = GATEWAY.subject(event.organization, name)
                            if gateway in lost:
                                before = active.get((gateway, event.api), [])
                                same = [c for c in before if group_of(c.context) == group_of(ref.context)]
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
            if lost[gateway][1](group_of(refs[-1].context)) & lost[gateway][0]
        }
