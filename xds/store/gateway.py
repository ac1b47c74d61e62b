"""One gateway's resources, the versions that its proxies rejected, and the streams that wait for changes.

A version that a proxy rejected is withheld from that proxy by its stream; when all connected proxies
rejected it, it is quarantined here.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gateways.config_resource import PRIVATE, ConfigResource, content_version
from xds.arrivals import NOTHING_CARRIED, Carried, carried
from xds.frames import Content, Frames
from xds.observer import Connection
from xds.slot import Key, Slot
from xds.store.table import TOMBSTONES, Table
from xds.wire import Ready, delta_response, ready, state_response


class Viewer(Protocol):
    """A stream, as far as the store knows it."""

    @property
    def connection(self) -> Connection: ...

    def cursor(self, type: str) -> int:
        """How far the stream has seen the changes of a type."""
        ...

    def may_take(self, key: Key, version: str) -> bool | None:
        """Whether the proxy did not reject this version of a resource; None: the stream does not subscribe
        to it."""
        ...


@dataclass(slots=True, eq=False)
class _Doubt:
    """Why the first proxy rejected a version that no proxy is known to run, and a stream whose proxy may
    still take it."""

    reason: str
    awaited: Callable[[], None] | None = None


class Gateway:
    """One gateway's resources, and the streams that wait for changes of them."""

    def __init__(self, subject: str, reached: Callable[[str], int], frames: Frames) -> None:
        self.subject = subject
        self._frames = frames
        self.seq = 0
        self._reached = reached
        self._position = 0
        self.tables: dict[str, Table] = {}
        self._requirers: dict[Key, set[Key]] = {}
        self._quarantined: dict[Key, Slot] = {}
        self._doubted: dict[Key, _Doubt] = {}
        self._watchers: dict[Callable[[], None], Viewer] = {}
        self._nonce = 0

    # -- what streams ask

    @property
    def position(self) -> int:
        """Up to this position the events' effects are here."""
        return max(self._position, self._reached(self.subject))

    def table(self, type: str) -> Table:
        table = self.tables.get(type)
        if table is None:
            table = self.tables[type] = Table()
        return table

    def slot(self, key: Key) -> Slot | None:
        table = self.tables.get(key[0])
        return table.slots.get(key[1]) if table else None

    def requirers(self, key: Key) -> set[Key]:
        """The resources whose latest version requires this one."""
        return self._requirers.get(key, set())

    def quarantined(self) -> list[tuple[ConfigResource, str]]:
        return [
            (slot.current.entry, slot.reason)
            for slot in self._quarantined.values()
            if slot.current is not None and slot.reason is not None
        ]

    def watch(self, changed: Callable[[], None], viewer: Viewer) -> None:
        """Calls `changed` after each change, until `unwatch`."""
        self._watchers[changed] = viewer

    def unwatch(self, changed: Callable[[], None]) -> None:
        """What all others rejected needs not wait for this one."""
        viewer = self._watchers.pop(changed, None)
        if viewer is None:
            return
        for slot in (*self._quarantined.values(), *(self.slot(key) for key in self._doubted)):
            if slot is not None:
                slot.rejected_by -= {viewer.connection}
        doubted = [slot for key in self._doubted if (slot := self.slot(key))]
        # Quarantining one may quarantine what requires it.
        quarantined = [s for s in doubted if s.key in self._doubted and self._quarantine_unless_awaited(s)]
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
        )

    def state_frame(self, type: str, resources: tuple[Ready, ...], after: int) -> tuple[int, bytes]:
        """Nonce and bytes of a state-of-the-world response, shared likewise."""

        def encode(nonce: int) -> bytes:
            names = "\n".join(f"{r.entry.name} {r.version}" for r in resources)
            return state_response(type, str(nonce), resources, content_version(names.encode()))

        return self._frames.get(
            Content(self.subject, "state", type, resources), after, self.next_nonce, encode
        )

    # -- changes

    def apply(self, entry: ConfigResource) -> bool:
        """Whether streams have to look; the caller wakes them."""
        self._position = max(self._position, entry.position)
        slot = self.slot((entry.type, entry.name))
        if not entry.body:
            return self._remove(slot, entry)
        if slot is None:
            slot = Slot(entry.type, entry.name, born=self.seq + 1)
        elif slot.current and slot.current.version == entry.version:
            return self._redeploy(slot, slot.current, entry)
        elif slot.current is None and slot.removal is not None:
            self.table(entry.type).removed -= 1
        self._require(slot, slot.current, entry)
        self._forget_rejections(slot)
        self._touch(slot)
        slot.came = slot.seq
        before = slot.current.carried if slot.current else NOTHING_CARRIED
        self._count(slot, before.here, entry.deployments)
        removed, slot.removal = slot.removal is not None, None
        if slot.current is not slot.good:
            slot.before = slot.current
        if slot.good and slot.good.version == entry.version:
            slot.current = slot.good
            slot.current.entry, slot.current.stamp = entry, slot.seq
        else:
            if removed and not slot.pins:
                slot.good, slot.older, slot.anew = None, None, True
            slot.current = ready(entry, slot.seq)
        slot.current.carried, slot.left = carried(before, entry, slot.seq), ()
        self._retry_requirers(slot)
        self._inherit_refusal(slot)
        return True

    def proved(self, slot: Slot, accepted: Ready) -> bool:
        """A proxy runs `accepted`. Whether streams have to look."""
        if slot.good is accepted:
            return False
        if slot.current is accepted:
            slot.older = slot.good
            slot.good, slot.before, slot.anew, slot.late = accepted, None, False, False
            quarantined = slot.reason is not None
            self._forget_rejections(slot)
            if not quarantined:
                return False
            # rejected by some proxies, taken by another: offered again, but not to those that rejected it
            self._touch(slot)
            accepted.stamp = slot.seq
            self._retry_requirers(slot)
            return True
        if not slot.anew and (slot.good is None or slot.good.stamp < accepted.stamp):
            visible = slot.reason is not None or (slot.current is None and bool(slot.pins))
            self._release_pins(slot)
            slot.good, slot.older = accepted, slot.good
            slot.late = not visible and accepted.stamp < slot.withheld
            if visible:
                self._pin(slot)
                self._touch(slot)
                accepted.stamp = slot.seq
                return True
        return False

    def refuse(self, slot: Slot, refused: Ready, reason: str, connection: Connection) -> bool:
        """Notes that a proxy rejected `refused`, and quarantines it when no connected proxy runs it or may
        still take it. Whether it is quarantined now."""
        if slot.current is not refused or slot.good is refused:
            return False
        slot.rejected_by |= {connection}
        if slot.reason is not None:
            return True
        self._doubted.setdefault(slot.key, _Doubt(reason))
        return self._quarantine_unless_awaited(slot)

    def rejected_by(self, slot: Slot, connection: Connection) -> bool:
        """Whether the quarantined version, or what that requires, was rejected on this connection."""
        while connection not in slot.rejected_by:
            required = self.slot(slot.because) if slot.because else None
            if required is None:
                return False
            slot = required
        return True

    def reopen(self, type: str, connection: Connection, names: Iterable[str] | None = None) -> None:
        """A connection subscribes to a type, or to these names: its proxy may take what others rejected."""
        found = [
            slot
            for slot in self._quarantined.values()
            if slot.type == type and slot.because is None and connection not in slot.rejected_by
        ]
        wanted = None if names is None else set(names)
        for slot in found:
            if wanted is None or slot.name in wanted:
                self._doubted[slot.key] = _Doubt(slot.reason or "")
                self._offer(slot)
        if found:
            self.wake()

    def retry(self, key: Key) -> None:
        """Offers a version that was rejected once more."""
        slot = self.slot(key)
        if slot is not None and slot.current is not None:
            quarantined = slot.reason is not None
            self._doubted.pop(key, None)
            slot.rejected_by = frozenset()
            if quarantined:
                self._offer(slot)

    def wake(self) -> None:
        for changed in tuple(self._watchers):
            changed()

    # -- inside

    def _touch(self, slot: Slot) -> None:
        self.seq += 1
        slot.seq = self.seq
        table = self.table(slot.type)
        table.last = self.seq
        table.slots.pop(slot.name, None)
        table.slots[slot.name] = slot

    def _remove(self, slot: Slot | None, entry: ConfigResource) -> bool:
        table = self.table(entry.type)
        if slot is None:
            slot = Slot(entry.type, entry.name, born=self.seq + 1)
        if slot.removal is None:
            table.removed += 1
        before = slot.current
        if not entry.deployments:
            last = before.entry if before else slot.removal
            entry = replace(entry, deployments=last.deployments) if last else entry
        offered = slot.offered
        self._require(slot, before, None)
        self._forget_rejections(slot)
        slot.current, slot.removal, slot.anew = None, entry, False
        self._touch(slot)
        last = before.carried if before else Carried(left=slot.left)
        slot.left = carried(last, replace(entry, deployments=()), slot.seq).left
        self._count(slot, last.here, ())
        if slot.offered is not None and slot.offered is not offered:
            slot.offered.stamp = slot.seq
        self._retry_requirers(slot)
        if table.removed > TOMBSTONES:
            viewers = self._watchers.values()
            table.prune(min((viewer.cursor(entry.type) for viewer in viewers), default=self.seq))
        return True

    def _redeploy(self, slot: Slot, current: Ready, entry: ConfigResource) -> bool:
        before = current.entry
        if entry.requires != before.requires:
            self._require(slot, current, entry)
        current.entry = entry
        if entry.deployments == before.deployments and entry.requires == before.requires:
            return False
        self._touch(slot)
        self._count(slot, before.deployments, entry.deployments)
        current.carried = carried(current.carried, entry, slot.seq)
        return True

    def _count(self, slot: Slot, before: Sequence[object], after: Sequence[object]) -> None:
        if not slot.type.startswith(PRIVATE):
            self.table(slot.type).carrying += bool(after) - bool(before)

    def _require(self, slot: Slot, before: Ready | None, after: ConfigResource | None) -> None:
        if before:
            slot.remember(before.entry.requires)
        for key in before.entry.requires if before else ():
            requirers = self._requirers.get(key)
            if requirers:
                requirers.discard(slot.key)
                if not requirers:
                    del self._requirers[key]
        for key in after.requires if after else ():
            self._requirers.setdefault(key, set()).add(slot.key)

    def _quarantine(self, slot: Slot, reason: str, because: Key | None) -> None:
        slot.reason, slot.because = reason, because
        self._doubted.pop(slot.key, None)
        self._quarantined[slot.key] = slot
        self._touch(slot)
        if slot.good and slot.late:
            slot.good.stamp, slot.late = slot.seq, False
        slot.withheld = slot.seq
        self._pin(slot)
        for key in tuple(self.requirers(slot.key)):
            requirer = self.slot(key)
            if requirer:
                self._inherit_refusal(requirer)

    def _inherit_refusal(self, slot: Slot) -> None:
        """What requires a quarantined resource, and was never accepted, is refused with it."""
        if slot.current is None or slot.reason is not None or slot.current is slot.good:
            return
        for key in slot.current.entry.requires:
            required = self.slot(key)
            if required and required.reason is not None and required is not slot:
                origin = required.reason if required.because else f"requires {key[1]}: {required.reason}"
                self._quarantine(slot, origin, key)
                return

    def _retry_requirers(self, slot: Slot) -> None:
        """What was refused because of this resource has a new chance."""
        for key in tuple(self.requirers(slot.key)):
            requirer = self.slot(key)
            if requirer and requirer.because == slot.key and requirer.current:
                self._release(requirer)
                self._touch(requirer)
                requirer.current.stamp = requirer.seq
                self._retry_requirers(requirer)
                self._inherit_refusal(requirer)

    def _quarantine_unless_awaited(self, slot: Slot) -> bool:
        """Whether a version that was rejected is quarantined now, since no stream is left to wait for."""
        doubt = self._doubted[slot.key]
        version = slot.current.version if slot.current else ""
        awaited = self._watchers.get(doubt.awaited) if doubt.awaited else None
        if awaited is not None and awaited.may_take(slot.key, version):
            return False
        doubt.awaited = next((c for c, v in self._watchers.items() if v.may_take(slot.key, version)), None)
        if doubt.awaited is None:
            viewers = self._watchers.values()
            rejected = [v.connection for v in viewers if v.may_take(slot.key, version) is False]
            slot.rejected_by |= frozenset(rejected)
            self._quarantine(slot, doubt.reason, None)
        return doubt.awaited is None

    def _offer(self, slot: Slot) -> None:
        """Ends the quarantine of the latest version, and of what requires it."""
        self._release(slot)
        self._touch(slot)
        if slot.current:
            slot.current.stamp = slot.seq
        self._retry_requirers(slot)

    def _forget_rejections(self, slot: Slot) -> None:
        self._release(slot)
        self._doubted.pop(slot.key, None)
        slot.rejected_by = frozenset()

    def _release(self, slot: Slot) -> None:
        """Ends a quarantine."""
        if slot.reason is not None:
            self._release_pins(slot)
            slot.reason = slot.because = None
            del self._quarantined[slot.key]

    def _pin(self, slot: Slot) -> None:
        """Keeps what the last good version of a quarantined resource needs, even if it was removed."""
        for key in slot.good.entry.requires if slot.good else ():
            required = self.slot(key)
            if required is None:
                continue
            revived = required.gone and required.good is not None
            required.pins |= {slot.key}
            if revived and required.good:
                self._touch(required)
                required.good.stamp = required.seq

    def _release_pins(self, slot: Slot) -> None:
        for key in slot.good.entry.requires if slot.good else ():
            required = self.slot(key)
            if required and slot.key in required.pins:
                required.pins -= {slot.key}
                if required.gone:
                    self._touch(required)
