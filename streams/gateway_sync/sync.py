"""Gateway sync: compiles events to configuration entries, at a cost proportional to the change.

For every event it finds the units of compilation that the event changes
(`streams.gateway_sync.unit_compiler`), compiles these alone, and puts the entries that differ on the config
topic (`streams.gateway_sync.config_changes`). Handling an event twice changes nothing, because versions are
content hashes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

from gateways.config_resource import ConfigResource, content_version
from gateways.translator import Translator
from gateways.upstream_access import NetworkPort
from schemas.aggregates.api import ApiPublished
from schemas.aggregates.deployment import DeploymentStarted, DeploymentStopped
from schemas.aggregates.gateway import GatewayChanged, GatewayRegistered, GatewayRemoved
from schemas.catalog import GATEWAY
from schemas.message import Event
from schemas.status import DeliveryReported
from schemas.upcasting import UnknownSchema
from streams.compute_process import Compute, NoProcess
from streams.config_topic import ConfigWriter
from streams.dead_letters import DeadLetterTopic
from streams.gateway_sync.config_changes import ConfigChanges, Current
from streams.gateway_sync.delivery_reports import published_one
from streams.gateway_sync.event_history import EventHistory, NotInLog, Unreadable, event_of
from streams.gateway_sync.marks import removal
from streams.gateway_sync.reconciler import Reconciler
from streams.gateway_sync.translation_ahead import ref_of, started_on_gateways
from streams.gateway_sync.unit_compiler import CannotCompile, UnitCompiler, organization_and_name
from streams.log import Fault, Log, Record
from streams.retry import Retry
from streams.subscription import Subscription

logger = logging.getLogger("signalbox.gateway-sync")

SOURCE = "/signalbox/gateway-sync"
CREDENTIALS = "signalbox.io/credentials"
"""The entry type of a gateway's token digest, with which an xDS server authenticates its nodes."""
OF_GATEWAYS = frozenset({"gateway", "deployment"})
"""Aggregates whose events change the configuration of gateways."""
BATCH = 256
NOTES_SECONDS = 1.0
"""Acknowledgements that are not put yet are put after this time without answers."""

NodeResponse = tuple[str, str, Sequence[ConfigResource], str | None]
"""A gateway's subject, a node's connection, the entries that it answered, and the reason of a rejection;
None: it acknowledged them. Without entries the node has disconnected."""


def credentials_of(gateway: str, kind: str, event: GatewayRegistered, position: int) -> ConfigResource:
    """The credentials of the nodes of a registered gateway."""
    body = event.token_digest.encode()
    return ConfigResource(gateway, kind, CREDENTIALS, "token", content_version(body), position, body)


async def _at_once() -> None:
    """The default: reports are on the log at once."""


