"""Gateway sync: events in, ready configuration entries out, at the cost of what changed.

For every event it knows which groups (APIs sharing the first path segment of one gateway) it
touches, compiles these alone, and puts what differs on the config topic (`streams.config_changes`). Doing
an event twice changes nothing, because versions are content hashes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

from gateways.config_resource import ConfigResource, DeploymentRef, content_version
from gateways.translator import Translator
from gateways.upstream_access import NetworkPort
from schemas.catalog import GATEWAY
from schemas.deployment import DeploymentStarted, DeploymentStopped
from schemas.gateway import GatewayChanged, GatewayRegistered, GatewayRemoved
from schemas.identity import timestamp
from schemas.message import Event
from schemas.status import DeliveryReported
from schemas.upcasting import UnknownSchema
from streams.config_changes import ConfigChanges, Current, removal
from streams.config_topic import ConfigWriter
from streams.dead_letters import dead_letter
from streams.delivery_reports import published_one
from streams.event_history import EventHistory, NotInLog, Unreadable, event_of
from streams.group_compiler import CannotCompile, GroupCompiler, organization_and_name
from streams.log import Fault, Log, MessageTooLarge, Record
from streams.reconciler import Reconciler
from streams.retry import Retry
from streams.subscription import Subscription

logger = logging.getLogger("signalbox.gateway-sync")

SOURCE = "/signalbox/gateway-sync"
CREDENTIALS = "signalbox.io/credentials"
"""The entry type under which a gateway's token digest travels to whoever lets its nodes in."""
OF_GATEWAYS = frozenset({"gateway", "deployment"})
"""Aggregates whose events change what gateways run."""
BATCH = 128
NOTES_SECONDS = 1.0
"""After so long without answers what nodes acknowledged is put, if it did not go with something else."""

NodeResponse = tuple[str, str, Sequence[ConfigResource], str | None]
"""A gateway's subject, a node's connection, the entries that it answered, and why it rejected them; None: it
did not. Without entries the node has left."""


def credentials_of(gateway: str, kind: str, event: GatewayRegistered, position: int) -> ConfigResource:
    """What lets the nodes of a registered gateway in."""
    body = event.token_digest.encode()
    return ConfigResource(gateway, kind, CREDENTIALS, "token", content_version(body), position, body)


async def _at_once() -> None:
    """What was reported is where it belongs."""


