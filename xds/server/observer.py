"""The interface for reports of the discovery server about the proxies it serves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gateways.config_resource import ConfigResource, DeploymentRef

MOST_EXCEPTIONS = 100


@dataclass(frozen=True, slots=True)
class Connection:
    """One aggregated stream of a proxy, or all its streams of one type each: `gateway` is the gateway's
    subject, `node` the proxy's id, `id` the connection's, never used again and greater than those of earlier
    connections to the server; `agent` is what the proxy runs, such as `envoy 1.40.0`."""

    gateway: str
    node: str
    id: str = ""
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A deployment that a proxy received, rejected or lost, with a resource of `version`. `position` is that
    of the event that added the deployment to the resource, or removed it."""

    ref: DeploymentRef
    version: str
    position: int


@dataclass(frozen=True, slots=True)
class UnacknowledgedDeployment:
    """A deployment that a connection has not acknowledged: `reason` says why it was rejected, None that it
    is pending."""

    deployment: str
    position: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """The connection has acknowledged what events up to position `acknowledged` caused, except
    `unacknowledged`,
    at most MOST_EXCEPTIONS. `listener_refused` is why the proxy rejected its listener."""

    acknowledged: int
    unacknowledged: tuple[UnacknowledgedDeployment, ...] = ()
    listener_refused: str = ""


def progress(
    reached: int, unacknowledged: Sequence[UnacknowledgedDeployment], listener_refused: str
) -> Progress:
    """When there are too many exceptions, the position is lowered below those that are left out."""
    if len(unacknowledged) <= MOST_EXCEPTIONS:
        return Progress(reached, tuple(unacknowledged), listener_refused)
    first = sorted(unacknowledged, key=lambda each: each.position)[: MOST_EXCEPTIONS + 1]
    below = first.pop().position
    kept = tuple(each for each in first if each.position < below)
    return Progress(max(0, min(reached, below - 1)), kept, listener_refused)


def together(several: Sequence[Progress]) -> Progress:
    """The progress of a proxy with a stream for each type: that of the stream which knows most of it."""
    best = max(several, key=lambda one: (one.acknowledged, -len(one.unacknowledged)))
    refused = next((one.listener_refused for one in several if one.listener_refused), "")
    return replace(best, listener_refused=refused)


class Observer(Protocol):
    """Called on the event loop while streams are served: implementations only record the call and return.

    `entries` carry their `deployments`, which map back to deployments. `reason` is redacted.
    """

    def connected(self, connection: Connection) -> None:
        """A proxy connected; the resources that it has are not known yet."""
        ...

    def disconnected(self, connection: Connection) -> None: ...

    def sent(self, connection: Connection, entries: Sequence[ConfigResource]) -> None:
        """These were sent to the proxy; also when they are sent again after a rejection together with another
        one."""
        ...

    def acknowledged(
        self, connection: Connection, entries: Sequence[ConfigResource], came: Sequence[Delivered]
    ) -> None:
        """The proxy runs these: it accepted them, reported their versions when it reconnected, or ran this
        very version before the entry got other deployments. `came` are the deployments that are new to it and
        changed since it connected: earlier changes are part of its progress."""
        ...

    def rejected(
        self,
        connection: Connection,
        entries: Sequence[ConfigResource],
        reason: str,
        deployments: Sequence[Delivered],
    ) -> None:
        """The proxy does not run these and will not be offered these versions again. `deployments` are those
        that it does not have because it rejected them itself: none when the entry is withheld from it, since
        another proxy rejected it."""
        ...

    def withdrawn(
        self, connection: Connection, entries: Sequence[ConfigResource], gone: Sequence[Delivered]
    ) -> None:
        """The proxy no longer has these deployments: it acknowledged the removal, or never had them.

        `entries` are the removals (their body is empty); a deployment can also leave a resource that stays.
        """
        ...

    def progressed(self, connection: Connection, progress: Progress) -> None:
        """The proxy has caught up after it connected, or its answer about its listener changed."""
        ...


class NullObserver:
    """An observer that records nothing."""

    def connected(self, connection: Connection) -> None: ...

    def disconnected(self, connection: Connection) -> None: ...

    def sent(self, connection: Connection, entries: Sequence[ConfigResource]) -> None: ...

    def acknowledged(
        self, connection: Connection, entries: Sequence[ConfigResource], came: Sequence[Delivered]
    ) -> None: ...

    def rejected(
        self,
        connection: Connection,
        entries: Sequence[ConfigResource],
        reason: str,
        deployments: Sequence[Delivered],
    ) -> None: ...

    def withdrawn(
        self, connection: Connection, entries: Sequence[ConfigResource], gone: Sequence[Delivered]
    ) -> None: ...

    def progressed(self, connection: Connection, progress: Progress) -> None: ...
