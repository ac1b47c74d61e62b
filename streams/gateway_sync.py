"""Gateway sync: events in, ready configuration entries out, at the cost of what changed.

For every event it knows which groups (APIs sharing the first path segment of one gateway) it
touches, compiles these alone, and puts what differs on the config topic. Its state is the config
topic itself and its position in the events; doing an event twice changes nothing, because versions
are content hashes.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

from gateways.compiler import compile_api, group_of
from gateways.entry import Cause, Entry, content_version
from gateways.model import DeployedApi, GatewaySettings, told
from gateways.translator import Translator
from schemas.catalog import GATEWAY
from schemas.deployment import DeploymentStarted, DeploymentStopped
from schemas.gateway import GatewayChanged, GatewayFields, GatewayRegistered, GatewayRemoved
from schemas.identity import timestamp
from schemas.message import Event
from schemas.status import DeliveryReported, Fact
from streams.config_topic import Putting
from streams.contributions import Contributions
from streams.log import Fault, Log, LogDamaged, LogUnavailable, Record
from streams.parking import parked
from streams.refusals import Group, Refusals
from streams.register_reading import Recent, RegisterReading, event_of
from streams.requirements import Requirements, Resource

logger = logging.getLogger("signalbox.gateway-sync")

SOURCE = "/signalbox/gateway-sync"
POSITION = "signalbox.io/position"
"""The entry type that says up to where the events are in the config topic, put with what they changed:
a power failure that takes one takes the other, and the events are done again."""

CREDENTIALS = "signalbox.io/credentials"
"""The entry type under which a gateway's token digest travels to whoever lets its nodes in."""
BATCH = 128
RETRY_SECONDS = 0.5
BREATH_SECONDS = 0.005
"""How long compiling may keep the loop to itself."""

Current = Callable[[str, str, str], Entry | None]
"""The entry in force for a gateway, type and name."""