@dataclass(slots=True)
class GatewaySync:
    """The consumer for one partition.

    `closed` is what no gateway may send requests to, `current` the config topic as it stands. `report` takes
    status messages, `reported` returns when all that it took is on the log, and `compiled` is called with
    how many entries a batch changed and how many seconds it took. What nodes answer comes by `acknowledged`
    and `refused` where they are connected to this process; else from the status topic
    (`streams.gateway_status`). Whoever awaits anything of `changes` holds `turn`.
    """

    log: Log
    config: ConfigWriter
    translators: Mapping[str, Translator]
    current: Current
    report: Callable[[Sequence[DeliveryReported]], None]
    probe_secret: Callable[[str], str]
    compiled: Callable[[int, float], None]
    partition: int = 0
    closed: tuple[NetworkPort, ...] = ()
    reported: Callable[[], Awaitable[None]] = _at_once
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    changes: ConfigChanges = field(init=False)
    compiler: GroupCompiler = field(init=False)
    _history: EventHistory = field(init=False)
    _responses: asyncio.Queue[NodeResponse] = field(default_factory=lambda: asyncio.Queue[NodeResponse]())
    _unknown: set[str] = field(default_factory=set[str])
    """Types that were logged as unknown."""

    def __post_init__(self) -> None:
        self._history = EventHistory(self.log)
        self.compiler = GroupCompiler(
            self._history, self.translators, self.probe_secret, self.config.require_size, self.closed
        )
        self.changes = ConfigChanges(
            self.config, self.current, self.compiler, self.report, self.reported, self.partition
        )

    def load(self, entries: Iterable[ConfigResource]) -> None:
        """Takes up the state from the config topic."""
        self.changes.load(entries)

    @property
    def position(self) -> int:
        """Up to where the events are in the config topic."""
        return self.changes.position

    # -- events

    async def run(self) -> None:
        """Follows the events until cancelled. Raises Fenced when another one does."""
        self._report_pending()
        retry = Retry("gateway sync waits for the log", logger)
        subscription = Subscription(
            self.log, "events", self._handle, start=self._published_up_to, retry=retry, batch=BATCH
        )
        await subscription.run((self.partition,))

    async def _published_up_to(self, partition: int) -> int:
        return self.position

    async def _handle(self, records: Sequence[Record]) -> None:
        async with self.turn:
            # A batch that failed after it was put is not handled twice.
            if new := [record for record in records if record.position > self.position]:
                await self.sync(new)

    async def catch_up(self) -> None:
        """Publishes what all events so far change. Raises LogUnavailable, LogDamaged."""
        end = await self.log.end("events", self.partition)
        while self.position < end:
            records = await self.log.read("events", self.partition, self.position, BATCH)
            async with self.turn:
                await self.sync(records)

    async def reconcile(self) -> None:
        """Has compiled again what the config topic lacks of what it should have (`streams.reconciler`).

        Raises LogUnavailable, LogDamaged.
        """
        reconciling = Reconciler(
            self.log, self.partition, self.changes, self.compiler, self.translators, self._own
        )
        async with self.turn:
            missing = await reconciling.run()
        if missing:
            logger.warning(
                "%d entries were missing or out of date on the config topic and are put again", missing
            )

    async def _own(self, gateway: str, kind: str) -> Sequence[ConfigResource]:
        """What a gateway has beside its APIs."""
        entries = list(await self.compiler.listener(gateway, self.position))
        registered = await self._history.registered(*organization_and_name(gateway))
        if registered is not None:
            entries.append(credentials_of(gateway, kind, registered, self.position))
        return entries

    def _report_pending(self) -> None:
        """Reports again as published what no node acknowledged.

        The config topic may have been put, and the process killed before its reports were on the log.
        """
        self.report(
            [
                published_one(gateway, pending.ref, pending.covered - pending.trial)
                for gateway, pending in self.changes.acceptance.in_force()
            ]
        )

    async def sync(self, records: Sequence[Record]) -> None:
        """Publishes what these events change. An event that cannot be handled keeps no other one waiting."""
        began = perf_counter()
        listeners: list[ConfigResource] = []
        for record in records:
            if record.fault is not None:
                await self._dead_letter(record, record.fault)
                continue
            try:
                event = event_of(record.envelope)
                listeners.extend(await self._apply(event, record.position))
            except UnknownSchema as error:
                await self._pass_over(record, error)
            except Unreadable as error:
                await self._dead_letter(record, Fault("malformed", str(error)))
            except CannotCompile as error:
                await self._dead_letter(record, Fault("cannot-compile", str(error)))
        changed = await self.changes.put(records[-1].position, listeners)
        self.compiled(changed, perf_counter() - began)

    async def _pass_over(self, record: Record, error: UnknownSchema) -> None:
        """An event of a newer version.

        What is known here of gateways and deployments says all that it changes, so later events need not
        wait for this one: it is parked. Families that this version does not know change nothing that this
        version compiles; the one that does begins with reading them from the first.
        """
        if OF_GATEWAYS.intersection(record.envelope.type.split(".")):
            await self._dead_letter(record, Fault("unknown-schema", str(error)))
        elif error.type not in self._unknown:
            self._unknown.add(error.type)
            logger.warning("%s (at %d, and all others of it) changes no gateway", error, record.position)

    async def _dead_letter(self, record: Record, fault: Fault) -> None:
        where = f"{record.topic}/{record.partition} at {record.position}"
        logger.error("%s is %s and changes no gateway: %s", where, fault.rule, fault.reason)
        try:
            await self.log.append("parked", (dead_letter(record, fault, SOURCE, timestamp()),))
        except MessageTooLarge:
            await self.log.append("parked", (dead_letter(record, fault, SOURCE, timestamp(), whole=False),))

    async def _apply(self, event: Event, position: int) -> Sequence[ConfigResource]:
        """Notes which groups an event changes; what differs of a gateway's own entries.

        Raises CannotCompile, LogUnavailable, LogDamaged.
        """
        if isinstance(event, GatewayChanged):
            before = await self._history.gateway_before(event.organization, event.name, position)
            if before is None or before.revision_header != event.revision_header:
                gateway = GATEWAY.subject(event.organization, event.name)
                self.changes.settings_changed(gateway, position)
        self._history.notice(event)
        match event:
            case DeploymentStarted():
                await self._start(event, position)
            case DeploymentStopped():
                await self._stop(event, position)
            case GatewayRegistered() | GatewayChanged() | GatewayRemoved():
                return await self._listener(event, position)
            case _:
                pass
        return ()

    async def _start(self, event: DeploymentStarted, position: int) -> None:
        host = event.hosts[0] if event.hosts else ""
        ref = DeploymentRef(event.name, event.api, event.revision, event.context, host)
        for name in event.gateways:
            gateway = GATEWAY.subject(event.organization, name)
            self.compiler.forget(gateway, event.name)
            try:
                await self.compiler.check(gateway, ref)
            except CannotCompile as error:
                self.changes.reject(gateway, ref, str(error), position)
            else:
                self.changes.deploy(gateway, ref, position)

    async def _stop(self, event: DeploymentStopped, position: int) -> None:
        for name in event.left:
            gateway = GATEWAY.subject(event.organization, name)
            api = await self._api_of(gateway, event)
            if api is not None:
                self.changes.stop(gateway, api, position)

    async def _api_of(self, gateway: str, event: DeploymentStopped) -> str | None:
        """The API of a stopped deployment; None when the gateway has nothing of it."""
        try:
            return (await self._history.started(event.organization, event.name)).api
        except NotInLog as error:
            logger.error("%s; what %s has of it is taken away", error, gateway)
        groups = self.changes.membership.groups.get(gateway, {}).values()
        refs = (ref for group in groups for ref in group.values())
        return next((ref.api for ref in refs if ref.deployment == event.name), None)

    async def _listener(
        self, event: GatewayRegistered | GatewayChanged | GatewayRemoved, position: int
    ) -> Sequence[ConfigResource]:
        gateway = GATEWAY.subject(event.organization, event.name)
        kind = (await self.compiler.settings(gateway)).kind
        entries = list(await self.compiler.listener(gateway, position))
        if isinstance(event, GatewayRemoved):
            credentials = ConfigResource(gateway, kind, CREDENTIALS, "token", "", position, b"")
            return [*(removal(entry, position) for entry in entries), credentials]
        if isinstance(event, GatewayRegistered):
            entries.append(credentials_of(gateway, kind, event, position))
        return self.changes.differing(entries)

    # -- what nodes answer

    def connected(self, gateway: str, connection: str) -> None:
        """A node connected to this process: what others reject waits for its answer."""
        self.changes.verdicts.connected(gateway, connection)

    def disconnected(self, gateway: str, connection: str) -> None:
        """A node that was connected to this process has left: nothing waits for its answer."""
        self.changes.verdicts.left(gateway, connection)
        self._responses.put_nowait((gateway, connection, (), None))

    def acknowledged(self, gateway: str, connection: str, entries: Sequence[ConfigResource]) -> None:
        """A node that is connected to this process acknowledged these entries."""
        if self.changes.acceptance.anything_pending(gateway):
            self._responses.put_nowait((gateway, connection, entries, None))

    def rejected(
        self, gateway: str, connection: str, entries: Sequence[ConfigResource], reason: str = ""
    ) -> None:
        """A node that is connected to this process rejected these entries."""
        self._responses.put_nowait((gateway, connection, entries, reason))

    async def run_verdict_deadlines(self) -> None:
        """Decides what some nodes rejected and others do not answer in time, until cancelled."""
        retry = Retry("a verdict on what nodes rejected waits for the log", logger)
        while True:
            await self.changes.provisional.wait()
            self.changes.provisional.clear()
            while (seconds := self.changes.seconds_left()) is not None:
                await asyncio.sleep(seconds)
                await retry(self._decide)

    async def run_responses(self) -> None:
        """Handles what nodes answered, until cancelled."""
        retry = Retry("the answers of nodes wait for the log", logger)
        while True:
            changed = self.changes.acceptance.changed
            try:
                async with asyncio.timeout(NOTES_SECONDS if changed else None):
                    response = await self._responses.get()
            except TimeoutError:
                response = None
            await retry(partial(self._handle_response, response))

    async def drain_responses(self) -> None:
        """Handles what nodes have answered so far. Raises LogUnavailable."""
        while not self._responses.empty():
            await self._handle_response(self._responses.get_nowait())

    async def _decide(self) -> None:
        async with self.turn:
            await self.changes.decide()

    async def _handle_response(self, response: NodeResponse | None) -> None:
        """None: nodes were silent for a while."""
        async with self.turn:
            if response is None:
                await self.changes.put_notes()
                return
            gateway, connection, entries, reason = response
            for entry in entries:
                if reason is None:
                    self.changes.acceptance.acknowledged(gateway, entry.deployments)
                elif entry.deployments:
                    await self.changes.rejected(entry, connection, reason)
            await self.changes.decide()
