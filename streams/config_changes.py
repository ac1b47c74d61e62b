"""What the gateways of one partition are to run: the changes since the last put to the config topic, and
the put.

Its state is the config topic itself: what is in force, which of it no node has acknowledged yet
(`streams.acceptance`), and how far the events and the status topic are followed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

from gateways.compiler import group_of
from gateways.config_resource import ConfigResource, DeploymentRef
from schemas.status import DeliveryReported
from streams.acceptance import Acceptance, Group, Pending
from streams.config_topic import ConfigWriter
from streams.delivery_reports import published, rejected
from streams.group_compiler import CannotCompile, GroupCompiler
from streams.group_membership import GroupMembership
from streams.resource_refs import Resource, ResourceRefs
from streams.verdicts import Rejection, Verdicts

logger = logging.getLogger("signalbox.gateway-sync")

POSITION = "signalbox.io/position"
"""The entry type that says up to where the events, and the status topic, are in the config topic, put with
what they changed: a power failure that takes one takes the other, and both are done again."""
TRANSLATION = "signalbox.io/translation"
"""The entry type that says which version of a kind's translator made the entries."""
BREATH_SECONDS = 0.005
"""How long compiling may keep the loop to itself."""
FOLLOWED = 2_000
"""Positions on the status topic after which ours is put, even when nothing else is."""

Current = Callable[[str, str, str], ConfigResource | None]
"""The entry in force for a gateway, type and name."""


