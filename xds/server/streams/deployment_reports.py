"""Reports of one stream about one resource type: deployments that were accepted, rejected or removed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from gateways.config_resource import ConfigResource
from xds.server.observer import Connection, Delivered, Observer, UnacknowledgedDeployment
from xds.server.streams.resource_deployments import DeploymentChange, among, without
from xds.server.wire import Ready
from xds.store.resource import StoredResource

LATEST = 1 << 62


@dataclass(frozen=True, slots=True)
class Rejected:
    """`unacknowledged`: deployments that the proxy lacks because it rejected `entry`. `entry` None: the
    resource is being retried. `withheld`: the entry was not sent, since another proxy rejected it."""

    entry: ConfigResource | None
    reason: str
    unacknowledged: tuple[DeploymentChange, ...]
    withheld: bool = False


@dataclass(slots=True, eq=False)
class DeploymentReports:
    """`began`: the gateway's last change before the stream; changes up to it are reported as the stream's
    progress, not one by one."""

    connection: Connection
    observer: Observer
    began: int
    rejections: dict[str, Rejected] = field(default_factory=dict[str, Rejected])

    def acknowledged(self, resources: Sequence[tuple[Ready, int]], upto: int) -> None:
        """Reports resources that the proxy runs, each with the change up to which the proxy had acknowledged
        it. Changes of deployments after `upto` are reported later."""
        came: list[Delivered] = []
        gone: list[Delivered] = []
        for resource, client_seq in resources:
            since, deployments = max(client_seq, self.began), resource.deployments
            added = deployments.added_since(since, upto)
            rejected = self.rejections.get(resource.entry.name)
            if rejected and rejected.unacknowledged:
                late = among(rejected.unacknowledged, deployments.added)
                added += without(late, added)
                unacknowledged = without(rejected.unacknowledged, late)
                self.rejections[resource.entry.name] = replace(rejected, unacknowledged=unacknowledged)
            came += _delivered(added, resource.version)
            gone += _delivered(deployments.removed_since(since, upto), resource.version)
        entries = [resource.entry for resource, _ in resources]
        self.observer.acknowledged(self.connection, entries, came)
        if gone:
            self.observer.withdrawn(self.connection, (), gone)

    def quarantined(self, stored: StoredResource, client_seq: int, good: Ready | None, *, own: bool) -> None:
        """Reports once that the latest version of a resource is not offered to the proxy: it has `good`, the
        last good one, if any. `own`: the proxy itself rejected it, or a resource that it requires."""
        if stored.current and stored.reason is not None:
            added = stored.current.deployments.added
            if good:
                unacknowledged = without(added, good.deployments.added)
            else:
                unacknowledged = (
                    added
                    if stored.recreated
                    else tuple(stored.current.deployments.added_since(client_seq, LATEST))
                )
            self._reject(stored.current, stored.reason, unacknowledged, withheld=not own)

    def rejected(self, resource: Ready, reason: str, client_seq: int) -> None:
        """Reports once that the proxy does not get this entry."""
        self._reject(resource, reason, tuple(resource.deployments.added_since(client_seq, LATEST)))

    def _reject(
        self,
        resource: Ready,
        reason: str,
        unacknowledged: tuple[DeploymentChange, ...],
        *,
        withheld: bool = False,
    ) -> None:
        entry = resource.entry
        known = self.rejections.get(entry.name)
        if known and known.entry is entry and (withheld or not known.withheld):
            return
        if known:
            unacknowledged += without(among(known.unacknowledged, resource.deployments.added), unacknowledged)
        why = f"withheld: another node rejected it: {reason}" if withheld else reason
        self.rejections[entry.name] = Rejected(entry, why, unacknowledged, withheld)
        rejected = () if withheld else _delivered(unacknowledged, entry.version)
        self.observer.rejected(self.connection, [entry], reason, rejected)

    def removal_rejected(self, removal: ConfigResource, reason: str) -> None:
        """Reports once that the proxy rejected a response with this removal: it still has the resource."""
        known = self.rejections.get(removal.name)
        if known is None or known.entry is not removal:
            self.rejections[removal.name] = Rejected(removal, reason, ())
            self.observer.rejected(self.connection, [removal], reason, ())

    def withdrawn(self, stored_resources: Iterable[tuple[StoredResource | None, int]]) -> None:
        """Reports that the proxy no longer has the deployments of removed resources, each given with the
        change up to which the proxy had acknowledged it."""
        entries: list[ConfigResource] = []
        gone: list[Delivered] = []
        for stored, client_seq in stored_resources:
            if stored and stored.gone and (removal := stored.removal):
                entries.append(removal)
                gone += [Delivered(ref, "", removal.position) for ref in removal.deployments]
                known = {ref.deployment for ref in removal.deployments}
                gone += [
                    Delivered(removed.ref, "", removed.position)
                    for removed in stored.removed_deployments
                    if removed.seq > max(client_seq, self.began) and removed.ref.deployment not in known
                ]
        if entries:
            self.observer.withdrawn(self.connection, entries, gone)

    def try_again(self, name: str) -> None:
        """Has the next rejection of `name` reported, even if its version is the same."""
        if rejected := self.rejections.get(name):
            self.rejections[name] = replace(rejected, entry=None)

    def forget(self, name: str) -> None:
        self.rejections.pop(name, None)

    def unacknowledged(self, name: str, stored: StoredResource | None) -> Iterator[UnacknowledgedDeployment]:
        """The deployments of a resource that the proxy does not have because it, or another proxy, rejected
        them. Withheld ones count as pending."""
        rejected = self.rejections.get(name)
        if rejected and stored and stored.current:
            for change in among(rejected.unacknowledged, stored.current.deployments.added):
                reason = None if rejected.withheld else rejected.reason
                yield UnacknowledgedDeployment(change.ref.deployment, change.position, reason)


def pending(stored: StoredResource | None, client_seq: int) -> Iterator[UnacknowledgedDeployment]:
    """The deployments of a resource that a proxy with all changes up to `client_seq` has not acknowledged."""
    if stored is None:
        return
    offered = stored.offered or stored.current
    added = offered.deployments.added if offered else ()
    removed = offered.deployments.removed if offered else stored.removed_deployments
    for change in (*added, *(removed if client_seq >= 0 else ())):
        if change.seq > client_seq:
            yield UnacknowledgedDeployment(change.ref.deployment, change.position)


def _delivered(changes: Iterable[DeploymentChange], version: str) -> list[Delivered]:
    return [Delivered(change.ref, version, change.position) for change in changes]