@dataclass(slots=True)
class GatewaySync:
    """The consumer for one partition.

    `current` is the config topic as it stands, `report` takes status messages, and `compiled` hears
    how many entries a batch changed and how many seconds it took. `hears_all` says whether it hears of
    every acknowledgement, or only of those by which a deployment came to a node.
    """

    log: Log
    config: Putting
    translators: Mapping[str, Translator]
    current: Current
    report: Callable[[Sequence[DeliveryReported]], None]
    probe_secret: Callable[[str], str]
    compiled: Callable[[int, float], None]
    partition: int = 0
    hears_all: bool = True
    _contributions: Contributions = field(default_factory=Contributions)
    _requirements: Requirements = field(default_factory=Requirements)
    _refusals: Refusals = field(default_factory=Refusals)
    _repairs: asyncio.Queue[tuple[Group, tuple[Cause, ...]]] = field(
        default_factory=lambda: asyncio.Queue[tuple[Group, tuple[Cause, ...]]]()
    )
    """Groups with what was refused there; with nothing, for the next suspect to be tried."""
    _dirty: dict[Group, int] = field(default_factory=dict[Group, int])
    """Groups whose change is not on the config topic yet, and the event's position."""
    _left: dict[tuple[str, Resource], None] = field(default_factory=dict[tuple[str, Resource], None])
    """Shared resources that a group needs no longer, to be removed unless another one does."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _position: int = 0
    _reading: RegisterReading = field(init=False)
    _compiled: Recent[DeployedApi] = field(default_factory=lambda: Recent[DeployedApi](1024))

    def __post_init__(self) -> None:
        self._reading = RegisterReading(self.log)

    def load(self, entries: Iterable[Entry]) -> None:
        """Takes up the state from the config topic.

        Whoever does not hear of every acknowledgement takes it that what is in force was taken: proxies
        that stay connected do not say so again.
        """
        for entry in entries:
            if entry.type == POSITION and entry.name == self._mark(0).name:
                self._position = entry.position
            for cause in entry.causes:
                group = group_of(cause.context)
                self._contributions.place(entry.gateway, group, cause)
                needs = self._requirements.of(entry.gateway, group)
                self._requirements.set(entry.gateway, group, needs | frozenset(entry.requires))
            if entry.causes and not self.hears_all:
                self._refusals.taken((entry.gateway, group_of(entry.causes[0].context)), entry.causes)

    def acknowledged(self, gateway: str, entries: Iterable[Entry]) -> None:
        """A node took these entries."""
        for entry in entries:
            if entry.causes:
                group = (gateway, group_of(entry.causes[0].context))
                self._refusals.taken(group, entry.causes)
                if self._refusals.waiting(group):
                    self._repairs.put_nowait((group, ()))

    def refused(self, gateway: str, entries: Iterable[Entry]) -> None:
        """A node refused these entries: what was new in them goes back to what was taken last."""
        for entry in entries:
            if entry.causes:
                group = (gateway, group_of(entry.causes[0].context))
                if new := self._refusals.refused(group, entry.causes):
                    self._repairs.put_nowait((group, tuple(new)))

    async def repair(self) -> None:
        """Takes refused contributions back, until cancelled."""
        while True:
            repair = await self._repairs.get()
            try:
                await self._repair(*repair)
            except LogUnavailable as error:
                logger.error("what was refused waits to be taken back: %s", error)
                self._repairs.put_nowait(repair)
                await asyncio.sleep(RETRY_SECONDS)

    async def repaired(self) -> None:
        """Takes back what has been refused so far."""
        while not self._repairs.empty():
            await self._repair(*self._repairs.get_nowait())

    @property
    def position(self) -> int:
        """Up to where the events are in the config topic."""
        return self._position

    async def _repair(self, group: Group, refused: Iterable[Cause]) -> None:
        async with self._turn:
            await self._put_right(group, refused)

    async def _put_right(self, group: Group, refused: Iterable[Cause]) -> None:
        gateway, segment = group
        for cause in refused:
            if self._contributions.of(gateway, segment).get(cause.api) == cause:
                taken = self._refusals.last_taken(group, cause.api)
                if taken is None:
                    self._contributions.remove(gateway, cause.api)
                else:
                    self._contributions.place(gateway, segment, taken)
        # What is left was taken before; whoever hears of that only once does not wait to hear it again.
        if not refused or not self.hears_all or not self._contributions.of(gateway, segment):
            suspect = self._refusals.next_to_try(group)
            if suspect is not None:
                self._contributions.place(gateway, segment, suspect)
        changed = await self._compiled_or_refused(gateway, segment, self._position)
        await self._publish(changed, self._position)
        if not changed and self._refusals.waiting(group):
            self._repairs.put_nowait((group, ()))  # nobody has anything to acknowledge

    async def run(self) -> None:
        """Follows the events until cancelled. Raises Fenced when another one does."""
        while True:
            try:
                await self.log.wait("events", self.partition, self._position)
                records = await self.log.read("events", self.partition, self._position, BATCH)
                if records:
                    async with self._turn:
                        await self.sync(records)
            except LogUnavailable as error:
                logger.error("gateway sync waits for the log: %s", error)
                await asyncio.sleep(RETRY_SECONDS)

    async def sync(self, records: Sequence[Record]) -> None:
        """Publishes what these events change."""
        began = perf_counter()
        changed: list[Entry] = []
        for record in records:
            if record.fault is not None:
                await self._park(record, record.fault)
                continue
            event = event_of(record.envelope)
            before = None
            if isinstance(event, GatewayChanged):
                before = await self._reading.gateway(event.organization, event.name)
            self._reading.notice(event)
            async for gateway, group in self._touched(event, before):
                self._dirty[gateway, group] = record.position
            changed.extend(await self._listener(event, record.position))
        for (gateway, group), position in self._dirty.items():
            changed.extend(await self._compiled_or_refused(gateway, group, position))
            if perf_counter() - began > BREATH_SECONDS:
                await asyncio.sleep(0)
        await self._publish(changed, records[-1].position)
        self._dirty.clear()
        self._position = records[-1].position
        self.compiled(len(changed), perf_counter() - began)

    async def _park(self, record: Record, fault: Fault) -> None:
        """An event that cannot be read changes no gateway, and keeps no other one waiting."""
        where = f"{record.topic}/{record.partition} at {record.position}"
        logger.error("%s is %s and changes no gateway: %s", where, fault.rule, fault.reason)
        await self.log.append("parked", (parked(record, fault, SOURCE, timestamp()),))

    async def _publish(self, changed: Sequence[Entry], position: int) -> None:
        """Puts entries, and the removal of what nobody needs any more. Raises LogUnavailable."""
        reports = self._published(changed)
        removals = [
            _removal(current, position)
            for gateway, resource in self._left
            if not self._requirements.needed(gateway, resource)
            and (current := self.current(gateway, *resource)) is not None
        ]
        await self.config.put([*changed, *removals, self._mark(position)])
        self._left.clear()
        self.report(reports)

    def _mark(self, position: int) -> Entry:
        return Entry("", "", POSITION, f"events/{self.partition}", str(position), position, b"-")

    async def _touched(self, event: Event, before: GatewayFields | None) -> AsyncIterator[tuple[str, str]]:
        """The groups an event changes, after its effect on the contributions; `before` is what a changed
        gateway was."""
        match event:
            case DeploymentStarted():
                self._compiled.pop(f"{event.organization}/{event.name}", None)
                for name in event.gateways:
                    gateway = GATEWAY.subject(event.organization, name)
                    self._refusals.decided_anew(gateway, event.api)
                    if await self._accepts(gateway, event, name):
                        cause = Cause(event.name, event.api, event.revision, event.context, event.hosts[0])
                        group = group_of(event.context)
                        for changed in self._contributions.place(gateway, group, cause):
                            yield gateway, changed
            case DeploymentStopped():
                started = await self._reading.started(event.organization, event.name)
                if started is None:
                    return
                for name in event.left:
                    gateway = GATEWAY.subject(event.organization, name)
                    self._refusals.stopped((gateway, group_of(started.context)), started.api)
                    for changed in self._contributions.remove(gateway, started.api):
                        yield gateway, changed
            case GatewayChanged() if before is None or before.revision_header != event.revision_header:
                gateway = GATEWAY.subject(event.organization, event.name)
                for group in tuple(self._contributions.groups.get(gateway, ())):
                    yield gateway, group
            case _:
                return

    async def _accepts(self, gateway: str, started: DeploymentStarted, name: str) -> bool:
        """Whether the gateway's kind can do what the API asks; a refusal is reported."""
        settings = await self._settings(gateway)
        if settings is None:
            return False
        try:
            api = await self._deployed(started.organization, started.name, started.api, started.revision)
            findings = self.translators[settings.kind].check(api) if api else ()
        except (LogUnavailable, LogDamaged):
            raise
        except Exception as error:
            # One API that cannot be compiled must stop neither the others nor this process.
            logger.exception("%s: deployment %s could not be compiled", gateway, started.name)
            reason = f"could not be compiled: {type(error).__name__}"
        else:
            if not findings:
                return api is not None
            reason = told(findings)
        self.report((_delivery(started.organization, name, started.name, "refused", reason=reason),))
        return False

    async def _listener(self, event: Event, position: int) -> Sequence[Entry]:
        if not isinstance(event, GatewayRegistered | GatewayChanged | GatewayRemoved):
            return ()
        settings = await self._settings(GATEWAY.subject(event.organization, event.name))
        if settings is None:
            return ()
        entries = list(self.translators[settings.kind].listener_entries(settings, position))
        if isinstance(event, GatewayRemoved):
            credentials = Entry(settings.subject, settings.kind, CREDENTIALS, "token", "", position, b"")
            return [*(_removal(entry, position) for entry in entries), credentials]
        if isinstance(event, GatewayRegistered):
            body = event.token_digest.encode()
            version = content_version(body)
            entries.append(
                Entry(settings.subject, settings.kind, CREDENTIALS, "token", version, position, body)
            )
        return self._differing(entries)

    async def _compiled_or_refused(self, gateway: str, group: str, position: int) -> Sequence[Entry]:
        """What differs in one group; nothing when it cannot be compiled, which others must not suffer."""
        try:
            return await self._group(gateway, group, position)
        except (LogUnavailable, LogDamaged):
            raise
        except Exception as error:
            logger.exception("%s: the APIs under /%s could not be compiled", gateway, group)
            causes = tuple(self._contributions.of(gateway, group).values())
            new = self._refusals.refused((gateway, group), causes)
            if new:
                self._repairs.put_nowait(((gateway, group), tuple(new)))
            organization, name = _organization_and_name(gateway)
            reason = f"could not be compiled: {type(error).__name__}"
            self.report([_delivery(organization, name, c.deployment, "refused", reason=reason) for c in new])
            return ()

    async def _group(self, gateway: str, group: str, position: int) -> Sequence[Entry]:
        """What differs in one group from what is in force."""
        settings = await self._settings(gateway)
        if settings is None:
            return ()
        organization = gateway.split("/")[1]
        causes = self._contributions.of(gateway, group)
        compiled = [
            await self._deployed(organization, c.deployment, c.api, c.revision)
            for _, c in sorted(causes.items())
        ]
        apis = [api for api in compiled if api is not None]
        entries = self.translators[settings.kind].api_entries(settings, group, apis, position)
        needs = frozenset(resource for entry in entries for resource in entry.requires)
        shared = [replace(e, causes=()) if (e.type, e.name) in needs else e for e in entries]
        for resource in sorted(self._requirements.set(gateway, group, needs)):
            self._left[gateway, resource] = None
        return self._differing(shared)

    def _differing(self, entries: Iterable[Entry]) -> Sequence[Entry]:
        return [e for e in entries if not _same(e, self.current(e.gateway, e.type, e.name))]

    async def _deployed(
        self, organization: str, deployment: str, api: str, revision: int
    ) -> DeployedApi | None:
        key = f"{organization}/{deployment}"
        if key not in self._compiled:
            spec = await self._reading.spec(organization, api, revision)
            if spec is None:
                return None
            self._compiled.keep(key, compile_api(organization, api, revision, deployment, spec))
        return self._compiled[key]

    async def _settings(self, gateway: str) -> GatewaySettings | None:
        _, organization, _, name = gateway.split("/")
        fields = await self._reading.gateway(organization, name)
        if fields is None:
            return None
        return GatewaySettings(
            subject=gateway,
            kind=fields.kind,
            address=fields.address,
            port=fields.port,
            revision_header=fields.revision_header,
            probe_secret=self.probe_secret(gateway),
        )

    def _published(self, changed: Iterable[Entry]) -> list[DeliveryReported]:
        """One report per deployment that is new in an entry."""
        new: dict[tuple[str, Cause], Entry] = {}
        for entry in changed:
            before = self.current(entry.gateway, entry.type, entry.name)
            known = before.causes if before else ()
            for cause in entry.causes:
                if cause not in known:
                    new[entry.gateway, cause] = entry
        return [
            _delivery(*_organization_and_name(gateway), cause.deployment, "published", version=entry.version)
            for (gateway, cause), entry in new.items()
        ]


def _removal(entry: Entry, position: int) -> Entry:
    return replace(entry, version="", position=position, body=b"", requires=(), causes=())


def _same(entry: Entry, current: Entry | None) -> bool:
    return (
        current is not None
        and entry.version == current.version
        and entry.causes == current.causes
        and entry.requires == current.requires
    )


def _organization_and_name(gateway: str) -> tuple[str, str]:
    _, organization, _, name = gateway.split("/")
    return organization, name


def _delivery(
    organization: str, gateway: str, deployment: str, fact: Fact, *, version: str = "", reason: str = ""
) -> DeliveryReported:
    return DeliveryReported(
        organization=organization,
        name=gateway,
        at=timestamp(),
        deployment=deployment,
        fact=fact,
        version=version,
        reason=reason,
    )
