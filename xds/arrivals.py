"""Which deployments came into a resource, and left it, with which change. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateways.config_resource import ConfigResource, DeploymentRef

DEPARTURES = 100
"""How many deployments that left a resource are known, the last ones."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """`seq` is the gateway's change by which the deployment came (or left), `position` that of the event."""

    seq: int
    position: int
    ref: DeploymentRef


@dataclass(frozen=True, slots=True)
class Carried:
    """The deployments of one resource, and those that left it without a successor; oldest first."""

    here: tuple[Arrival, ...] = ()
    left: tuple[Arrival, ...] = ()

    def here_since(self, seq: int, upto: int) -> list[Arrival]:
        return _since(self.here, seq, upto)

    def left_since(self, seq: int, upto: int) -> list[Arrival]:
        return _since(self.left, seq, upto)


NOTHING_CARRIED = Carried()


def carried(before: Carried, entry: ConfigResource, seq: int) -> Carried:
    """The deployments of `entry`, which replaced a resource with those of `before`.

    A deployment whose API is carried on by another one has not left: it is superseded.
    """
    if not (entry.deployments or before.here or before.left):
        return NOTHING_CARRIED
    now = {ref.deployment for ref in entry.deployments}
    apis = {ref.api for ref in entry.deployments}
    known = {arrival.ref.deployment for arrival in before.here}
    here = [arrival for arrival in before.here if arrival.ref.deployment in now]
    here += [Arrival(seq, entry.position, ref) for ref in entry.deployments if ref.deployment not in known]
    left = [arrival for arrival in before.left if arrival.ref.deployment not in now]
    left += [
        Arrival(seq, entry.position, arrival.ref)
        for arrival in before.here
        if arrival.ref.deployment not in now and arrival.ref.api not in apis
    ]
    return Carried(tuple(here), tuple(left[-DEPARTURES:]))


def without(arrivals: Iterable[Arrival], others: Iterable[Arrival]) -> tuple[Arrival, ...]:
    """Those whose deployments are not among the others'."""
    known = {other.ref.deployment for other in others}
    return tuple(arrival for arrival in arrivals if arrival.ref.deployment not in known)


def among(arrivals: Iterable[Arrival], others: Iterable[Arrival]) -> tuple[Arrival, ...]:
    """Those whose deployments are among the others'."""
    known = {other.ref.deployment for other in others}
    return tuple(arrival for arrival in arrivals if arrival.ref.deployment in known)


def _since(arrivals: tuple[Arrival, ...], seq: int, upto: int) -> list[Arrival]:
    """Those after change `seq`, newest first: costs as much as there are."""

    def newest() -> Iterator[Arrival]:
        for arrival in reversed(arrivals):
            if arrival.seq <= seq:
                return
            if arrival.seq <= upto:
                yield arrival

    return list(newest())
