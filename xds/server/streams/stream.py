"""One proxy's aggregated stream as a state machine: requests and changes in, responses out. No I/O.

The two variants of the protocol are `xds.server.streams.delta` and `xds.server.streams.state_of_the_world`.

Source: xDS protocol (envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol), both variants.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

from gateways.config_resource import ConfigResource
from xds.server.limits import MOST_TYPES
from xds.server.observer import Connection, Observer, Progress, UnacknowledgedDeployment, progress
from xds.server.redact import redacted
from xds.server.streams.deployment_reports import DeploymentReports, pending
from xds.server.streams.order import may_refer, removing_rank, sending_rank
from xds.server.wire import ErrorDetail, Ready, WireError
from xds.store.backlog import Chunk
from xds.store.gateway import Gateway
from xds.subscription import NOTHING, InFlightResponse, Subscription
from xds.subscription.acks import accept, reject
from xds.subscription.selection import Need, choose
from xds.types import CLUSTER, ENDPOINTS, LISTENER, ResourceKey

_FREE_REPEATS = 3
_SHORTEST_WAIT = 0.1
_LONGEST_WAIT = 30.0
OPENING_SECONDS = 1.0
"""Seconds that a removal waits for the proxy to subscribe to types that may refer to the resource: the
requests that open a stream arrive one by one."""
_WORD = re.compile(r"[^\s'\",;()\[\]{}]+")


def _words(message: str) -> set[str]:
    words = set(_WORD.findall(message))
    return words | {word.rstrip(".:") for word in words}


def back_off(fruitless: int) -> float:
    """Seconds to wait after this number of consecutive rejections of responses without resources."""
    repeated = fruitless - _FREE_REPEATS
    return min(_LONGEST_WAIT, _SHORTEST_WAIT * 2 ** min(repeated - 1, 20)) if repeated > 0 else 0.0


class Stream(ABC):
    """Common to both variants: order of types, requirements, one in-flight response per type."""

    def __init__(self, gateway: Gateway, connection: Connection, observer: Observer) -> None:
        self.connection = connection
        self._gateway = gateway
        self._observer = observer
        self._began = gateway.seq
        self._caught_up = False
        self._listener_refused: str = ""
        self._delayed: list[tuple[str, float]] = []
        self._opening: dict[str, bool] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._sending: list[Subscription] = []
        self._removing: list[Subscription] = []

    def cursor(self, type: str) -> int:
        """The last change of a type that the stream has handled."""
        subscription = self._subscriptions.get(type)
        return subscription.cursor if subscription else self._gateway.seq

    def may_take(self, key: ResourceKey, version: str) -> bool | None:
        """Whether the proxy did not reject this version of a resource; None: it does not subscribe to it."""
        subscription = self._subscriptions.get(key[0])
        if subscription is None or not subscription.covers(key[1]):
            return None
        return version not in subscription.rejections.reasons.get(key[1], {})

    def responses(self) -> list[bytes]:
        """The responses to send now, in this order."""
        out: list[bytes] = []
        for subscription in self._sending:
            subscription.poll()
        for subscription in self._sending:
            if subscription.in_flight is None and not subscription.paused:
                frame = self._changes(subscription)
                if frame is not None:
                    out.append(frame)
        for subscription in self._removing:
            if subscription.leaving and subscription.in_flight is None and not subscription.paused:
                referrers = [other for other in self._removing if may_refer(other.type, subscription.type)]
                frame = self._removals(subscription, referrers)
                if frame is not None:
                    out.append(frame)
        self._report_progress(at_rest=not out)
        return out

    def held_back(self) -> list[tuple[str, float]]:
        """Types whose next response was delayed since the last call, each with a number of seconds. The
        caller releases them after that time."""
        delayed, self._delayed = self._delayed, []
        return delayed

    def release(self, type: str) -> None:
        """Releases the next response of a type."""
        if type in self._opening:
            self._opening[type] = False
        subscription = self._subscriptions.get(type)
        if subscription is not None:
            subscription.paused = False

    def progress(self) -> Progress:
        """The progress of the proxy, as known from the store."""
        for subscription in self._sending:
            subscription.poll()
        unacknowledged: dict[str, UnacknowledgedDeployment] = {}
        for type, table in self._gateway.tables.items():
            if table.carrying and type not in self._subscriptions:
                for stored in table.stored_resources.values():
                    unacknowledged.update((each.deployment, each) for each in pending(stored, NOTHING))
        for subscription in self._sending:
            for each in subscription.unacknowledged():
                if each.reason is not None or each.deployment not in unacknowledged:
                    unacknowledged[each.deployment] = each
        return progress(self._gateway.position, tuple(unacknowledged.values()), self._listener_rejection())

    def try_again(self, key: ResourceKey) -> None:
        """Sends the proxy this resource once more, if it rejected it."""
        subscription = self._subscriptions.get(key[0])
        if subscription is not None:
            subscription.try_again(key[1])

    def _report_progress(self, *, at_rest: bool) -> None:
        """Reports once when the proxy has caught up, and when the rejection of its listener changes."""
        caught_up = self._caught_up or (at_rest and self._at_rest())
        refused = self._listener_rejection()
        if caught_up != self._caught_up or refused != self._listener_refused:
            self._caught_up, self._listener_refused = caught_up, refused
            self._observer.progressed(self.connection, self.progress())

    def _at_rest(self) -> bool:
        """Whether the proxy has answered everything that can be sent, and has subscribed to all types that
        carry deployments."""
        return (
            all(
                s.in_flight is None and not s.uncovered and s.first_sync.backlog is None
                for s in self._sending
            )
            and bool(self._sending)
            and all(
                type in self._subscriptions for type, table in self._gateway.tables.items() if table.carrying
            )
        )

    def _listener_rejection(self) -> str:
        listeners = self._subscriptions.get(LISTENER)
        if listeners is None:
            return ""
        return next((rejected.reason for rejected in listeners.facts.rejections.values()), "")

    @abstractmethod
    def _frame(
        self, subscription: Subscription, resources: tuple[Ready, ...], removed: tuple[str, ...]
    ) -> bytes | None: ...

    def _subscribe(self, type: str) -> Subscription:
        """Raises WireError when the stream has too many types."""
        if len(self._subscriptions) >= MOST_TYPES:
            raise WireError(f"a stream takes requests for at most {MOST_TYPES} types")
        facts = DeploymentReports(self.connection, self._observer, self._began)
        subscription = Subscription(self._gateway, type, facts)
        self._subscriptions[type] = subscription
        self._sending = sorted(self._subscriptions.values(), key=lambda s: sending_rank(s.type))
        self._removing = sorted(self._subscriptions.values(), key=lambda s: removing_rank(s.type))
        return subscription

    def _look_everywhere(self) -> None:
        for subscription in self._sending:
            subscription.fresh = None

    def _changes(self, subscription: Subscription) -> bytes | None:
        first_sync = subscription.first_sync
        while True:
            chunk = first_sync.next_chunk()
            plain = chunk is not None and subscription.is_plain(chunk, self._subscriptions)
            if chunk and plain and first_sync.chunk_next and not subscription.trials:
                return self._chunk(subscription, chunk)
            resources, absent, coming = choose(subscription, self._need)
            if chunk is None or resources or absent:
                break
            if plain:
                return self._chunk(subscription, chunk)
            subscription.spread(chunk)
        if not (resources or absent or (subscription.owed and not coming)):
            return None
        frame = self._frame(subscription, tuple(resources), tuple(absent))
        if subscription.type == CLUSTER:
            self._send_endpoints_again(resources)
        return frame

    def _chunk(self, subscription: Subscription, chunk: Chunk) -> bytes:
        nonce, data = self._gateway.delta_frame(
            subscription.type, chunk.resources, (), subscription.last_nonce
        )
        subscription.record_chunk_sent(nonce, chunk)
        if subscription.type == CLUSTER:
            self._send_endpoints_again(chunk.resources)
        return data

    def _send_endpoints_again(self, clusters: Sequence[Ready]) -> None:
        """Sends the endpoints of changed clusters again: Envoy waits for them, though they did not change."""
        endpoints = self._subscriptions.get(ENDPOINTS)
        if endpoints is None:
            return
        for cluster in clusters:
            own = cluster.entry.name
            required_by = self._gateway.requirers((CLUSTER, own))
            for name in {own, *(name for type, name in required_by if type == ENDPOINTS)}:
                stored = endpoints.stored(name)
                if endpoints.covers(name) and stored and stored.offered:
                    endpoints.send_again(name)

    def _removals(self, subscription: Subscription, referrers: list[Subscription]) -> bytes | None:
        """Removes resources unless a resource that the client may still run, or is about to receive, refers
        to them."""
        if self._is_opening(subscription.type):
            return None
        rank = removing_rank(subscription.type)
        cursors = [
            since
            for other in referrers
            for name, since in other.pending.items()
            # Routes that leave wait for their scope, not the scope for them.
            if since >= 0 and (removing_rank(other.type) < rank or name not in other.leaving)
        ]
        floor = min(cursors, default=self._gateway.seq)
        in_flight = [other.in_flight for other in referrers if other.in_flight]
        on_the_way = {key for sent in in_flight for one in sent.resources for key in one.entry.requires}
        ready: list[str] = []
        for name in subscription.leaving:
            stored = subscription.stored(name)
            if stored and stored.offered is not None:
                continue  # added again while other types were handled
            key, gone = (subscription.type, name), stored.seq if stored else subscription.cursor
            if gone > floor or key in on_the_way:
                continue
            if not any(other.rejections.may_need(key, gone, other.stored) for other in referrers):
                ready.append(name)
        return self._frame(subscription, (), tuple(ready)) if ready else None

    def _is_opening(self, type: str) -> bool:
        """Whether the proxy has not yet requested the types that may refer to this one."""
        referring = [t for t in self._gateway.tables if removing_rank(t) >= 0 and may_refer(t, type)]
        if all(t in self._subscriptions for t in referring):
            return False
        if type not in self._opening:
            self._opening[type] = True
            self._delayed.append((type, OPENING_SECONDS))
        return self._opening[type]

    def _need(self, entry: ConfigResource) -> Need:
        for key in entry.requires:
            subscription = self._subscriptions.get(key[0])
            if subscription is None:
                continue
            if not subscription.covers(key[1]):
                if key[0] == entry.type:
                    return Need.COMING  # the client asks for it as soon as it has the scope that names it
                continue
            stored = subscription.stored(key[1])
            reason = subscription.rejection(key)
            if reason is not None:
                own = self._subscriptions.get(entry.type)
                if own:
                    own.reject_for(entry, f"requires {key[1]}: {reason}")
                return Need.REJECTED
            if stored is None or stored.offered is None:
                return Need.MISSING
            subscription.poll()  # it may have been added again while other types were handled
            if subscription.lacks(key[1]):
                return Need.COMING
        return Need.MET

    def _answered(
        self, subscription: Subscription, in_flight: InFlightResponse, error_detail: ErrorDetail | None
    ) -> None:
        subscription.in_flight = None
        if error_detail is None:
            subscription.fruitless = 0
            changed = accept(subscription, in_flight)
        else:
            if not in_flight.resources:
                self._hold_back(subscription)
            known = [resource.entry.name for resource in in_flight.resources]
            reason = redacted(error_detail.message, (*known, *in_flight.removed))
            changed = reject(subscription, in_flight, _words(error_detail.message), reason)
        self._look_everywhere()
        if changed:
            self._gateway.wake()

    def _hold_back(self, subscription: Subscription) -> None:
        """Delays the next response with growing pauses, as such rejections isolate no resource."""
        subscription.fruitless += 1
        seconds = back_off(subscription.fruitless)
        if seconds and not subscription.trials:
            subscription.paused = True
            self._delayed.append((subscription.type, seconds))
