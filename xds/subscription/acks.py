"""The effects of a client's ACK or NACK of a response."""

from xds.server.streams.isolation import trials
from xds.server.wire import Ready
from xds.store.backlog import Chunk
from xds.store.resource import StoredResource
from xds.subscription import NOTHING, InFlightResponse, Subscription

MOST_DOUBTED = 8
"""Resources that other proxies rejected before are tried one by one if there are at most this many."""


def accept(subscription: Subscription, in_flight: InFlightResponse) -> bool:
    """Handles an ACK. Returns whether streams must check the store again."""
    changed = False
    if in_flight.chunk:
        if _is_accepted_whole(subscription, in_flight.chunk):
            return _accept_chunk(subscription, in_flight.chunk)
        _spread_in_flight(subscription, in_flight.chunk)
    if in_flight.resources:
        acknowledged = [(r, subscription.pending.get(r.entry.name, NOTHING)) for r in in_flight.resources]
        subscription.facts.acknowledged(acknowledged, subscription.cursor)
    for resource in in_flight.resources:
        name = resource.entry.name
        stored = subscription.stored(name)
        if stored:
            changed |= subscription.prove(stored, resource)
        subscription.rejections.discard(resource)
        if not subscription.covers(name):
            continue
        subscription.run(name, resource)
        if stored is None or stored.offered is not resource or name in subscription.asked:
            subscription.pending[name] = resource.stamp
            subscription.look_at(name)
        else:
            subscription.pending.pop(name, None)
            if stored.reason is None:
                subscription.facts.forget(name)
            else:
                subscription.report_quarantine(stored, resource.stamp)
    gone = [
        (subscription.stored(name), subscription.pending.get(name, NOTHING)) for name in in_flight.removed
    ]
    for name in in_flight.removed:
        subscription.leaving.discard(name)
        if subscription.running is not None:
            subscription.running.pop(name, None)
        stored = subscription.stored(name)
        if (stored is None or stored.gone) and name not in subscription.asked:
            subscription.pending.pop(name, None)
            subscription.rejections.forget(name)
            subscription.facts.forget(name)
        elif subscription.covers(name):
            subscription.pending[name] = NOTHING
            subscription.look_at(name)
    subscription.facts.withdrawn(gone)
    return changed


def reject(subscription: Subscription, in_flight: InFlightResponse, suspects: set[str], reason: str) -> bool:
    """Handles a NACK: tries the parts of the response again; a single resource is rejected for good.

    `suspects` are words of the client's reason. Returns whether streams must check the store again.
    """
    if in_flight.chunk:
        _spread_in_flight(subscription, in_flight.chunk)
    group = in_flight.resources
    if len(group) == 1:
        return _reject(subscription, group[0], reason)
    for name in in_flight.removed:
        stored = subscription.stored(name)
        if stored and stored.gone and stored.removal:
            subscription.facts.removal_rejected(stored.removal, reason)
        subscription.settle(name)
    if not group:
        return False
    same: list[str] = []
    changed: list[str] = []
    doubted: list[str] = []
    blamed = set(suspects)
    for resource in group:
        name = resource.entry.name
        stored = subscription.stored(name)
        if stored is not None and (stored.offered is resource or _is_instead(subscription, stored, resource)):
            same.append(name)
            if stored.rejected_by:
                doubted.append(name)
            continue
        changed.append(name)
        if stored is not None and stored.current is resource:
            blamed.add(name)  # quarantined meanwhile
        subscription.look_at(name)
    if len(doubted) <= MOST_DOUBTED:
        blamed.update(doubted)
    subscription.trials += trials(same, changed, blamed)
    return False


def _reject(subscription: Subscription, resource: Ready, reason: str) -> bool:
    name = resource.entry.name
    stored = subscription.stored(name)
    subscription.rejections.add(resource, stored, reason)
    subscription.look_at(name)
    if stored is None:
        return False
    quarantined = subscription.gateway.reject(stored, resource, reason, subscription.facts.connection)
    if quarantined:
        # at once: a stream that does not send the resource again does not report it later
        subscription.report_quarantine(stored, subscription.pending.get(name, NOTHING))
    elif stored.reason is not None:
        subscription.facts.try_again(name)  # it lacks the last good version, too
        subscription.report_quarantine(stored, subscription.pending.get(name, NOTHING))
    else:
        subscription.facts.rejected(resource, reason, subscription.pending.get(name, NOTHING))
    return quarantined


def _is_instead(subscription: Subscription, stored: StoredResource, resource: Ready) -> bool:
    client_seq = subscription.pending.get(stored.name, NOTHING)
    return subscription.rejections.last_good(stored, client_seq) is resource


def _is_accepted_whole(subscription: Subscription, chunk: Chunk) -> bool:
    """Whether the chunk can be accepted as a whole, without records of single names."""
    return (
        subscription.first_sync.next_chunk() is chunk
        and subscription.is_plain(chunk, ())
        and not subscription.facts.rejections
        and chunk.newest <= subscription.facts.began
    )


def _accept_chunk(subscription: Subscription, chunk: Chunk) -> bool:
    """Records that a client accepted a chunk. Returns whether streams must check the store again."""
    changed = False
    if not chunk.proved:
        chunk.proved = True
        for stored, resource in zip(chunk.stored_resources, chunk.resources, strict=True):
            changed |= subscription.prove(stored, resource)
    subscription.first_sync.advance(chunk)
    subscription.facts.observer.acknowledged(subscription.facts.connection, chunk.entries, ())
    return changed


def _spread_in_flight(subscription: Subscription, chunk: Chunk) -> None:
    if subscription.first_sync.next_chunk() is chunk:
        subscription.spread(chunk)
