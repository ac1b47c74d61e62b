"""The deployments of a resource, each with the change that added it, and those that were removed. Pure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from gateways.config_resource import ConfigResource, DeploymentRef

MOST_REMOVED = 100
"""Maximum number of removed deployments kept per resource; the latest are kept."""


@dataclass(frozen=True, slots=True)
class DeploymentChange:
    """`seq`: the gateway's change that added or removed the deployment; `position`: that of its event."""

    seq: int
    position: int
    ref: DeploymentRef


@dataclass(frozen=True, slots=True)
class ResourceDeployments:
    """The deployments of one resource, and those that were removed without a successor; the oldest first."""

    added: tuple[DeploymentChange, ...] = ()
    removed: tuple[DeploymentChange, ...] = ()

    def added_since(self, seq: int, upto: int) -> list[DeploymentChange]:
        return _since(self.added, seq, upto)

    def removed_since(self, seq: int, upto: int) -> list[DeploymentChange]:
        return _since(self.removed, seq, upto)


NO_DEPLOYMENTS = ResourceDeployments()

_seq = attrgetter("seq")


def with_entry(
    before: ResourceDeployments,
    entry: ConfigResource,
    seq: int,
    elsewhere: Callable[[DeploymentRef], DeploymentChange | None] = lambda ref: None,
) -> ResourceDeployments:
    """The deployments of `entry`, which replaced a resource with those of `before`.

    A deployment that is replaced by another one of its API is not removed: it is superseded. Nor is one that
    another resource carries, `elsewhere`: it moved there, and is as old as it was.
    """

    def added_now(ref: DeploymentRef) -> DeploymentChange:
        return elsewhere(ref) or DeploymentChange(seq, entry.position, ref)

    if not (entry.deployments or before.added or before.removed):
        return NO_DEPLOYMENTS
    if not (before.added or before.removed):
        return ResourceDeployments(tuple(sorted([added_now(ref) for ref in entry.deployments], key=_seq)))
    now = {ref.deployment for ref in entry.deployments}
    apis = {ref.api for ref in entry.deployments}
    known = {change.ref.deployment for change in before.added}
    added = [change for change in before.added if change.ref.deployment in now]
    added += [added_now(ref) for ref in entry.deployments if ref.deployment not in known]
    removed = [change for change in before.removed if change.ref.deployment not in now]
    removed += [
        DeploymentChange(seq, entry.position, change.ref)
        for change in before.added
        if change.ref.deployment not in now and change.ref.api not in apis and not elsewhere(change.ref)
    ]
    return ResourceDeployments(tuple(sorted(added, key=_seq)), tuple(removed[-MOST_REMOVED:]))


def without(
    changes: Iterable[DeploymentChange], others: Iterable[DeploymentChange]
) -> tuple[DeploymentChange, ...]:
    """The changes whose deployments are not among those of `others`."""
    known = {other.ref.deployment for other in others}
    return tuple(change for change in changes if change.ref.deployment not in known)


def among(
    changes: Iterable[DeploymentChange], others: Iterable[DeploymentChange]
) -> tuple[DeploymentChange, ...]:
    """The changes whose deployments are among those of `others`."""
    known = {other.ref.deployment for other in others}
    return tuple(change for change in changes if change.ref.deployment in known)


def _since(changes: tuple[DeploymentChange, ...], seq: int, upto: int) -> list[DeploymentChange]:
    """The changes after `seq` up to `upto`, newest first. Takes time proportional to those after `seq`."""

    def newest() -> Iterator[DeploymentChange]:
        for change in reversed(changes):
            if change.seq <= seq:
                return
            if change.seq <= upto:
                yield change

    return list(newest())
