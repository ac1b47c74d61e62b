"""One gateway's resources, the versions that its proxies rejected, and the streams that wait for changes.

A version that a proxy rejected is withheld from that proxy by its stream; when all connected proxies
rejected it, it is quarantined here.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from gateways.config_resource import PRIVATE, ConfigResource, DeploymentRef, content_version
from xds.server.frames import Content, Frames
from xds.server.observer import Connection
from xds.server.streams.resource_deployments import (
    NO_DEPLOYMENTS,
    DeploymentChange,
    ResourceDeployments,
    with_entry,
)
from xds.server.wire import Ready, delta_response, state_response
from xds.store.backlog import LargeChunks
from xds.store.rejection import PendingRejection, Viewer
from xds.store.resource import NOBODY, StoredResource
from xds.store.table import TOMBSTONES, Table
from xds.types import ROUTES, ResourceKey


class Gateway:
    """One gateway's resources, and the streams that wait for changes of them."""

    def __init__(
        self, subject: str, reached: Callable[[str], int], frames: Frames, large_chunks: LargeChunks
    ) -> None:
        self.subject = subject
        self.large_chunks = large_chunks
        self._frames = frames
        self.seq = 0
        self._reached = reached
        self._position = 0
        self.tables: dict[str, Table] = {}
        self._requirers: dict[ResourceKey, set[ResourceKey]] = {}
        # By deployment: the routes that carry it, and the change that added it.
        self._carried: dict[str, tuple[StoredResource, DeploymentChange]] = {}
        self._quarantined: dict[ResourceKey, StoredResource] = {}
        self._pending_rejections: dict[ResourceKey, PendingRejection] = {}
        self._watchers: dict[Callable[[], None], Viewer] = {}
        self._nonce = 0

    # -- queries by streams

    @property
    def position(self) -> int:
        """The position up to which events have been applied."""
        return max(self._position, self._reached(self.subject))

    def table(self, type: str) -> Table:
        table = self.tables.get(type)
        if table is None:
            table = self.tables[type] = Table()
        return table

    def stored(self, key: ResourceKey) -> StoredResource | None:
        table = self.tables.get(key[0])
        return table.stored_resources.get(key[1]) if table else None

    def requirers(self, key: ResourceKey) -> set[ResourceKey]:
        """The resources whose latest version requires this one."""
        return self._requirers.get(key, set())

    def quarantined(self) -> list[tuple[ConfigResource, str]]:
        return [
            (stored.current.entry, stored.reason)
            for stored in self._quarantined.values()
            if stored.current is not None and stored.reason is not None
        ]

    def watch(self, changed: Callable[[], None], viewer: Viewer) -> None:
        """Calls `changed` after each change, until `unwatch`."""
        self._watchers[changed] = viewer

    def unwatch(self, changed: Callable[[], None]) -> None:
        """Removes a stream, and quarantines versions that only its proxy might still have accepted."""
        viewer = self._watchers.pop(changed, None)
        if viewer is None:
            return
        if len(self._watchers) < 2:
            self._frames.forget(self.subject)
        for stored in (*self._quarantined.values(), *(self.stored(key) for key in self._pending_rejections)):
            if stored is not None:
                stored.rejected_by -= {viewer.connection}
        undecided = [stored for key in self._pending_rejections if (stored := self.stored(key))]
        # Quarantining one may quarantine resources that require it.
        quarantined = [
            s for s in undecided if s.key in self._pending_rejections and self._quarantine_unless_awaited(s)
        ]
        if quarantined:
            self.wake()

    def next_nonce(self) -> int:
        self._nonce += 1
        return self._nonce

    def delta_frame(
        self, type: str, resources: tuple[Ready, ...], removed: tuple[str, ...], after: int
    ) -> tuple[int, bytes]:
        """Nonce and bytes of a delta response, shared with other streams that send the same.

        The nonce is above `after`, so that it is used once per stream.
        """
        return self._frames.get(
            Content(self.subject, "delta", type, resources, removed),
            after,
            self.next_nonce,
            lambda nonce: delta_response(type, str(nonce), resources, removed, str(self.seq)),
            shared=self._shares,
        )

    def state_frame(self, type: str, resources: tuple[Ready, ...], after: int) -> tuple[int, bytes]:
        """Nonce and bytes of a state-of-the-world response, shared like those of `delta_frame`."""

        def encode(nonce: int) -> bytes:
            names = "\n".join(f"{r.entry.name} {r.version}" for r in resources)
            return state_response(type, str(nonce), resources, content_version(names.encode()))

        return self._frames.get(
            Content(self.subject, "state", type, resources),
            after,
            self.next_nonce,
            encode,
            shared=self._shares,
        )

    @property
    def _shares(self) -> bool:
        """Whether responses are cached: not for a single stream, whose first sync has everything."""
        return len(self._watchers) != 1

    # -- changes

    def apply(self, entry: ConfigResource) -> bool:
        """Applies a change. Returns whether streams must check the store again; the caller wakes them."""
        self._position = max(self._position, entry.position)
        stored = self.stored((entry.type, entry.name))
        if not entry.body:
            return self._remove(stored, entry)
        if stored is None:
            stored = StoredResource(entry.type, entry.name, created=self.seq + 1)
        elif stored.current and stored.current.version == entry.version:
            return self._redeploy(stored, stored.current, entry)
        elif stored.current is None and stored.removal is not None:
            self.table(entry.type).removed -= 1
        self._require(stored, stored.current, entry)
        self._forget_rejections(stored)
        self._touch(stored)
        stored.changed = stored.seq
        before = stored.current.deployments if stored.current else NO_DEPLOYMENTS
        self._count(stored, before.added, entry.deployments)
        removed, stored.removal = stored.removal is not None, None
        if stored.current is not stored.good:
            stored.before = stored.current
        if stored.good and stored.good.version == entry.version:
            stored.current = stored.good
            stored.current.entry, stored.current.stamp = entry, stored.seq
        else:
            if removed and not stored.pins:
                stored.good, stored.older, stored.recreated = None, None, True
            stored.current = Ready(entry, stored.seq)
        stored.current.deployments, stored.removed_deployments = self._carry(stored, before, entry), ()
        self._retry_requirers(stored)
        self._inherit_rejection(stored)
        return True

    def proved(self, stored: StoredResource, accepted: Ready) -> bool:
        """Records that a proxy runs `accepted`. Returns whether streams must check the store again."""
        if stored.good is accepted:
            return False
        if stored.current is accepted:
            stored.older = stored.good
            stored.good, stored.before, stored.recreated, stored.late = accepted, None, False, False
            quarantined = stored.reason is not None
            self._forget_rejections(stored)
            if not quarantined:
                return False
            # rejected by some proxies, accepted by another: offered again, but not to those that rejected it
            self._touch(stored)
            accepted.stamp = stored.seq
            self._retry_requirers(stored)
            return True
        if not stored.recreated and (stored.good is None or stored.good.stamp < accepted.stamp):
            visible = stored.reason is not None or (stored.current is None and bool(stored.pins))
            self._release_pins(stored)
            stored.good, stored.older = accepted, stored.good
            stored.late = not visible and accepted.stamp < stored.withheld
            if visible:
                self._pin(stored)
                self._touch(stored)
                accepted.stamp = stored.seq
                return True
        return False

    def reject(self, stored: StoredResource, rejected: Ready, reason: str, connection: Connection) -> bool:
        """Records that a proxy rejected `rejected`, and quarantines it if no connected proxy runs it or may
        still accept it. Returns whether it is quarantined."""
        if stored.current is not rejected or stored.good is rejected:
            return False
        stored.rejected_by |= {connection}
        if stored.reason is not None:
            return True
        self._pending_rejections.setdefault(stored.key, PendingRejection(reason))
        return self._quarantine_unless_awaited(stored)

    def rejected_by(self, stored: StoredResource, connection: Connection) -> bool:
        """Whether the quarantined version, or a resource it requires, was rejected on this connection."""
        while connection not in stored.rejected_by:
            required = self.stored(stored.because) if stored.because else None
            if required is None:
                return False
            stored = required
        return True

    def reopen(self, type: str, connection: Connection, names: Iterable[str] | None = None) -> None:
        """Ends quarantines upon a new subscription, of a type or names: its proxy may accept the versions."""
        found = [
            stored
            for stored in self._quarantined.values()
            if stored.type == type and stored.because is None and connection not in stored.rejected_by
        ]
        wanted = None if names is None else set(names)
        for stored in found:
            if wanted is None or stored.name in wanted:
                self._pending_rejections[stored.key] = PendingRejection(stored.reason or "")
                self._offer(stored)
        if found:
            self.wake()

    def retry(self, key: ResourceKey) -> None:
        """Offers a rejected version once more."""
        stored = self.stored(key)
        if stored is not None and stored.current is not None:
            quarantined = stored.reason is not None
            self._pending_rejections.pop(key, None)
            stored.rejected_by = NOBODY
            if quarantined:
                self._offer(stored)

    def wake(self) -> None:
        for changed in tuple(self._watchers):
            changed()

    # -- internals

    def _touch(self, stored: StoredResource) -> None:
        self.seq += 1
        stored.seq = self.seq
        table = self.table(stored.type)
        table.last = self.seq
        table.stored_resources.pop(stored.name, None)
        table.stored_resources[stored.name] = stored

    def _remove(self, stored: StoredResource | None, entry: ConfigResource) -> bool:
        table = self.table(entry.type)
        if stored is None:
            stored = StoredResource(entry.type, entry.name, created=self.seq + 1)
        if stored.removal is None:
            table.removed += 1
        before = stored.current
        if not entry.deployments:
            last = before.entry if before else stored.removal
            entry = replace(entry, deployments=last.deployments) if last else entry
        offered = stored.offered
        self._require(stored, before, None)
        self._forget_rejections(stored)
        stored.current, stored.removal, stored.recreated = None, entry, False
        self._touch(stored)
        last = before.deployments if before else ResourceDeployments(removed=stored.removed_deployments)
        stored.removed_deployments = self._carry(stored, last, replace(entry, deployments=())).removed
        self._count(stored, last.added, ())
        if stored.offered is not None and stored.offered is not offered:
            stored.offered.stamp = stored.seq
        self._retry_requirers(stored)
        if table.removed > TOMBSTONES:
            viewers = self._watchers.values()
            table.prune(min((viewer.cursor(entry.type) for viewer in viewers), default=self.seq))
        return True

    def _redeploy(self, stored: StoredResource, current: Ready, entry: ConfigResource) -> bool:
        before = current.entry
        if entry.requires != before.requires:
            self._require(stored, current, entry)
        current.entry = entry
        if entry.deployments == before.deployments and entry.requires == before.requires:
            return False
        self._touch(stored)
        self._count(stored, before.deployments, entry.deployments)
        current.deployments = self._carry(stored, current.deployments, entry)
        return True

    def _count(self, stored: StoredResource, before: Sequence[object], after: Sequence[object]) -> None:
        if not stored.type.startswith(PRIVATE):
            self.table(stored.type).carrying += bool(after) - bool(before)

    def _carry(
        self, stored: StoredResource, before: ResourceDeployments, entry: ConfigResource
    ) -> ResourceDeployments:
        """The deployments of a resource that is `entry` now; one may have moved here or elsewhere."""

        def elsewhere(ref: DeploymentRef) -> DeploymentChange | None:
            carrier, change = self._carried.get(ref.deployment, (stored, None))
            return change if carrier is not stored else None

        if stored.type != ROUTES:
            return with_entry(before, entry, stored.seq)
        now = with_entry(before, entry, stored.seq, elsewhere)
        for change in before.added:
            if self._carried.get(change.ref.deployment, (None,))[0] is stored:
                del self._carried[change.ref.deployment]
        self._carried.update((change.ref.deployment, (stored, change)) for change in now.added)
        return now

    def _require(self, stored: StoredResource, before: Ready | None, after: ConfigResource | None) -> None:
        old, new = before.entry.requires if before else (), after.requires if after else ()
        if old:
            stored.remember(old)
        # A split unit requires all its parts, and only a few of them change.
        for key in set(old).difference(new):
            requirers = self._requirers.get(key)
            if requirers:
                requirers.discard(stored.key)
                if not requirers:
                    del self._requirers[key]
        for key in set(new).difference(old):
            self._requirers.setdefault(key, set()).add(stored.key)

    def _quarantine(self, stored: StoredResource, reason: str, because: ResourceKey | None) -> None:
        stored.reason, stored.because = reason, because
        self._pending_rejections.pop(stored.key, None)
        self._quarantined[stored.key] = stored
        self._touch(stored)
        if stored.good and stored.late:
            stored.good.stamp, stored.late = stored.seq, False
        stored.withheld = stored.seq
        self._pin(stored)
        for key in tuple(self.requirers(stored.key)):
            requirer = self.stored(key)
            if requirer:
                self._inherit_rejection(requirer)

    def _inherit_rejection(self, stored: StoredResource) -> None:
        """Quarantines a resource that requires a quarantined one, unless it was accepted before."""
        if not self._quarantined or stored.current is None or stored.reason is not None:
            return
        if stored.current is stored.good:
            return
        for key in stored.current.entry.requires:
            required = self.stored(key)
            if required and required.reason is not None and required is not stored:
                origin = required.reason if required.because else f"requires {key[1]}: {required.reason}"
                self._quarantine(stored, origin, key)
                return

    def _retry_requirers(self, stored: StoredResource) -> None:
        """Offers again the resources that were quarantined because of this one."""
        if not self._quarantined:
            return
        for key in tuple(self.requirers(stored.key)):
            requirer = self.stored(key)
            if requirer and requirer.because == stored.key and requirer.current:
                self._release(requirer)
                self._touch(requirer)
                requirer.current.stamp = requirer.seq
                self._retry_requirers(requirer)
                self._inherit_rejection(requirer)

    def _quarantine_unless_awaited(self, stored: StoredResource) -> bool:
        """Quarantines a rejected version unless some proxy may still accept it. Returns whether it did."""
        pending = self._pending_rejections[stored.key]
        version = stored.current.version if stored.current else ""
        awaited = self._watchers.get(pending.awaited) if pending.awaited else None
        if awaited is not None and awaited.may_take(stored.key, version):
            return False
        pending.awaited = next(
            (c for c, v in self._watchers.items() if v.may_take(stored.key, version)), None
        )
        if pending.awaited is None:
            viewers = self._watchers.values()
            rejected = [v.connection for v in viewers if v.may_take(stored.key, version) is False]
            stored.rejected_by |= frozenset(rejected)
            self._quarantine(stored, pending.reason, None)
        return pending.awaited is None

    def _offer(self, stored: StoredResource) -> None:
        """Ends the quarantine of the latest version, and of the resources that require it."""
        self._release(stored)
        self._touch(stored)
        if stored.current:
            stored.current.stamp = stored.seq
        self._retry_requirers(stored)

    def _forget_rejections(self, stored: StoredResource) -> None:
        self._release(stored)
        self._pending_rejections.pop(stored.key, None)
        stored.rejected_by = NOBODY

    def _release(self, stored: StoredResource) -> None:
        """Ends a quarantine."""
        if stored.reason is not None:
            self._release_pins(stored)
            stored.reason = stored.because = None
            del self._quarantined[stored.key]

    def _pin(self, stored: StoredResource) -> None:
        """Keeps resources that the last good version of a quarantined one requires, even removed ones."""
        for key in stored.good.entry.requires if stored.good else ():
            required = self.stored(key)
            if required is None:
                continue
            revived = required.gone and required.good is not None
            required.pins |= {stored.key}
            if revived and required.good:
                self._touch(required)
                required.good.stamp = required.seq

    def _release_pins(self, stored: StoredResource) -> None:
        for key in stored.good.entry.requires if stored.good else ():
            required = self.stored(key)
            if required and stored.key in required.pins:
                required.pins -= {stored.key}
                if required.gone:
                    self._touch(required)
