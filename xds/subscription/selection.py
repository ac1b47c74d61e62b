"""The choice of resources to send next; others wait for the resources that they require."""

from collections.abc import Callable, Iterable
from enum import Enum, auto

from gateways.config_resource import ConfigResource
from xds.server.wire import Ready
from xds.subscription import NOTHING, Subscription
from xds.subscription.rejections import UNKNOWN


class Need(Enum):
    """The state of a resource's requirements on a stream."""

    MET = auto()
    COMING = auto()
    MISSING = auto()
    REJECTED = auto()


def choose(
    subscription: Subscription, need: Callable[[ConfigResource], Need]
) -> tuple[list[Ready], list[str], bool]:
    """Resources to send, names to answer as absent, and whether more will follow."""
    subscription.first_sync.chunk_next = True
    while subscription.trials:
        resources, absent, _ = _sift(subscription, subscription.trials.pop(), need)
        if resources or absent:
            return resources, absent, True
    names = tuple(subscription.pending) if subscription.fresh is None else dict.fromkeys(subscription.fresh)
    subscription.fresh = []
    return _sift(subscription, names, need)


def _sift(
    subscription: Subscription, names: Iterable[str], need: Callable[[ConfigResource], Need]
) -> tuple[list[Ready], list[str], bool]:
    resources: list[Ready] = []
    absent: list[str] = []
    coming = False
    for name in names:
        client_seq = subscription.pending.get(name)
        if client_seq is None:
            continue
        stored = subscription.stored(name)
        if stored:
            subscription.report_quarantine(stored, client_seq)
        offered = stored.offered if stored else None
        if offered is None or stored is None:
            keeps = stored is not None and stored.current is not None and not stored.recreated
            _sift_absent(subscription, name, client_seq, keeps, absent)
            continue
        subscription.leaving.discard(name)
        rejection = subscription.rejections.reason(offered)
        if rejection is not None:
            if stored.reason is None:
                subscription.facts.rejected(offered, rejection, client_seq)
            if subscription.gateway.reject(stored, offered, rejection, subscription.facts.connection):
                # all other proxies rejected it, or it was removed and added again unchanged
                subscription.gateway.wake()
            instead = subscription.rejections.last_good(stored, client_seq)
            state = need(instead.entry) if instead else Need.MISSING
            if instead and state is Need.MET:
                resources.append(instead)
            elif state is Need.COMING:
                coming = True
            else:
                if name in subscription.asked and client_seq == NOTHING:
                    absent.append(name)
                subscription.settle(name)
                if client_seq != NOTHING:
                    subscription.rejections.keeping[name] = client_seq
        elif offered.stamp <= client_seq and name not in subscription.asked:
            subscription.settle(name)
        else:
            state = need(offered.entry)
            if state is Need.MET:
                resources.append(offered)
            elif state is Need.COMING:
                coming = True
            elif state is Need.REJECTED:
                instead = subscription.rejections.last_good(stored, client_seq)
                if instead and need(instead.entry) is Need.MET:
                    resources.append(instead)
                elif name in subscription.asked and client_seq == NOTHING:
                    subscription.asked.discard(name)
                    absent.append(name)
    return resources, absent, coming


def _sift_absent(
    subscription: Subscription, name: str, client_seq: int, keeps: bool, absent: list[str]
) -> None:
    if client_seq == NOTHING:
        if name in subscription.asked:
            absent.append(name)
        subscription.settle(name)
        if not keeps:
            subscription.facts.withdrawn([(subscription.stored(name), client_seq)])
    elif keeps:
        # quarantined, and the last good version is unknown: the client keeps its version
        subscription.settle(name)
        if client_seq == UNKNOWN:
            subscription.rejections.keeping[name] = client_seq
    else:
        subscription.leaving.add(name)
