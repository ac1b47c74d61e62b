"""The state of one stream for one resource type: acknowledged, pending and in-flight resources."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gateways.config_resource import ConfigResource
from xds.server.observer import UnacknowledgedDeployment
from xds.server.streams.deployment_reports import DeploymentReports, pending
from xds.server.wire import Ready
from xds.store.backlog import LARGE, SMALL, Chunk
from xds.store.gateway import Gateway
from xds.store.resource import StoredResource
from xds.subscription.first_sync import FirstSync
from xds.subscription.rejections import UNKNOWN, Rejections
from xds.types import ResourceKey

NOTHING = -1
"""A value of `Subscription.pending`: the client has no version of the resource."""

WILDCARD = "*"


@dataclass(slots=True, eq=False)
class InFlightResponse:
    """A response that was sent and is not answered; `chunk`: its chunk of the first sync, if any."""

    nonce: str
    resources: tuple[Ready, ...] = ()
    removed: tuple[str, ...] = ()
    chunk: Chunk | None = None


@dataclass(slots=True, eq=False)
class Subscription:
    """One type on one stream.

    The client has the resources that the store offered at change `cursor`, except for the names in `pending`;
    the number there is the change up to which it had the offered version (NOTHING: it has none).
    Names in `asked` must be answered even if unchanged. `owed`: a response is due even if it is empty.
    `trials` are groups of names that were rejected together. `proofs` are versions whose acceptance here
    changed the store's offer: they need not be sent again. `fresh` are names that may have become sendable
    since the last check, None: all. `uncovered` are resources that carry deployments and are not subscribed
    to. `fruitless` counts consecutive rejections of responses without resources; while `paused`, nothing is
    sent until a change or a timer.
    """

    gateway: Gateway
    type: str
    facts: DeploymentReports
    wildcard: bool = False
    named: bool = False
    owed: bool = False
    names: set[str] = field(default_factory=set[str])
    uncovered: set[str] = field(default_factory=set[str])
    cursor: int = 0
    pending: dict[str, int] = field(default_factory=dict[str, int])
    asked: set[str] = field(default_factory=set[str])
    leaving: set[str] = field(default_factory=set[str])
    trials: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    rejections: Rejections = field(default_factory=Rejections)
    proofs: dict[str, Ready] = field(default_factory=dict[str, Ready])
    fresh: list[str] | None = None
    first_sync: FirstSync = field(default_factory=FirstSync)
    in_flight: InFlightResponse | None = None
    fruitless: int = 0
    paused: bool = False
    last_nonce: int = 0
    running: dict[str, Ready] | None = None

    def covers(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def stored(self, name: str) -> StoredResource | None:
        return self.gateway.table(self.type).stored_resources.get(name)

    # -- subscriptions of the client

    def start_wildcard(self, versions: dict[str, str]) -> None:
        """Subscribes to all resources, and sends those that the client lacks according to `versions`."""
        self.wildcard = True
        self.uncovered.clear()
        self.gateway.reopen(self.type, self.facts.connection)
        table = self.gateway.table(self.type)
        self.cursor = table.last
        if not versions and self.running is None and not self.last_nonce:
            permit = self.gateway.large_chunks.permit()
            offered = table.backlog(LARGE if permit else SMALL)
            if not offered.small:
                self.first_sync.begin(offered, permit)
                return
        wanted = [
            stored.name for stored in table.stored_resources.values() if stored.current or stored.offered
        ]
        self._start(wanted, versions)
        self._start(
            [
                name
                for name in versions
                if name not in table.stored_resources or table.stored_resources[name].gone
            ],
            versions,
        )

    def want(self, names: Iterable[str], versions: dict[str, str] | None = None) -> None:
        """Subscribes to names; each is answered unless the client has it according to `versions`."""
        if not self.names and not self.wildcard:
            self.cursor = self.gateway.table(self.type).last
            self._uncover()
        names = list(names)
        self.gateway.reopen(self.type, self.facts.connection, names)
        for name in names:
            stored = self.stored(name)
            own = stored.name if stored else name
            self.names.add(own)
            self.uncovered.discard(own)
            if versions and name in versions:
                self._start((own,), versions)
            else:
                self.ask(own)

    def unwant(self, names: Iterable[str]) -> None:
        for name in names:
            self.names.discard(name)
            if self.wildcard:
                # the client dropped it, but the wildcard covers it: it is sent again
                self.ask(name)
            else:
                self._forget(name)
                self._uncover_one(name)

    def end_wildcard(self) -> None:
        self.wildcard = False
        for name in self.names:
            if self._pull(name):
                self.look_at(name)
        self.first_sync.end()
        self._uncover()
        for name in [name for name in self.pending if name not in self.names]:
            self._forget(name)
        for name in [name for name in self.running or () if name not in self.names]:
            self._forget(name)

    def _uncover(self) -> None:
        for name in self.gateway.table(self.type).stored_resources:
            if name not in self.names:
                self._uncover_one(name)

    def _uncover_one(self, name: str) -> None:
        stored = self.stored(name)
        if stored and stored.current and stored.current.entry.deployments:
            self.uncovered.add(name)
        else:
            self.uncovered.discard(name)

    def ask(self, name: str) -> None:
        """Sends `name`, or its absence, even if nothing changed."""
        self._pull(name)
        self.pending[name] = NOTHING
        self.asked.add(name)
        self.look_at(name)

    def send_again(self, name: str) -> None:
        """Sends `name` once more, even if the client has it."""
        self._pull(name)
        self.pending.setdefault(name, self.rejections.keeping.pop(name, self.cursor))
        self.asked.add(name)
        self.look_at(name)

    def _start(self, names: Iterable[str], versions: dict[str, str]) -> None:
        proved: list[tuple[Ready, int]] = []
        changed = False
        for name in names:
            stored, version = self.stored(name), versions.get(name)
            current = stored.current if stored else None
            offered = stored.offered if stored else None
            if version is None:
                self.pending[name] = NOTHING
            elif stored and current and current.version == version:
                changed |= self.prove(stored, current)
                self.run(name, current)
                proved.append((current, NOTHING))
                continue
            elif offered and offered.version == version:
                # the last good one: nothing to send, but there is a rejection to report
                self.run(name, offered)
                self.pending[name] = self.cursor
            else:
                if stored and stored.before and stored.before.version == version:
                    # its acknowledgement was lost with the stream
                    changed |= self.gateway.proved(stored, stored.before)
                self.pending[name] = UNKNOWN
            self.look_at(name)
        if proved:
            self.facts.acknowledged(proved, self.cursor)
        if changed:
            self.gateway.wake()

    def run(self, name: str, accepted: Ready) -> None:
        """Records the version that the client runs, if the stream keeps these."""
        if self.running is not None:
            self.running[name] = accepted

    def prove(self, stored: StoredResource, accepted: Ready) -> bool:
        """Records that a client accepted a version. Returns whether streams must check the store again."""
        changed = self.gateway.proved(stored, accepted)
        if changed:
            self.proofs[stored.name] = accepted
        return changed

    def _forget(self, name: str) -> None:
        client_seq = self.pending.pop(name, NOTHING)
        self.rejections.keeping.pop(name, None)
        self.asked.discard(name)
        self.facts.forget(name)
        if name in self.leaving:
            self.leaving.discard(name)
            self.facts.withdrawn([(self.stored(name), client_seq)])
        if self.running is not None:
            self.running.pop(name, None)

    def look_at(self, name: str) -> None:
        """Marks `name` as possibly sendable."""
        if self.fresh is not None:
            self.fresh.append(name)

    # -- first sync, in chunks

    def _pull(self, name: str) -> bool:
        """Takes a name out of the backlog, to send it separately. Returns whether it was waiting there."""
        waited = self.first_sync.take_out(name)
        if waited:
            self.pending[name] = NOTHING
        return waited

    def is_plain(self, chunk: Chunk, types: Iterable[str]) -> bool:
        """Whether the chunk can be sent, or was accepted, as a whole. `types` are those of the stream."""
        return (
            chunk.unchanged(self.gateway.table(self.type).last)
            and self.first_sync.separate.isdisjoint(stored.name for stored in chunk.stored_resources)
            and chunk.requires.isdisjoint(types)
        )

    def spread(self, chunk: Chunk) -> None:
        """Takes the names of the next chunk out of it, to send them separately."""
        for stored in chunk.stored_resources:
            if self._pull(stored.name):
                self.look_at(stored.name)
        self.first_sync.advance(chunk)

    # -- changes of the store

    def poll(self) -> None:
        """Handles the changes of the store since the last call."""
        table = self.gateway.table(self.type)
        cursor = self.cursor
        if table.last <= cursor:
            return
        acknowledged: list[tuple[Ready, int]] = []
        withdrawn: list[tuple[StoredResource, int]] = []
        for stored in table.since(cursor):
            name = stored.name
            if not self.covers(name):
                self._uncover_one(name)
                withdrawn.append((stored, cursor))
                continue
            self.paused = False
            if not self._pull(name) and name not in self.pending:
                offered = stored.offered
                if offered is not None and self.proofs.get(name) is offered:
                    self.report_quarantine(stored, cursor)
                    continue
                if stored.reason is None and offered and offered.stamp <= cursor and stored.current:
                    rejection = self.rejections.reason(offered)
                    if rejection is not None:
                        self.facts.rejected(offered, rejection, cursor)
                    else:
                        acknowledged.append((offered, cursor))
                    continue
                self.pending[name] = (
                    self.rejections.keeping.pop(name, cursor) if stored.created <= cursor else NOTHING
                )
            self.look_at(name)
        self.cursor = table.last
        self.proofs.clear()
        if acknowledged:
            self.facts.acknowledged(acknowledged, self.cursor)
        self.facts.withdrawn(withdrawn)

    # -- responses

    def record_sent(self, nonce: int, resources: Sequence[Ready], removed: Sequence[str]) -> None:
        """Records that a response has been sent."""
        self.owed = False
        self.last_nonce = nonce
        self.in_flight = InFlightResponse(str(nonce), tuple(resources), tuple(removed))
        for resource in resources:
            self.asked.discard(resource.entry.name)
        if resources:
            self.facts.observer.sent(self.facts.connection, [r.entry for r in resources])

    def record_chunk_sent(self, nonce: int, chunk: Chunk) -> None:
        """Records that a chunk has been sent."""
        self.owed = self.first_sync.chunk_next = False
        self.last_nonce = nonce
        self.in_flight = InFlightResponse(str(nonce), chunk.resources, (), chunk)
        self.facts.observer.sent(self.facts.connection, chunk.entries)

    def settle(self, name: str) -> None:
        """Records that nothing is to be sent for `name` until the next change."""
        self.pending.pop(name, None)
        self.asked.discard(name)
        self.leaving.discard(name)

    # -- unacknowledged resources

    def lacks(self, name: str) -> bool:
        """Whether the client has not received, or not answered, the offered version."""
        return name in self.pending or self.first_sync.waits(name)

    def unacknowledged(self) -> Iterator[UnacknowledgedDeployment]:
        """The deployments that the client has not acknowledged."""
        for name, client_seq in self.pending.items():
            yield from pending(self.stored(name), client_seq)
        for stored in self.first_sync.waiting():
            yield from pending(self.stored(stored.name), NOTHING)
        for name in self.uncovered:
            yield from pending(self.stored(name), NOTHING)
        for name in self.facts.rejections:
            yield from self.facts.unacknowledged(name, self.stored(name))

    # -- rejections

    def try_again(self, name: str) -> None:
        """Sends `name` once more, if it was rejected here."""
        if self.rejections.forget(name):
            self.facts.try_again(name)
            self.paused = False
            self.send_again(name)

    def reject_for(self, entry: ConfigResource, reason: str) -> None:
        """Reports once that the proxy does not get this entry, because of another one."""
        stored = self.stored(entry.name)
        if stored and stored.reason is None and stored.offered and stored.offered.entry is entry:
            self.facts.rejected(stored.offered, reason, self.pending.get(entry.name, self.cursor))

    def report_quarantine(self, stored: StoredResource, client_seq: int) -> None:
        """Reports once that the proxy does not get the latest version, if it is quarantined.

        `client_seq`: the change up to which the client had the offered version.
        """
        own = self.gateway.rejected_by(stored, self.facts.connection)
        offered = stored.offered
        good = offered if offered and self.rejections.reason(offered) is None else None
        self.facts.quarantined(stored, client_seq, good, own=own)

    def rejection(self, key: ResourceKey) -> str | None:
        """Why this client rejected the offered version of `key`, if it did; others may accept it."""
        stored = self.stored(key[1])
        return self.rejections.reason(stored.offered) if stored and stored.offered else None
