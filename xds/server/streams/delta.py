"""The incremental variant of a stream."""

from xds.server.streams.stream import Stream
from xds.server.wire import DeltaRequest, Ready
from xds.subscription import WILDCARD, Subscription


class DeltaStream(Stream):
    """Each response has the resources that changed."""

    def receive(self, request: DeltaRequest) -> None:
        subscription = self._subscriptions.get(request.type)
        if subscription is None:
            self._first(request)
        else:
            in_flight = subscription.in_flight
            if in_flight and request.nonce == in_flight.nonce:
                self._answered(subscription, in_flight, request.error_detail)
            # subscriptions count even if the nonce is stale
            self._resubscribe(subscription, request)

    def _first(self, request: DeltaRequest) -> None:
        subscription = self._subscribe(request.type)
        versions = request.initial_versions
        names = [name for name in request.subscribe if name != WILDCARD]
        subscription.named = bool(request.subscribe)
        if not names or WILDCARD in request.subscribe:
            subscription.owed = not versions
            subscription.start_wildcard(versions)
            subscription.names.update(names)
            names = [name for name in names if name not in versions]
        subscription.want(names, versions)
        self._look_everywhere()

    def _resubscribe(self, subscription: Subscription, request: DeltaRequest) -> None:
        if not request.subscribe and not request.unsubscribe:
            return
        names = [name for name in request.subscribe if name != WILDCARD]
        if WILDCARD in request.subscribe:
            subscription.owed = True
            if not subscription.wildcard or subscription.named:
                subscription.start_wildcard({})
        # subscribing a name does not end a wildcard, even one that the client never named
        subscription.named |= bool(request.subscribe)
        if WILDCARD in request.unsubscribe:
            subscription.end_wildcard()
        subscription.unwant(name for name in request.unsubscribe if name != WILDCARD)
        subscription.want(names)
        self._look_everywhere()

    def _frame(
        self, subscription: Subscription, resources: tuple[Ready, ...], removed: tuple[str, ...]
    ) -> bytes | None:
        nonce, data = self._gateway.delta_frame(
            subscription.type, resources, removed, subscription.last_nonce
        )
        subscription.record_sent(nonce, resources, removed)
        return data
