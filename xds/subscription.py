"""What one stream has of one resource type, and what it still lacks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from gateways.entry import Entry
from xds.backlog import Backlog, Chunk
from xds.facts import Facts, pending
from xds.isolation import trials
from xds.observer import Lack
from xds.slot import Key, Slot
from xds.store.gateway import Gateway
from xds.wire import Ready

NOTHING = -1
"""Held: the client has no version of it."""

WILDCARD = "*"

MOST_DOUBTED = 8
"""Of a rejected response, so many that other proxies rejected before are tried one by one."""


class Need(Enum):
    """Where a resource's requirements stand on a stream."""

    MET = auto()
    COMING = auto()
    MISSING = auto()
    REFUSED = auto()


@dataclass(slots=True, eq=False)
class Flight:
    """A response that has been sent and not been answered; `chunk` is what it was made of, if anything."""

    nonce: str
    resources: tuple[Ready, ...] = ()
    removed: tuple[str, ...] = ()
    chunk: Chunk | None = None


@dataclass(slots=True, eq=False)
class Subscription:
    """One type on one stream.

    The client has what the store offers as of `cursor`, except for the names in `pending`; the number
    there says up to which change it had what was offered (NOTHING: it has none). `asked` must be
    answered though nothing changed. `trials` are groups of names that were refused together. `proofs`
    are those whose acceptance here changed what the store offers: they need not be sent again.
    `refused` has by name why the client rejected versions of it. `keeping` are names of which it has what
    was offered up to the change given there, since it rejected what is offered now.
    `fresh` is what may have become sendable since the last look, None for everything. `uncovered` are
    resources that carry deployments and are not subscribed to. `fruitless` counts the rejections in a row of
    responses that brought nothing new; while `held` nothing is sent, until something changes.

    Of `backlog` the client has got, and answered, what is before `at`; `pulled` are names that are treated
    one by one instead. `chunk_next`: it is a chunk's turn, not that of what is pending.
    """

    gateway: Gateway
    type: str
    facts: Facts
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
    refused: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    keeping: dict[str, int] = field(default_factory=dict[str, int])
    proofs: dict[str, Ready] = field(default_factory=dict[str, Ready])
    fresh: list[str] | None = None
    backlog: Backlog | None = None
    at: int = 0
    pulled: set[str] = field(default_factory=set[str])
    chunk_next: bool = True
    flight: Flight | None = None
    fruitless: int = 0
    held: bool = False
    last_nonce: int = 0
    running: dict[str, Ready] | None = None

    def covers(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def slot(self, name: str) -> Slot | None:
        return self.gateway.table(self.type).slots.get(name)

    # -- what the client wants

    def start_wildcard(self, versions: dict[str, str]) -> None:
        """Everything, but what the client already has according to `versions`."""
        self.wildcard = True
        self.uncovered.clear()
        self.gateway.reopen(self.type, self.facts.connection)
        table = self.gateway.table(self.type)
        self.cursor = table.last
        if not versions and self.running is None and not self.last_nonce:
            offered = table.backlog()
            if len(offered.chunks) > 1:
                self.backlog = offered
                return
        wanted = [slot.name for slot in table.slots.values() if slot.current or slot.offered]
        self._start(wanted, versions)
        self._start(
            [name for name in versions if name not in table.slots or table.slots[name].gone], versions
        )

    def want(self, names: Iterable[str], versions: dict[str, str] | None = None) -> None:
        """These names; each is answered unless `versions` shows that the client has it."""
        if not self.names and not self.wildcard:
            self.cursor = self.gateway.table(self.type).last
            self._uncover()
        names = list(names)
        self.gateway.reopen(self.type, self.facts.connection, names)
        for name in names:
            slot = self.slot(name)
            own = slot.name if slot else name
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
                # the client dropped it, the wildcard still covers it: it has to learn what it is now
                self.ask(name)
            else:
                self._forget(name)
                self._uncover_one(name)

    def end_wildcard(self) -> None:
        self.wildcard = False
        for name in self.names:
            if self._pull(name):
                self._look_at(name)
        self._end_backlog()
        self._uncover()
        for name in [name for name in self.pending if name not in self.names]:
            self._forget(name)
        for name in [name for name in self.running or () if name not in self.names]:
            self._forget(name)

    def _uncover(self) -> None:
        for name in self.gateway.table(self.type).slots:
            if name not in self.names:
                self._uncover_one(name)

    def _uncover_one(self, name: str) -> None:
        slot = self.slot(name)
        if slot and slot.current and slot.current.entry.causes:
            self.uncovered.add(name)
        else:
            self.uncovered.discard(name)

    def ask(self, name: str) -> None:
        """Has `name` answered even if nothing changed."""
        self._pull(name)
        self.pending[name] = NOTHING
        self.asked.add(name)
        self._look_at(name)

    def send_again(self, name: str) -> None:
        """The client needs `name` once more, though it may hold it."""
        self._pull(name)
        self.pending.setdefault(name, self.keeping.pop(name, self.cursor))
        self.asked.add(name)
        self._look_at(name)

    def _start(self, names: Iterable[str], versions: dict[str, str]) -> None:
        proved: list[tuple[Ready, int]] = []
        changed = False
        for name in names:
            slot, version = self.slot(name), versions.get(name)
            current = slot.current if slot else None
            offered = slot.offered if slot else None
            if version is None:
                self.pending[name] = NOTHING
            elif slot and current and current.version == version:
                changed |= self._prove(slot, current)
                self._run(name, current)
                proved.append((current, NOTHING))
                continue
            elif offered and offered.version == version:
                # the last good one: nothing to send, but there is a refusal to report
                self._run(name, offered)
                self.pending[name] = self.cursor
            else:
                if slot and slot.before and slot.before.version == version:
                    # its acknowledgement was lost with the stream
                    changed |= self.gateway.proved(slot, slot.before)
                self.pending[name] = 0
            self._look_at(name)
        if proved:
            self.facts.acknowledged(proved, self.cursor)
        if changed:
            self.gateway.wake()

    def _run(self, name: str, accepted: Ready) -> None:
        if self.running is not None:
            self.running[name] = accepted

    def _prove(self, slot: Slot, accepted: Ready) -> bool:
        changed = self.gateway.proved(slot, accepted)
        if changed:
            self.proofs[slot.name] = accepted
        return changed

    def _forget(self, name: str) -> None:
        held = self.pending.pop(name, NOTHING)
        self.keeping.pop(name, None)
        self.asked.discard(name)
        self.facts.forget(name)
        if name in self.leaving:
            self.leaving.discard(name)
            self.facts.withdrawn([(self.slot(name), held)])
        if self.running is not None:
            self.running.pop(name, None)

    def _look_at(self, name: str) -> None:
        if self.fresh is not None:
            self.fresh.append(name)

    # -- what a client that has nothing gets in chunks

    def lacks(self, name: str) -> bool:
        """Whether the client has not got, or not answered, what is offered."""
        return name in self.pending or self._waits(name)

    def _waits(self, name: str) -> bool:
        return (
            self.backlog is not None
            and self.backlog.index.get(name, -1) >= self.at
            and name not in self.pulled
        )

    def _pull(self, name: str) -> bool:
        """Takes a name that waits in the backlog out of it, to be treated on its own."""
        waits = self._waits(name)
        if waits:
            self.pulled.add(name)
            self.pending[name] = NOTHING
        return waits

    def next_chunk(self) -> Chunk | None:
        return self.backlog.chunks[self.at] if self.backlog else None

    def is_plain(self, chunk: Chunk, types: Iterable[str]) -> bool:
        """Whether the chunk can be sent, or was accepted, as a whole. `types` are those of the stream."""
        return (
            chunk.unchanged(self.gateway.table(self.type).last)
            and self.pulled.isdisjoint(slot.name for slot in chunk.slots)
            and chunk.requires.isdisjoint(types)
        )

    def spread(self, chunk: Chunk) -> None:
        """Has the names of the next chunk treated one by one."""
        for slot in chunk.slots:
            if self._pull(slot.name):
                self._look_at(slot.name)
        self._pass(chunk)

    def _spread_flight(self, chunk: Chunk) -> None:
        if self.next_chunk() is chunk:
            self.spread(chunk)

    def take_off_chunk(self, nonce: int, chunk: Chunk) -> None:
        """Notes that a chunk has been sent."""
        self.owed = self.chunk_next = False
        self.last_nonce = nonce
        self.flight = Flight(str(nonce), chunk.resources, (), chunk)
        self.facts.observer.sent(self.facts.connection, chunk.entries)

    def _is_accepted_whole(self, chunk: Chunk) -> bool:
        """Whether there is nothing to note of single names."""
        return (
            self.next_chunk() is chunk
            and self.is_plain(chunk, ())
            and not self.facts.rejected
            and chunk.newest <= self.facts.began
        )

    def _accept_chunk(self, chunk: Chunk) -> bool:
        """Whether streams have to look at the store again."""
        changed = False
        if not chunk.proved:
            chunk.proved = True
            for slot, resource in zip(chunk.slots, chunk.resources, strict=True):
                changed |= self._prove(slot, resource)
        self._pass(chunk)
        self.facts.observer.acknowledged(self.facts.connection, chunk.entries, ())
        return changed

    def _pass(self, chunk: Chunk) -> None:
        self.at = chunk.stop
        if self.backlog and self.at == len(self.backlog.slots):
            self._end_backlog()

    def _end_backlog(self) -> None:
        self.backlog, self.at = None, 0
        self.pulled.clear()

    # -- what changed in the store

    def poll(self) -> None:
        """Takes over what changed in the store since the last time."""
        table = self.gateway.table(self.type)
        cursor = self.cursor
        if table.last <= cursor:
            return
        acknowledged: list[tuple[Ready, int]] = []
        withdrawn: list[tuple[Slot, int]] = []
        for slot in table.since(cursor):
            name = slot.name
            if not self.covers(name):
                self._uncover_one(name)
                withdrawn.append((slot, cursor))
                continue
            self.held = False
            if not self._pull(name) and name not in self.pending:
                offered = slot.offered
                if offered is not None and self.proofs.get(name) is offered:
                    self._quarantined(slot, cursor)
                    continue
                if slot.reason is None and offered and offered.stamp <= cursor and slot.current:
                    refusal = self._rejection(offered)
                    if refusal is not None:
                        self.facts.refused(offered, refusal, cursor)
                    else:
                        acknowledged.append((offered, cursor))
                    continue
                self.pending[name] = self.keeping.pop(name, cursor) if slot.born <= cursor else NOTHING
            self._look_at(name)
        self.cursor = table.last
        self.proofs.clear()
        if acknowledged:
            self.facts.acknowledged(acknowledged, self.cursor)
        self.facts.withdrawn(withdrawn)

    # -- what to send

    def choose(self, need: Callable[[Entry], Need]) -> tuple[list[Ready], list[str], bool]:
        """What can be sent, names to be answered with their absence, and whether more is coming."""
        self.chunk_next = True
        while self.trials:
            resources, absent, _ = self._sift(self.trials.pop(), need)
            if resources or absent:
                return resources, absent, True
        names = tuple(self.pending) if self.fresh is None else dict.fromkeys(self.fresh)
        self.fresh = []
        return self._sift(names, need)

    def _sift(
        self, names: Iterable[str], need: Callable[[Entry], Need]
    ) -> tuple[list[Ready], list[str], bool]:
        resources: list[Ready] = []
        absent: list[str] = []
        coming = False
        for name in names:
            held = self.pending.get(name)
            if held is None:
                continue
            slot = self.slot(name)
            if slot:
                self._quarantined(slot, held)
            offered = slot.offered if slot else None
            if offered is None or slot is None:
                keeps = slot is not None and slot.current is not None and not slot.anew
                self._sift_absent(name, held, keeps, absent)
                continue
            self.leaving.discard(name)
            refusal = self._rejection(offered)
            if refusal is not None:
                if slot.reason is None:
                    self.facts.refused(offered, refusal, held)
                if self.gateway.refuse(slot, offered, refusal, self.facts.connection):
                    # all others had rejected it, or it had been removed and has come back as it was
                    self.gateway.wake()
                instead = self._instead(slot, held)
                state = need(instead.entry) if instead else Need.MISSING
                if instead and state is Need.MET:
                    resources.append(instead)
                elif state is Need.COMING:
                    coming = True
                else:
                    if name in self.asked and held == NOTHING:
                        absent.append(name)
                    self._settle(name)
                    if held != NOTHING:
                        self.keeping[name] = held
            elif offered.stamp <= held and name not in self.asked:
                self._settle(name)
            else:
                state = need(offered.entry)
                if state is Need.MET:
                    resources.append(offered)
                elif state is Need.COMING:
                    coming = True
                elif state is Need.REFUSED:
                    instead = self._instead(slot, held)
                    if instead and need(instead.entry) is Need.MET:
                        resources.append(instead)
                    elif name in self.asked and held == NOTHING:
                        self.asked.discard(name)
                        absent.append(name)
        return resources, absent, coming

    def _rejection(self, resource: Ready) -> str | None:
        """Why the client rejected this version."""
        return self.refused.get(resource.entry.name, {}).get(resource.version)

    def _instead(self, slot: Slot, held: int) -> Ready | None:
        """What the client can have that does not take what is offered, and has not: the last good version."""
        for resource in (slot.good, slot.older):
            if resource is None or resource is slot.offered or resource.stamp <= held:
                continue
            if self._rejection(resource) is None:
                return resource
        return None

    def keeps(self, key: Key) -> bool:
        """Whether what the client has of the resources that it rejected needs `key`, as far as is known."""
        for name, held in self.keeping.items():
            slot = self.slot(name)
            known = (slot.good, slot.older, slot.before) if slot else ()
            had = [resource for resource in known if resource and resource.stamp <= held]
            if not had or any(key in resource.entry.requires for resource in had):
                return True
        return False

    def _is_instead(self, slot: Slot, resource: Ready) -> bool:
        return self._instead(slot, self.pending.get(slot.name, NOTHING)) is resource

    def _sift_absent(self, name: str, held: int, keeps: bool, absent: list[str]) -> None:
        if held == NOTHING:
            if name in self.asked:
                absent.append(name)
            self._settle(name)
            if not keeps:
                self.facts.withdrawn([(self.slot(name), held)])
        elif keeps:
            # quarantined, and the last good version is not known here: the client keeps what it has
            self._settle(name)
        else:
            self.leaving.add(name)

    def _settle(self, name: str) -> None:
        self.pending.pop(name, None)
        self.asked.discard(name)
        self.leaving.discard(name)

    def refuse_for(self, entry: Entry, reason: str) -> None:
        """Reports once that the proxy does not get this entry, because of another one."""
        slot = self.slot(entry.name)
        if slot and slot.reason is None and slot.offered and slot.offered.entry is entry:
            self.facts.refused(slot.offered, reason, self.pending.get(entry.name, self.cursor))

    def try_again(self, name: str) -> None:
        """Sends `name` once more, if it was rejected here."""
        if self.refused.pop(name, None) is not None:
            self.facts.try_again(name)
            self.held = False
            self.send_again(name)

    def lacking(self) -> Iterator[Lack]:
        """The deployments that the client has not acknowledged."""
        for name, held in self.pending.items():
            yield from pending(self.slot(name), held)
        for slot in self.backlog.slots[self.at :] if self.backlog else ():
            if self._waits(slot.name):
                yield from pending(self.slot(slot.name), NOTHING)
        for name in self.uncovered:
            yield from pending(self.slot(name), NOTHING)
        for name in self.facts.rejected:
            yield from self.facts.lacking(name, self.slot(name))

    def take_off(self, nonce: int, resources: Sequence[Ready], removed: Sequence[str]) -> None:
        """Notes what has been sent."""
        self.owed = False
        self.last_nonce = nonce
        self.flight = Flight(str(nonce), tuple(resources), tuple(removed))
        for resource in resources:
            self.asked.discard(resource.entry.name)
        if resources:
            self.facts.observer.sent(self.facts.connection, [r.entry for r in resources])

    def out_of_date(self, since: int) -> bool:
        """Whether the client may run something from before change `since` that has since been replaced."""
        return any(0 <= held < since for held in self.pending.values())

    # -- what the client answers

    def accept(self, flight: Flight) -> bool:
        """Whether streams have to look at the store again."""
        changed = False
        if flight.chunk:
            if self._is_accepted_whole(flight.chunk):
                return self._accept_chunk(flight.chunk)
            self._spread_flight(flight.chunk)
        if flight.resources:
            held = [(r, self.pending.get(r.entry.name, NOTHING)) for r in flight.resources]
            self.facts.acknowledged(held, self.cursor)
        for resource in flight.resources:
            name = resource.entry.name
            slot = self.slot(name)
            if slot:
                changed |= self._prove(slot, resource)
            self.refused.get(name, {}).pop(resource.version, None)
            if not self.covers(name):
                continue
            self._run(name, resource)
            if slot is None or slot.offered is not resource or name in self.asked:
                self.pending[name] = resource.stamp
                self._look_at(name)
            else:
                self.pending.pop(name, None)
                if slot.reason is None:
                    self.facts.forget(name)
        gone = [(self.slot(name), self.pending.get(name, NOTHING)) for name in flight.removed]
        for name in flight.removed:
            self.leaving.discard(name)
            if self.running is not None:
                self.running.pop(name, None)
            slot = self.slot(name)
            if (slot is None or slot.offered is None) and name not in self.asked:
                self.pending.pop(name, None)
                if slot is None or slot.gone:
                    self.refused.pop(name, None)
                    self.facts.forget(name)  # else it was rejected, and the proxy lacks it
            elif self.covers(name):
                self.pending[name] = NOTHING
                self._look_at(name)
        self.facts.withdrawn(gone)
        return changed

    def reject(self, flight: Flight, suspects: set[str], reason: str) -> bool:
        """Tries the parts of what was refused; a single one is refused for good.

        `suspects` are words of the client's reason. Whether streams have to look at the store again.
        """
        if flight.chunk:
            self._spread_flight(flight.chunk)
        group = flight.resources
        if len(group) == 1:
            return self._refuse(group[0], reason)
        for name in flight.removed:
            slot = self.slot(name)
            if slot and slot.gone and slot.removal:
                self.facts.removal_refused(slot.removal, reason)
            self._settle(name)
        if not group:
            return False
        same: list[str] = []
        changed: list[str] = []
        doubted: list[str] = []
        blamed = set(suspects)
        for resource in group:
            name = resource.entry.name
            slot = self.slot(name)
            if slot is not None and (slot.offered is resource or self._is_instead(slot, resource)):
                same.append(name)
                if slot.rejected_by:
                    doubted.append(name)
                continue
            changed.append(name)
            if slot is not None and slot.current is resource:
                blamed.add(name)  # all others found it out
            self._look_at(name)
        if len(doubted) <= MOST_DOUBTED:
            blamed.update(doubted)
        self.trials += trials(same, changed, blamed)
        return False

    def _refuse(self, resource: Ready, reason: str) -> bool:
        name = resource.entry.name
        slot = self.slot(name)
        offers = (slot.current, slot.good, slot.older) if slot else ()
        versions = {offer.version for offer in offers if offer}
        before = self.refused.get(name, {})
        self.refused[name] = {v: why for v, why in before.items() if v in versions}
        self.refused[name][resource.version] = reason
        self._look_at(name)
        if slot is None:
            return False
        quarantined = self.gateway.refuse(slot, resource, reason, self.facts.connection)
        if quarantined:
            # at once: the streams of nodes that are not sent it do not report it
            self._quarantined(slot, self.pending.get(name, NOTHING))
        elif slot.reason is not None:
            self.facts.forget(name)  # it lacks the last good version, too
            self._quarantined(slot, self.pending.get(name, NOTHING))
        else:
            self.facts.refused(resource, reason, self.pending.get(name, NOTHING))
        return quarantined

    def _quarantined(self, slot: Slot, held: int) -> None:
        own = self.gateway.rejected_by(slot, self.facts.connection)
        offered = slot.offered
        good = offered if offered and self._rejection(offered) is None else None
        self.facts.quarantined(slot, held, good, own=own)

    def refusal(self, key: Key) -> str | None:
        """Why this node, and perhaps only it, does not take what is offered."""
        slot = self.slot(key[1])
        return self._rejection(slot.offered) if slot and slot.offered else None
