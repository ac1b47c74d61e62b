"""The changes of the gateways of one partition since the last put to the config topic, and the put.

Its state is on the config topic: the entries in force, the deployments that no node has acknowledged yet
(`streams.gateway_sync.acceptance`), and the positions up to which events and status were handled.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from gateways.config_resource import ConfigResource, DeploymentRef
from schemas.status import DeliveryReported
from streams.config_topic import ConfigWriter
from streams.gateway_sync.acceptance import Acceptance, Pending
from streams.gateway_sync.delivery_reports import published, rejected
from streams.gateway_sync.marks import POSITION, TRANSLATION, position_mark, removal, same, translation_mark
from streams.gateway_sync.resource_refs import Resource
from streams.gateway_sync.unit_compiler import CannotCompile, UnitCompiler, named
from streams.gateway_sync.unit_entries import SPLITTING, YIELD_AFTER_SECONDS, Unit, UnitEntries
from streams.gateway_sync.unit_membership import UnitMembership
from streams.gateway_sync.verdicts import Rejection, Verdicts

logger = logging.getLogger("signalbox.gateway-sync")

FOLLOWED = 2_000
"""The position on the status topic is put after this many records, even without other changes."""
REPORTED = 100
"""The position up to which deployments are reported is put after this many events: those behind it are
reported again at the next start."""

Current = Callable[[str, str, str], ConfigResource | None]
"""The entry in force for a gateway, type and name."""


@dataclass(slots=True)
class ConfigChanges:
    """For one task at a time: callers of its coroutines hold the lock `turn` of gateway sync.

    `position`: the position up to which events are in the config topic. `followed`: that up to which the
    status topic was read; None if nodes answer in this process. `reported` returns when all reports are on
    the log.
    """

    config: ConfigWriter
    current: Current
    compiler: UnitCompiler
    report: Callable[[Sequence[DeliveryReported]], None]
    reported: Callable[[], Awaitable[None]]
    partition: int
    followed: int | None = None
    position: int = 0
    reported_to: int = 0
    """The position up to which the reports of published deployments are on the log."""
    membership: UnitMembership = field(default_factory=UnitMembership)
    acceptance: Acceptance = field(default_factory=Acceptance)
    verdicts: Verdicts = field(default_factory=Verdicts)
    provisional: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a rejection waits for the answers of other nodes."""
    loaded: dict[str, set[Resource]] = field(default_factory=dict[str, set[Resource]])
    """By gateway: the entries that were loaded, until they are compared with those that should be there."""
    count: int = 0
    """The entries of gateways in force."""
    noted_count: int = 0
    """How many there were when the position was put last, for the comparison; 0 when that is unknown."""
    units: UnitEntries = field(init=False)
    _translated_by: dict[str, str] = field(default_factory=dict[str, str])
    """By kind of gateway."""
    _followed: int | None = None
    """`followed` as it is on the config topic."""
    _reported_to: int = 0
    """`reported_to` as it is on the config topic."""

    # Changes that are not on the config topic yet, all empty after each put:
    _dirty: dict[Unit, int] = field(default_factory=dict[Unit, int])
    """Units that changed, with the position of the event."""
    _ready: dict[Unit, Sequence[ConfigResource]] = field(default_factory=dict[Unit, Sequence[ConfigResource]])
    """Those of them that are compiled, with their entries that differ."""
    _before: dict[tuple[str, str], tuple[DeploymentRef | None, Pending | None]] = field(
        default_factory=dict[tuple[str, str], tuple[DeploymentRef | None, Pending | None]]
    )
    """By gateway and API that changed: the deployment in force."""
    _refused: dict[tuple[str, str], DeliveryReported] = field(
        default_factory=dict[tuple[str, str], DeliveryReported]
    )
    """By gateway and deployment."""

    def __post_init__(self) -> None:
        self.units = UnitEntries(self.compiler, self.membership)

    def load(self, entries: Iterable[ConfigResource]) -> None:
        """Loads the state from the config topic."""
        for entry in entries:
            if entry.gateway:
                self.loaded.setdefault(entry.gateway, set()).add((entry.type, entry.name))
                self.count += 1
                self._load(entry)
            elif entry.type == POSITION and entry.name == f"events/{self.partition}":
                self.position = entry.position
                self.noted_count = int(entry.version.partition("/")[2] or 0)
            elif entry.type == POSITION and entry.name == f"status/{self.partition}":
                self.followed = self._followed = entry.position
            elif entry.type == POSITION and entry.name == f"reports/{self.partition}":
                self.reported_to = self._reported_to = entry.position
            elif entry.type == TRANSLATION:
                kind, _, partition = entry.name.rpartition("/")
                if partition == str(self.partition):
                    self._translated_by[kind] = entry.version
            elif entry.type == SPLITTING:
                self.units.load_splitting(entry)
            else:
                self.acceptance.load(entry)

    def _load(self, entry: ConfigResource) -> None:
        self.compiler.load(entry.gateway, entry.kind)
        self.units.load(entry)

    # -- changes by events

    def deploy(self, gateway: str, ref: DeploymentRef, position: int) -> None:
        """Has a gateway serve a deployment."""
        self._refused.pop((gateway, ref.deployment), None)
        before = self.membership.deployment(gateway, ref.api)
        self._add(gateway, ref, position)
        self.acceptance.deployed(gateway, ref, before, position)

    def reject(self, gateway: str, ref: DeploymentRef, reason: str, position: int) -> None:
        """Rejects a deployment for a gateway; reported with the next put."""
        self.acceptance.drop_suspect(gateway, ref.api)
        self._refused[gateway, ref.deployment] = rejected(gateway, ref, reason, position)

    def stop(self, gateway: str, api: str, position: int) -> None:
        """Has a gateway stop serving an API."""
        self._remove(gateway, api, position)
        self.acceptance.stopped(gateway, api)

    def settings_changed(self, gateway: str, position: int) -> None:
        """Has all units of a gateway compiled again."""
        for unit in tuple(self.membership.units.get(gateway, ())):
            self._touch((gateway, unit), position)

    def listener_changed(self, gateway: str) -> None:
        """Proxies have to change their listener before units are split."""
        self.units.drain(gateway)

    def touch(self, gateway: str, unit: str) -> None:
        """Has a unit compiled again."""
        self._touch((gateway, unit), self.position)

    def touch_incomplete(self, gateway: str, unit: str, own: frozenset[Resource]) -> frozenset[Resource]:
        """Has a unit compiled again when a resource is missing: one of its `own`, or one that an entry of the
        unit requires. All these resources."""
        wanted = own | self.units.required((gateway, unit))
        if any(self.current(gateway, *resource) is None for resource in wanted):
            apis = named(self.membership.of(gateway, unit))
            logger.error("%s: the configuration of %s is incomplete", gateway, apis)
            self._touch((gateway, unit), self.position)
        elif self.units.becomes_whole((gateway, unit)):
            self._touch((gateway, unit), self.position)
        return wanted

    def translated_by(self, kind: str) -> str:
        """The version of the translator that made the entries of this kind of gateway; empty when unknown."""
        return self._translated_by.get(kind, "")

    def translation_marks(self, versions: Mapping[str, str]) -> Sequence[ConfigResource]:
        """Sets the versions of the translators, by kind; returns the entries to put for that."""
        new = {kind: version for kind, version in versions.items() if self.translated_by(kind) != version}
        self._translated_by.update(new)
        return [translation_mark(kind, self.partition, v, self.position) for kind, v in new.items()]

    @property
    def incomplete(self) -> bool:
        """Whether units wait to be compiled."""
        return bool(self._dirty)

    def differing(self, entries: Iterable[ConfigResource]) -> Sequence[ConfigResource]:
        """The entries that differ from those in force."""
        return [e for e in entries if not same(e, self.current(e.gateway, e.type, e.name))]

    # -- answers of nodes

    async def rejected(self, entry: ConfigResource, node: str, reason: str, at: int = 0) -> None:
        """Handles a node's rejection of an entry; `at`: the position of its report on the status topic.

        A superseded entry is not withdrawn: nodes answer its successor too. Raises LogUnavailable.
        """
        if self._dirty:
            await self.put(self.position)
        current = self.current(*entry.key)
        if current is None or current.version != entry.version:
            return
        if pending := self.acceptance.to_blame(entry.gateway, current.deployments):
            deployments = [each.ref.deployment for each in pending]
            self.verdicts.rejected(current, node, reason, deployments, at)
        await self.decide()

    async def decide(self) -> None:
        """Withdraws entries that are finally rejected. Raises LogUnavailable."""
        for rejection in self.verdicts.undecided():
            if not self._open(rejection):
                self.verdicts.decided(rejection)
                continue
            if self._dirty:
                await self.put(self.position)
            if self._in_force(rejection):
                if self.verdicts.final(rejection):
                    self._withdraw(rejection)
                    self.verdicts.decided(rejection)
                else:
                    self.provisional.set()
        await self.put_answers()

    def seconds_left(self) -> float | None:
        """Seconds until the next deadline of a verdict; None: no rejection waits for answers."""
        waiting = [r.deadline for r in self.verdicts.undecided() if self._in_force(r) and self._open(r)]
        return max(0.0, min(waiting) - self.verdicts.clock()) if waiting else None

    def _open(self, rejection: Rejection) -> bool:
        """Whether a rejected deployment is in force, and no node acknowledged it."""
        return bool(self.acceptance.to_blame(rejection.entry.gateway, rejection.entry.deployments))

    def _in_force(self, rejection: Rejection) -> bool:
        current = self.current(*rejection.entry.key)
        return current is not None and current.version == rejection.entry.version

    def _withdraw(self, rejection: Rejection) -> None:
        """Withdraws the unacknowledged deployments of an entry in force that is finally rejected."""
        gateway, position = rejection.entry.gateway, self.position
        pending = self.acceptance.to_blame(gateway, rejection.entry.deployments)
        if len(pending) == 1:
            (blamed,) = pending
            self.reject(gateway, blamed.ref, rejection.reason or "rejected by a node", position)
            back = blamed.without(position)
            self._go_back(gateway, blamed.ref.api, back.ref if back else blamed.good, position)
            self.acceptance.set(gateway, blamed.ref.api, back)
        else:
            for each in pending:
                self._go_back(gateway, each.ref.api, each.good, position)
                self.acceptance.suspect(gateway, each)

    async def put_answers(self) -> None:
        """Puts the changes that answers of nodes caused. Raises LogUnavailable."""
        await self._try_suspects(self.position)
        behind = (self._resumable() or 0) - (self._followed or 0)
        # After a crash, reports since the last put are read again.
        if self._dirty or behind >= FOLLOWED:
            await self.put(self.position)

    async def settle(self) -> None:
        """Returns once all reports so far are on the log. Raises LogUnavailable."""
        position = self.position
        await self.reported()
        self.reported_to = max(self.reported_to, position)

    async def put_notes(self) -> None:
        """Puts the acknowledgements of nodes that are not put yet. Raises LogUnavailable."""
        if self.acceptance.changed or self._many_reported:
            await self.put(self.position)

    @property
    def _many_reported(self) -> bool:
        return self.reported_to >= self._reported_to + REPORTED

    # -- deployments of units

    def _touch(self, unit: Unit, position: int, *apis: str) -> None:
        """Without `apis`, all of it is to be compiled again."""
        self.units.touch(unit, apis or None)
        self._dirty[unit] = position
        self._ready.pop(unit, None)

    def _note_before(self, gateway: str, api: str) -> None:
        known = (self.membership.deployment(gateway, api), self.acceptance.get(gateway, api))
        self._before.setdefault((gateway, api), known)

    def _add(self, gateway: str, ref: DeploymentRef, position: int) -> None:
        self._note_before(gateway, ref.api)
        for unit in self.membership.add(gateway, self.compiler.unit_of(gateway, ref), ref):
            self._touch((gateway, unit), position, ref.api)

    def _remove(self, gateway: str, api: str, position: int) -> None:
        self._note_before(gateway, api)
        for unit in self.membership.remove(gateway, api):
            self._touch((gateway, unit), position, api)

    def _go_back(self, gateway: str, api: str, ref: DeploymentRef | None, position: int) -> None:
        if ref is None:
            self._remove(gateway, api, position)
        else:
            self._add(gateway, ref, position)

    async def _try_suspects(self, position: int) -> None:
        for gateway in self.acceptance.suspected():
            try:
                await self.compiler.settings(gateway)
            except CannotCompile as error:
                logger.error("%s: rejected deployments are not tried again: %s", gateway, error)
                continue
            for suspect in self.acceptance.due(gateway, self.compiler.unit_of):
                ref = suspect.ref
                good = self.membership.deployment(gateway, ref.api)
                self._add(gateway, ref, position)
                pending = Pending(ref, good, suspect.candidates, position + 1, trial=True)
                self.acceptance.set(gateway, ref.api, pending)

    # -- compiling and putting

    async def put(self, position: int, others: Sequence[ConfigResource] = ()) -> int:
        """Compiles the units that changed and puts the entries that differ; returns their number. Raises
        LogUnavailable."""
        began = perf_counter()
        await self._try_suspects(position)
        while waiting := [unit for unit in self._dirty if unit not in self._ready]:
            for unit in waiting:
                self._ready[unit] = await self._compiled(unit, self._dirty[unit])
                if perf_counter() - began > YIELD_AFTER_SECONDS:
                    await asyncio.sleep(0)
                    began = perf_counter()
            await self._try_suspects(position)
        changed = [*others, *(entry for entries in self._ready.values() for entry in entries)]
        await self._publish(changed, position)
        return len(changed)

    async def _compiled(self, unit: Unit, position: int) -> Sequence[ConfigResource]:
        """The entries of a unit that differ from those in force, without deployments that cannot be
        compiled."""
        try:
            entries = await self.units.made(unit, position)
        except CannotCompile as error:
            await self._take_back(unit, position, error)
            refs = self.membership.of(*unit)
            try:
                entries = await self.units.made(unit, position)
            except CannotCompile:
                logger.error("%s: the entries of %s stay as they are: %s", unit[0], named(refs), error)
                return ()
        return self.differing(entries)

    async def _take_back(self, unit: Unit, position: int, error: CannotCompile) -> None:
        """Rejects the changes of a unit that cannot be compiled; the deployments before them stay in
        force."""
        gateway, name = unit
        base = {ref.api: ref for ref in self.membership.of(*unit)}
        suspects: list[DeploymentRef] = []
        for ref in tuple(base.values()):
            before, _ = self._before.get((gateway, ref.api), (ref, None))
            if before != ref:
                suspects.append(ref)
                del base[ref.api]
                if before is not None and self.compiler.unit_of(gateway, before) == name:
                    base[ref.api] = before
        for ref, reason in await self.units.uncompilable(unit, base, suspects, position, error):
            before, pending = self._before[gateway, ref.api]
            self._go_back(gateway, ref.api, before, position)
            self.acceptance.set(gateway, ref.api, pending)
            self.reject(gateway, ref, reason, position)

    async def _publish(self, changed: Sequence[ConfigResource], position: int) -> None:
        """Puts entries, and the removals of shared resources that no unit requires. Raises LogUnavailable."""
        if self._refused:
            # Before the put: an event is not handled twice, so a crash in between would lose these reports.
            self.report(list(self._refused.values()))
            await self.reported()
        removals = [
            removal(current, position)
            for gateway, resource in self.units.left
            if not self.units.refs.required(gateway, resource)
            and (current := self.current(gateway, *resource)) is not None
        ]
        reports = published([*changed, *removals], self.current)
        followed = self._resumable()
        reported_to = self.reported_to if self._many_reported else self._reported_to
        notes = [*self.acceptance.notes(self.partition), *self.units.notes(self.partition, position)]
        after = {entry.key: bool(entry.body) for entry in (*changed, *removals) if entry.gateway}
        count = self.count + sum(there - (self.current(*key) is not None) for key, there in after.items())
        marks = self._marks(position, count, followed, reported_to)
        await self.config.put([*changed, *removals, *notes, *marks])
        self.position, self.count, self._followed, self._reported_to = position, count, followed, reported_to
        self.acceptance.noted()
        self.units.put()
        for unput in (self._dirty, self._ready, self._before, self._refused):
            unput.clear()
        self.report(reports)

    def _resumable(self) -> int | None:
        """The position up to which the status topic need not be read again: after a crash the first undecided
        rejection is read again."""
        waiting = [r.at for r in self.verdicts.undecided() if r.at and self._in_force(r) and self._open(r)]
        if self.followed is None or not waiting:
            return self.followed
        return max(min(self.followed, *(at - 1 for at in waiting)), self._followed or 0)

    def _marks(
        self, position: int, count: int, followed: int | None, reported_to: int
    ) -> list[ConfigResource]:
        marks = [position_mark("events", self.partition, position, f"{position}/{count}")]
        if followed is not None and followed != self._followed:
            marks.append(position_mark("status", self.partition, followed, str(followed)))
        if reported_to != self._reported_to:
            marks.append(position_mark("reports", self.partition, reported_to, str(reported_to)))
        return marks
