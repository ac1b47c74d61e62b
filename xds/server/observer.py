"""The interface for reports of the discovery server about the proxies it serves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gateways.config_resource import ConfigResource, DeploymentRef

MOST_EXCEPTIONS = 100


@dataclass(frozen=True, slots=True)
class Connection:
    """One aggregated stream of a proxy, or all its streams of one type each: `gateway` is the gateway's
    subject, `node` the proxy's id, `id` the connection's id, unique and greater than those of earlier
    connections to the server; `agent` the proxy's software, such as `envoy 1.40.0`."""

    gateway: str
    node: str
    id: str = ""
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A deployment that a proxy acknowledged, rejected or no longer has, with a resource of `version`.
    `position`: that of the event that added it to the resource, or removed it."""

    ref: DeploymentRef
    version: str
    position: int


@dataclass(frozen=True, slots=True)
class UnacknowledgedDeployment:
    """A deployment that a connection has not acknowledged: `reason`: why it was rejected; None: it is
    pending."""

    deployment: str
    position: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """The connection has acknowledged the effects of events up to position `acknowledged`, except the
    deployments `unacknowledged`, at most MOST_EXCEPTIONS. `listener_refused`: why the proxy rejected its
    listener."""

    acknowledged: int
    unacknowledged: tuple[UnacknowledgedDeployment, ...] = ()
    listener_refused: str = ""


def progress(
    reached: int, unacknowledged: Sequence[UnacknowledgedDeployment], listener_refused: str
) -> Progress:
    """With more than MOST_EXCEPTIONS exceptions, the position is lowered below those left out."""
    if len(unacknowledged) <= MOST_EXCEPTIONS:
        return Progress(reached, tuple(unacknowledged), listener_refused)
    first = sorted(unacknowledged, key=lambda each: each.position)[: MOST_EXCEPTIONS + 1]
    below = first.pop().position
    kept = tuple(each for each in first if each.position < below)
    return Progress(max(0, min(reached, below - 1)), kept, listener_refused)


def together(several: Sequence[Progress]) -> Progress:
    """The progress of a proxy with a stream per type: that of its furthest stream."""
    best = max(several, key=lambda one: (one.acknowledged, -len(one.unacknowledged)))
    refused = next((one.listener_refused for one in several if one.listener_refused), "")
    return replace(best, listener_refused=refused)


class Observer(Protocol):
    """Called on the event loop while streams are served: implementations only record the call and return.

    The `deployments` of `entries` identify the deployments concerned. `reason` is redacted.
    """

    def connected(self, connection: Connection) -> None:
        """A proxy connected; the resources that it has are not known yet."""
        ...

    def disconnected(self, connection: Connection) -> None: ...

    def sent(self, connection: Connection, entries: Sequence[ConfigResource]) -> None:
        """The entries were sent to the proxy: for the first time, or again after it rejected a response that
        also had other entries."""
        ...

    def acknowledged(
        self, connection: Connection, entries: Sequence[ConfigResource], came: Sequence[Delivered]
    ) -> None:
        """The proxy runs these entries: it accepted them, reported their versions when it reconnected, or ran
        this version already when the deployments of the entry changed. `came`: deployments that are new to
        the proxy and changed since it connected; earlier changes are part of its progress."""
        ...

    def rejected(
        self,
        connection: Connection,
        entries: Sequence[ConfigResource],
        reason: str,
        deployments: Sequence[Delivered],
    ) -> None:
        """The proxy does not run these entries and is not offered these versions again. `deployments`: those
        that it lacks because it rejected them itself; empty if the entry is withheld because another proxy
        rejected it."""
        ...

    def withdrawn(
        self, connection: Connection, entries: Sequence[ConfigResource], gone: Sequence[Delivered]
    ) -> None:
        """The proxy no longer has these deployments: it acknowledged the removal, or never had them.

        `entries` are the removals (their body is empty); a deployment can also leave a resource that stays.
        """
        ...

    def progressed(self, connection: Connection, progress: Progress) -> None:
        """The proxy has caught up after it connected, or the rejection of its listener changed."""
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