@dataclass(slots=True)
class ConfigChanges:
    """One task at a time may use it: whoever awaits anything here holds the turn of gateway sync.

    `position` is up to where the events are in the config topic. `followed` is up to where the status topic
    has been read; None when nodes answer in this process. `reported` returns when all that was reported is on
    the log.
    """

    config: ConfigWriter
    current: Current
    compiler: GroupCompiler
    report: Callable[[Sequence[DeliveryReported]], None]
    reported: Callable[[], Awaitable[None]]
    partition: int
    followed: int | None = None
    position: int = 0
    membership: GroupMembership = field(default_factory=GroupMembership)
    acceptance: Acceptance = field(default_factory=Acceptance)
    verdicts: Verdicts = field(default_factory=Verdicts)
    provisional: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a rejection waits for the answers of other nodes."""
    loaded: dict[str, set[Resource]] = field(default_factory=dict[str, set[Resource]])
    """By gateway: what was loaded, until that is compared with what should be there."""
    _resource_refs: ResourceRefs = field(default_factory=ResourceRefs)
    _translated_by: dict[str, str] = field(default_factory=dict[str, str])
    """By kind of gateway."""
    _followed: int | None = None
    """What the config topic says of `followed`."""

    # What is not on the config topic yet, all empty after each put:
    _dirty: dict[Group, int] = field(default_factory=dict[Group, int])
    """Groups that changed, with the position of the event."""
    _ready: dict[Group, Sequence[ConfigResource]] = field(
        default_factory=dict[Group, Sequence[ConfigResource]]
    )
    """What differs in those of them that are compiled."""
    _before: dict[tuple[str, str], tuple[DeploymentRef | None, Pending | None]] = field(
        default_factory=dict[tuple[str, str], tuple[DeploymentRef | None, Pending | None]]
    )
    """By gateway and API that changed: what is in force."""
    _left: dict[tuple[str, Resource], None] = field(default_factory=dict[tuple[str, Resource], None])
    """Shared resources that a group needs no longer, to be removed unless another one does."""
    _refused: dict[tuple[str, str], DeliveryReported] = field(
        default_factory=dict[tuple[str, str], DeliveryReported]
    )
    """By gateway and deployment."""

    def load(self, entries: Iterable[ConfigResource]) -> None:
        """Takes up the state from the config topic."""
        for entry in entries:
            if entry.gateway:
                self.loaded.setdefault(entry.gateway, set()).add((entry.type, entry.name))
                self._load(entry)
            elif entry.type == POSITION and entry.name == f"events/{self.partition}":
                self.position = entry.position
            elif entry.type == POSITION and entry.name == f"status/{self.partition}":
                self.followed = self._followed = entry.position
            elif entry.type == TRANSLATION:
                kind, _, partition = entry.name.rpartition("/")
                if partition == str(self.partition):
                    self._translated_by[kind] = entry.version
            else:
                self.acceptance.load(entry)

    def _load(self, entry: ConfigResource) -> None:
        for ref in entry.deployments:
            self.membership.place(entry.gateway, group_of(ref.context), ref)
        for group in {group_of(ref.context) for ref in entry.deployments}:
            needs = self._resource_refs.of(entry.gateway, group)
            self._resource_refs.set(entry.gateway, group, needs | frozenset(entry.requires))

    # -- what events change

    def deploy(self, gateway: str, ref: DeploymentRef, position: int) -> None:
        """A gateway is to serve a deployment."""
        self._refused.pop((gateway, ref.deployment), None)
        before = self.membership.deployment(gateway, ref.api)
        self._place(gateway, ref, position)
        self.acceptance.deployed(gateway, ref, before, position)

    def reject(self, gateway: str, ref: DeploymentRef, reason: str, position: int) -> None:
        """A gateway is not to serve a deployment that was decided: reported with the next put."""
        self.acceptance.decided_anew(gateway, ref.api)
        self._refused[gateway, ref.deployment] = rejected(gateway, ref, reason, position)

    def stop(self, gateway: str, api: str, position: int) -> None:
        """A gateway is to serve nothing of an API."""
        self._remove(gateway, api, position)
        self.acceptance.stopped(gateway, api)

    def settings_changed(self, gateway: str, position: int) -> None:
        """All groups of a gateway are to be compiled anew."""
        for group in tuple(self.membership.groups.get(gateway, ())):
            self._touch((gateway, group), position)

    def touch(self, gateway: str, group: str) -> None:
        """A group is to be compiled anew."""
        self._touch((gateway, group), self.position)

    def touch_incomplete(self, gateway: str, group: str, named: frozenset[Resource]) -> frozenset[Resource]:
        """Has a group compiled anew when a resource is missing: one that is `named`, or that an entry of the
        group requires. All these resources."""
        wanted = named | self._resource_refs.of(gateway, group)
        if any(self.current(gateway, *resource) is None for resource in wanted):
            logger.error("%s: the configuration of the APIs under /%s is incomplete", gateway, group)
            self._touch((gateway, group), self.position)
        return wanted

    def translated_by(self, kind: str) -> str:
        """The version of the translator that made the entries of this kind of gateway; empty when unknown."""
        return self._translated_by.get(kind, "")

    def translation_marks(self, versions: Mapping[str, str]) -> Sequence[ConfigResource]:
        """Notes, by kind, the versions of the translators from now on; what is to be put with the entries."""
        new = {kind: version for kind, version in versions.items() if self.translated_by(kind) != version}
        self._translated_by.update(new)
        return [
            ConfigResource("", "", TRANSLATION, f"{kind}/{self.partition}", version, self.position, b"-")
            for kind, version in new.items()
        ]

    @property
    def incomplete(self) -> bool:
        """Whether groups wait to be compiled."""
        return bool(self._dirty)

    def differing(self, entries: Iterable[ConfigResource]) -> Sequence[ConfigResource]:
        """Those that are not in force as they are."""
        return [e for e in entries if not _same(e, self.current(e.gateway, e.type, e.name))]

    # -- what nodes answer

    async def rejected(self, entry: ConfigResource, node: str, reason: str, at: int = 0) -> None:
        """A node rejected an entry; `at` is where that stands on the status topic.

        An entry that is not in force any more needs not be taken back: nodes answer its successor too.
        Raises LogUnavailable.
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
        """Takes back what is rejected for its gateway by now. Raises LogUnavailable."""
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
        """Until the next verdict is due although nodes have not answered. None: nothing waits for any."""
        waiting = [r.deadline for r in self.verdicts.undecided() if self._in_force(r) and self._open(r)]
        return max(0.0, min(waiting) - self.verdicts.clock()) if waiting else None

    def _open(self, rejection: Rejection) -> bool:
        """Whether a deployment that was rejected is in force, and no node acknowledged it."""
        return bool(self.acceptance.to_blame(rejection.entry.gateway, rejection.entry.deployments))

    def _in_force(self, rejection: Rejection) -> bool:
        current = self.current(*rejection.entry.key)
        return current is not None and current.version == rejection.entry.version

    def _withdraw(self, rejection: Rejection) -> None:
        """Takes back what no node acknowledged of an entry in force that is rejected for its gateway."""
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
        """Puts what follows from what nodes answered. Raises LogUnavailable."""
        self._try_suspects(self.position)
        behind = (self._resumable() or 0) - (self._followed or 0)
        # Until then a crash has it read again.
        if self._dirty or behind >= FOLLOWED:
            await self.put(self.position)

    async def put_notes(self) -> None:
        """Puts what nodes acknowledged, unless that went with something else. Raises LogUnavailable."""
        if self.acceptance.changed:
            await self.put(self.position)

    # -- what is to be in force

    def _touch(self, group: Group, position: int) -> None:
        self._dirty[group] = position
        self._ready.pop(group, None)

    def _note_before(self, gateway: str, api: str) -> None:
        known = (self.membership.deployment(gateway, api), self.acceptance.get(gateway, api))
        self._before.setdefault((gateway, api), known)

    def _place(self, gateway: str, ref: DeploymentRef, position: int) -> None:
        self._note_before(gateway, ref.api)
        for group in self.membership.place(gateway, group_of(ref.context), ref):
            self._touch((gateway, group), position)

    def _remove(self, gateway: str, api: str, position: int) -> None:
        self._note_before(gateway, api)
        for group in self.membership.remove(gateway, api):
            self._touch((gateway, group), position)

    def _go_back(self, gateway: str, api: str, ref: DeploymentRef | None, position: int) -> None:
        if ref is None:
            self._remove(gateway, api, position)
        else:
            self._place(gateway, ref, position)

    def _try_suspects(self, position: int) -> None:
        for gateway, suspect in self.acceptance.due():
            ref = suspect.ref
            good = self.membership.deployment(gateway, ref.api)
            self._place(gateway, ref, position)
            pending = Pending(ref, good, suspect.candidates, position + 1, trial=True)
            self.acceptance.set(gateway, ref.api, pending)

    # -- compiling and putting

    async def put(self, position: int, others: Sequence[ConfigResource] = ()) -> int:
        """Compiles the groups that changed and puts what differs; how many entries. Raises LogUnavailable."""
        began = perf_counter()
        self._try_suspects(position)
        while waiting := [group for group in self._dirty if group not in self._ready]:
            for group in waiting:
                self._ready[group] = await self._compiled(group, self._dirty[group])
                if perf_counter() - began > BREATH_SECONDS:
                    await asyncio.sleep(0)
            self._try_suspects(position)
        changed = [*others, *(entry for entries in self._ready.values() for entry in entries)]
        await self._publish(changed, position)
        return len(changed)

    async def _compiled(self, group: Group, position: int) -> Sequence[ConfigResource]:
        """What differs in one group from what is in force, without what cannot be compiled."""
        gateway, name = group
        try:
            entries = await self.compiler.group(*group, self._deployments_of(group), position)
        except CannotCompile as error:
            await self._take_back(group, position)
            try:
                entries = await self.compiler.group(*group, self._deployments_of(group), position)
            except CannotCompile:
                logger.error("%s: the APIs under /%s stay as they are: %s", gateway, name, error)
                return ()
        needs = frozenset(resource for entry in entries for resource in entry.requires)
        shared = [replace(e, deployments=()) if (e.type, e.name) in needs else e for e in entries]
        for resource in sorted(self._resource_refs.set(gateway, name, needs)):
            self._left[gateway, resource] = None
        return self.differing(shared)

    def _deployments_of(self, group: Group) -> Collection[DeploymentRef]:
        return self.membership.of(*group).values()

    async def _take_back(self, group: Group, position: int) -> None:
        """Refuses those changes of a group that cannot be compiled; what was in force before stays."""
        gateway, name = group
        base = {ref.api: ref for ref in self._deployments_of(group)}
        suspects: list[DeploymentRef] = []
        for ref in tuple(base.values()):
            before, _ = self._before.get((gateway, ref.api), (ref, None))
            if before != ref:
                suspects.append(ref)
                del base[ref.api]
                if before is not None and group_of(before.context) == name:
                    base[ref.api] = before
        for ref, reason in await self.compiler.refused(*group, base, suspects, position):
            before, pending = self._before[gateway, ref.api]
            self._go_back(gateway, ref.api, before, position)
            self.acceptance.set(gateway, ref.api, pending)
            self.reject(gateway, ref, reason, position)

    async def _publish(self, changed: Sequence[ConfigResource], position: int) -> None:
        """Puts entries, and the removal of what nobody needs any more. Raises LogUnavailable."""
        if self._refused:
            # After the put nobody would say so again: an event is not handled twice.
            self.report(list(self._refused.values()))
            await self.reported()
        reports = published(changed, self.current)
        removals = [
            removal(current, position)
            for gateway, resource in self._left
            if not self._resource_refs.needed(gateway, resource)
            and (current := self.current(gateway, *resource)) is not None
        ]
        followed = self._resumable()
        notes = self.acceptance.notes(self.partition)
        await self.config.put([*changed, *removals, *notes, *self._marks(position, followed)])
        self.position, self._followed = position, followed
        self.acceptance.noted()
        for unput in (self._dirty, self._ready, self._before, self._left, self._refused):
            unput.clear()
        self.report(reports)

    def _resumable(self) -> int | None:
        """Up to where the status topic needs not be read again: the first rejection that is not decided is
        read once more after a crash."""
        waiting = [r.at for r in self.verdicts.undecided() if r.at and self._in_force(r) and self._open(r)]
        if self.followed is None or not waiting:
            return self.followed
        return max(min(self.followed, *(at - 1 for at in waiting)), self._followed or 0)

    def _marks(self, position: int, followed: int | None) -> list[ConfigResource]:
        marks = [_mark("events", self.partition, position)]
        if followed is not None and followed != self._followed:
            marks.append(_mark("status", self.partition, followed))
        return marks


def _mark(topic: str, partition: int, position: int) -> ConfigResource:
    return ConfigResource("", "", POSITION, f"{topic}/{partition}", str(position), position, b"-")


def removal(entry: ConfigResource, position: int) -> ConfigResource:
    """What takes an entry off the config topic."""
    return replace(entry, version="", position=position, body=b"", requires=(), deployments=())


def _same(entry: ConfigResource, current: ConfigResource | None) -> bool:
    return (
        current is not None
        and entry.version == current.version
        and entry.deployments == current.deployments
        and entry.requires == current.requires
    )
