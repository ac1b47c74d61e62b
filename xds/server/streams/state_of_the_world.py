"""The state-of-the-world variant of a stream."""

from operator import attrgetter

from xds.server.observer import Connection, Observer
from xds.server.streams.order import WHOLE_STATE
from xds.server.streams.stream import Stream
from xds.server.wire import Ready, StateRequest
from xds.store.gateway import Gateway
from xds.subscription import WILDCARD, InFlightResponse, Subscription
from xds.subscription.acks import accept


class StateStream(Stream):
    """Each response has all resources; the stream keeps those that the client runs, to send them again."""

    def __init__(self, gateway: Gateway, connection: Connection, observer: Observer) -> None:
        super().__init__(gateway, connection, observer)
        self._accepted: set[str] = set()

    def receive(self, request: StateRequest) -> None:
        subscription = self._subscriptions.get(request.type)
        if subscription is None:
            self._first(request)
            return
        if request.nonce and request.nonce != str(subscription.last_nonce):
            return  # stale: the client will answer, and subscribe, under the newer nonce
        in_flight = subscription.in_flight
        if in_flight and request.nonce:
            self._answered(subscription, in_flight, request.error_detail)
            if request.error_detail is None:
                self._accepted.add(request.type)
            elif request.type not in self._accepted and subscription.wildcard:
                # The client may run any resources of an earlier connection: all good ones are sent.
                subscription.owed = True
        self._resubscribe(subscription, request.names)

    def _first(self, request: StateRequest) -> None:
        subscription = self._subscribe(request.type)
        subscription.running = {}
        names = [name for name in request.names if name != WILDCARD]
        subscription.named = bool(request.names)
        if not names or WILDCARD in request.names:
            subscription.owed = True
            subscription.start_wildcard({})
        subscription.want(names)
        self._look_everywhere()

    def _resubscribe(self, subscription: Subscription, wanted: list[str]) -> None:
        names = {name for name in wanted if name != WILDCARD}
        wildcard = WILDCARD in wanted or not (names or subscription.named)
        if wildcard == subscription.wildcard and names == subscription.names:
            return
        subscription.named |= bool(wanted)
        if wildcard and not subscription.wildcard:
            subscription.owed = True
            subscription.start_wildcard({})
        elif subscription.wildcard and not wildcard:
            subscription.end_wildcard()
        dropped = subscription.names - names
        if wildcard:
            subscription.names -= dropped
        else:
            subscription.unwant(dropped)
        subscription.want(names - subscription.names)
        self._look_everywhere()

    def _frame(
        self, subscription: Subscription, resources: tuple[Ready, ...], removed: tuple[str, ...]
    ) -> bytes | None:
        whole = subscription.wildcard or subscription.type in WHOLE_STATE
        if not (whole or resources):
            # This variant cannot report absence: the client removes resources that it no longer requests.
            accept(subscription, InFlightResponse("", (), removed))
            return None
        content = dict(subscription.running or {}) if whole else {}
        for resource in resources:
            content[resource.entry.name] = resource
        for name in removed:
            content.pop(name, None)
        ordered = tuple(sorted(content.values(), key=attrgetter("entry.name")))
        nonce, data = self._gateway.state_frame(subscription.type, ordered, subscription.last_nonce)
        subscription.record_sent(nonce, resources, removed if whole else ())
        return data
