"""What a client's ACK or NACK of a response changes."""

from xds.backlog import Chunk
from xds.isolation import trials
from xds.slot import Slot
from xds.subscription import NOTHING, Flight, Subscription
from xds.wire import Ready

MOST_DOUBTED = 8
"""Of a rejected response, so many that other proxies rejected before are tried one by one."""


def accept(subscription: Subscription, flight: Flight) -> bool:
    """Whether streams have to look at the store again."""
    changed = False
    if flight.chunk:
        if _is_accepted_whole(subscription, flight.chunk):
            return _accept_chunk(subscription, flight.chunk)
        _spread_flight(subscription, flight.chunk)
    if flight.resources:
        held = [(r, subscription.pending.get(r.entry.name, NOTHING)) for r in flight.resources]
        subscription.facts.acknowledged(held, subscription.cursor)
    for resource in flight.resources:
        name = resource.entry.name
        slot = subscription.slot(name)
        if slot:
            changed |= subscription.prove(slot, resource)
        subscription.rejections.discard(resource)
        if not subscription.covers(name):
            continue
        subscription.run(name, resource)
        if slot is None or slot.offered is not resource or name in subscription.asked:
            subscription.pending[name] = resource.stamp
            subscription.look_at(name)
        else:
            subscription.pending.pop(name, None)
            if slot.reason is None:
                subscription.facts.forget(name)
            else:
                subscription.report_quarantine(slot, resource.stamp)
    gone = [(subscription.slot(name), subscription.pending.get(name, NOTHING)) for name in flight.removed]
    for name in flight.removed:
        subscription.leaving.discard(name)
        if subscription.running is not None:
            subscription.running.pop(name, None)
        slot = subscription.slot(name)
        if (slot is None or slot.gone) and name not in subscription.asked:
            subscription.pending.pop(name, None)
            subscription.rejections.forget(name)
            subscription.facts.forget(name)
        elif subscription.covers(name):
            subscription.pending[name] = NOTHING
            subscription.look_at(name)
    subscription.facts.withdrawn(gone)
    return changed


def reject(subscription: Subscription, flight: Flight, suspects: set[str], reason: str) -> bool:
    """Tries the parts of what was refused; a single one is refused for good.

    `suspects` are words of the client's reason. Whether streams have to look at the store again.
    """
    if flight.chunk:
        _spread_flight(subscription, flight.chunk)
    group = flight.resources
    if len(group) == 1:
        return _refuse(subscription, group[0], reason)
    for name in flight.removed:
        slot = subscription.slot(name)
        if slot and slot.gone and slot.removal:
            subscription.facts.removal_refused(slot.removal, reason)
        subscription.settle(name)
    if not group:
        return False
    same: list[str] = []
    changed: list[str] = []
    doubted: list[str] = []
    blamed = set(suspects)
    for resource in group:
        name = resource.entry.name
        slot = subscription.slot(name)
        if slot is not None and (slot.offered is resource or _is_instead(subscription, slot, resource)):
            same.append(name)
            if slot.rejected_by:
                doubted.append(name)
            continue
        changed.append(name)
        if slot is not None and slot.current is resource:
            blamed.add(name)  # all others found it out
        subscription.look_at(name)
    if len(doubted) <= MOST_DOUBTED:
        blamed.update(doubted)
    subscription.trials += trials(same, changed, blamed)
    return False


def _refuse(subscription: Subscription, resource: Ready, reason: str) -> bool:
    name = resource.entry.name
    slot = subscription.slot(name)
    subscription.rejections.add(resource, slot, reason)
    subscription.look_at(name)
    if slot is None:
        return False
    quarantined = subscription.gateway.refuse(slot, resource, reason, subscription.facts.connection)
    if quarantined:
        # at once: the streams of nodes that are not sent it do not report it
        subscription.report_quarantine(slot, subscription.pending.get(name, NOTHING))
    elif slot.reason is not None:
        subscription.facts.try_again(name)  # it lacks the last good version, too
        subscription.report_quarantine(slot, subscription.pending.get(name, NOTHING))
    else:
        subscription.facts.refused(resource, reason, subscription.pending.get(name, NOTHING))
    return quarantined


def _is_instead(subscription: Subscription, slot: Slot, resource: Ready) -> bool:
    held = subscription.pending.get(slot.name, NOTHING)
    return subscription.rejections.last_good(slot, held) is resource


def _is_accepted_whole(subscription: Subscription, chunk: Chunk) -> bool:
    """Whether there is nothing to note of single names."""
    return (
        subscription.first_sync.next_chunk() is chunk
        and subscription.is_plain(chunk, ())
        and not subscription.facts.rejected
        and chunk.newest <= subscription.facts.began
    )


def _accept_chunk(subscription: Subscription, chunk: Chunk) -> bool:
    """Whether streams have to look at the store again."""
    changed = False
    if not chunk.proved:
        chunk.proved = True
        for slot, resource in zip(chunk.slots, chunk.resources, strict=True):
            changed |= subscription.prove(slot, resource)
    subscription.first_sync.advance(chunk)
    subscription.facts.observer.acknowledged(subscription.facts.connection, chunk.entries, ())
    return changed


def _spread_flight(subscription: Subscription, chunk: Chunk) -> None:
    if subscription.first_sync.next_chunk() is chunk:
        subscription.spread(chunk)
