"""One resource's place in the store."""

from dataclasses import dataclass

from gateways.entry import Entry
from xds.arrivals import Arrival
from xds.observer import Connection
from xds.wire import Ready

Key = tuple[str, str]
"""Type and name."""


@dataclass(slots=True, eq=False)
class Slot:
    """One resource's place: the latest version, the last that a proxy accepted, and what to offer.

    `older` is what was accepted before `good`, for proxies that reject `good`.
    `reason` is why `current` is quarantined, `because` the required resource whose refusal that was,
    `rejected_by` the connections on which `current` itself was rejected;
    `pins` are quarantined resources whose last good version needs this one. `anew` says that it had been
    removed before `current` came, so that what was accepted earlier is no good version to go back to;
    `before` is what `current` replaced before anybody was known to have accepted it. `left` are the
    deployments that went with the resource, or had left it before.
    """

    type: str
    name: str
    born: int
    seq: int = 0
    current: Ready | None = None
    good: Ready | None = None
    older: Ready | None = None
    removal: Entry | None = None
    reason: str | None = None
    because: Key | None = None
    rejected_by: frozenset[Connection] = frozenset()
    pins: frozenset[Key] = frozenset()
    anew: bool = False
    before: Ready | None = None
    left: tuple[Arrival, ...] = ()

    @property
    def key(self) -> Key:
        return (self.type, self.name)

    @property
    def offered(self) -> Ready | None:
        """What clients shall have. None: nothing, or, when quarantined, whatever they have."""
        if self.current is None:
            return self.good if self.pins else None
        return self.current if self.reason is None else self.good

    @property
    def gone(self) -> bool:
        """Removed, and nobody's last good version needs it."""
        return self.current is None and self.offered is None