@dataclass(slots=True)
class GatewaySync:
    """The consumer for one partition.

    `closed` are addresses that no gateway may send requests to, `current` reads the config topic. `report`
    takes status messages, `reported` returns when all of them are on the log, and `compiled` is called with
    the number of entries that a batch changed and the seconds that it took. Answers of nodes come by
    `acknowledged` and `rejected` if they are connected to this process; else from the status topic
    (`streams.gateway_sync.gateway_status`). Callers of coroutines of `changes` hold `turn`.
    """

    log: Log
    config: ConfigWriter
    translators: Mapping[str, Translator[Any]]
    current: Current
    report: Callable[[Sequence[DeliveryReported]], None]
    probe_secret: Callable[[str], str]
    compiled: Callable[[int, float], None]
    partition: int = 0
    closed: tuple[NetworkPort, ...] = ()
    reported: Callable[[], Awaitable[None]] = _at_once
    compute: Compute = field(default_factory=NoProcess)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    changes: ConfigChanges = field(init=False)
    compiler: UnitCompiler = field(init=False)
    _history: EventHistory = field(init=False)
    _dead_letters: DeadLetterTopic = field(init=False)
    _responses: asyncio.Queue[NodeResponse] = field(default_factory=lambda: asyncio.Queue[NodeResponse]())
    _unknown: set[str] = field(default_factory=set[str])
    """Types that were logged as unknown."""

    def __post_init__(self) -> None:
        self._history = EventHistory(self.log)
        self._dead_letters = DeadLetterTopic(self.log, SOURCE)
        self.compiler = UnitCompiler(
            self._history,
            self.translators,
            self.probe_secret,
            self.config.require_size,
            self.closed,
            self.compute,
        )
        self.changes = ConfigChanges(
            self.config, self.current, self.compiler, self.report, self.reported, self.partition
        )

    def load(self, entries: Iterable[ConfigResource]) -> None:
        """Loads the state from the config topic."""
        self.changes.load(entries)

    @property
    def position(self) -> int:
        """The position up to which events are in the config topic."""
        return self.changes.position

    # -- events

    async def run(self) -> None:
        """Follows the events until cancelled. Raises Fenced when another process does."""
        self._report_again()
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
        """Publishes the changes of all events so far. Raises LogUnavailable, LogDamaged."""
        end = await self.log.end("events", self.partition)
        while self.position < end:
            records = await self.log.read("events", self.partition, self.position, BATCH)
            async with self.turn:
                await self.sync(records)

    async def reconcile(self) -> None:
        """Compiles entries that the config topic lacks (`streams.gateway_sync.reconciler`).

        Raises LogUnavailable, LogDamaged.
        """
        reconciling = Reconciler(
            self.log, self.partition, self.changes, self.compiler, self.translators, self._own
        )
        async with self.turn:
            reconciled = await reconciling.run()
            await self.changes.settle()
            await self.changes.put_notes()
        if reconciled.missing:
            logger.warning(
                "%d entries were missing on the config topic and are put again", reconciled.missing
            )
        if reconciled.changed:
            logger.info(
                "%d entries are put again: the settings or the translator changed", reconciled.changed
            )

    async def _own(self, gateway: str, kind: str) -> Sequence[ConfigResource]:
        """The entries of a gateway beside its APIs: listener and credentials."""
        entries = list(await self.compiler.listener(gateway, self.position))
        registered = await self._history.registered(*organization_and_name(gateway))
        if registered is not None:
            entries.append(credentials_of(gateway, kind, registered, self.position))
        return entries

    def _report_again(self) -> None:
        """Reports deployments that no node acknowledged as published again, from the position on up to which
        such reports are known to be on the log: a kill may have lost them.

        Those that a node acknowledged were reported before that was put.
        """
        self.report(
            [
                published_one(gateway, pending.ref, pending.covered - pending.trial)
                for gateway, pending in self.changes.acceptance.in_force()
                if pending.covered > self.changes.reported_to
            ]
        )

    async def sync(self, records: Sequence[Record]) -> None:
        """Publishes the changes of these events. An event that cannot be handled delays no other one."""
        began = perf_counter()
        listeners: list[ConfigResource] = []
        read = [(record, event) for record in records if (event := await self._read(record)) is not None]
        await self._translate_ahead([event for _, event in read])
        for record, event in read:
            try:
                listeners.extend(await self._apply(event, record.position))
            except CannotCompile as error:
                await self._dead_letter(record, Fault("cannot-compile", str(error)))
        changed = await self.changes.put(records[-1].position, listeners)
        self.compiler.ahead.forget()
        self.compiled(changed, perf_counter() - began)

    async def _read(self, record: Record) -> Event | None:
        """None for a record that cannot be handled."""
        if record.fault is not None:
            await self._dead_letter(record, record.fault)
            return None
        try:
            return event_of(record.envelope)
        except UnknownSchema as error:
            await self._pass_over(record, error)
        except Unreadable as error:
            await self._dead_letter(record, Fault("malformed", str(error)))
        return None

    async def _translate_ahead(self, events: Sequence[Event]) -> None:
        many = started_on_gateways(events)
        if many:
            for event in events:
                if isinstance(event, ApiPublished):
                    self._history.notice(event)
        for gateway, refs in many.items():
            members = self.changes.membership.units.get(gateway, {})
            await self.compiler.translate_ahead(gateway, refs, members)

    async def _pass_over(self, record: Record, error: UnknownSchema) -> None:
        """Skips an event of a newer version.

        Later events of gateways and deployments do not depend on it, so they need not wait: it is
        dead-lettered. Families of events unknown to this version do not affect its entries; a version that
        supports them reads them from the first.
        """
        if OF_GATEWAYS.intersection(record.envelope.type.split(".")):
            await self._dead_letter(record, Fault("unknown-schema", str(error)))
        elif error.type not in self._unknown:
            self._unknown.add(error.type)
            logger.warning("%s: such events change no gateway (first at %d)", error, record.position)

    async def _dead_letter(self, record: Record, fault: Fault) -> None:
        where = f"{record.topic}/{record.partition} at {record.position}"
        logger.error("%s is %s and changes no gateway: %s", where, fault.rule, fault.reason)
        await self._dead_letters.add(record, fault)

    async def _apply(self, event: Event, position: int) -> Sequence[ConfigResource]:
        """Marks the units that an event changes; returns the entries of a gateway itself that differ.

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
        ref = ref_of(event)
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
            logger.error("%s; it is removed from %s", error, gateway)
        units = self.changes.membership.units.get(gateway, {}).values()
        refs = (ref for unit in units for ref in unit.values())
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

    # -- answers of nodes

    def connected(self, gateway: str, connection: str) -> None:
        """Records that a node connected to this process: rejections of others wait for its answer."""
        self.changes.verdicts.connected(gateway, connection)

    def disconnected(self, gateway: str, connection: str) -> None:
        """Records that a node disconnected from this process: nothing waits for its answer."""
        self.changes.verdicts.left(gateway, connection)
        self._responses.put_nowait((gateway, connection, (), None))

    def acknowledged(self, gateway: str, connection: str, entries: Sequence[ConfigResource]) -> None:
        """Records that a node that is connected to this process acknowledged these entries."""
        if self.changes.acceptance.anything_pending(gateway):
            self._responses.put_nowait((gateway, connection, entries, None))

    def rejected(
        self, gateway: str, connection: str, entries: Sequence[ConfigResource], reason: str = ""
    ) -> None:
        """Records that a node that is connected to this process rejected these entries."""
        self._responses.put_nowait((gateway, connection, entries, reason))

    async def run_verdict_deadlines(self) -> None:
        """Decides on rejections when other nodes do not answer in time, until cancelled."""
        retry = Retry("the verdict on a rejection waits for the log", logger)
        while True:
            await self.changes.provisional.wait()
            self.changes.provisional.clear()
            while (seconds := self.changes.seconds_left()) is not None:
                await asyncio.sleep(seconds)
                await retry(self._decide)

    async def run_responses(self) -> None:
        """Handles the answers of nodes, until cancelled."""
        retry = Retry("the answers of nodes wait for the log", logger)
        while True:
            changed = self.changes.acceptance.changed
            responses: list[NodeResponse] = []
            with suppress(TimeoutError):
                async with asyncio.timeout(NOTES_SECONDS if changed else None):
                    responses.append(await self._responses.get())
            await retry(partial(self._handle_responses, [*responses, *self._received()]))

    async def drain_responses(self) -> None:
        """Handles the answers of nodes so far. Raises LogUnavailable."""
        while responses := self._received():
            await self._handle_responses(responses)

    def _received(self) -> list[NodeResponse]:
        """Takes the next answers that have come already."""
        return [self._responses.get_nowait() for _ in range(min(self._responses.qsize(), BATCH))]

    async def _decide(self) -> None:
        async with self.turn:
            await self.changes.decide()

    async def _handle_responses(self, responses: Sequence[NodeResponse]) -> None:
        """Without `responses` no node answered for `NOTES_SECONDS`.

        Deployments are reported as published before their acknowledgement is put: from then on a start does
        not report them again.
        """
        await self.changes.settle()
        async with self.turn:
            if not responses:
                await self.changes.put_notes()
                return
            for gateway, connection, entries, reason in responses:
                for entry in entries:
                    if reason is None:
                        self.changes.acceptance.acknowledged(gateway, entry.deployments)
                    elif entry.deployments:
                        await self.changes.rejected(entry, connection, reason)
            await self.changes.decide()
