"""One resource's place in the store."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateways.config_resource import ConfigResource
from xds.arrivals import Arrival
from xds.observer import Connection
from xds.wire import Ready

Key = tuple[str, str]
"""Type and name."""

Former = tuple[tuple[Key, int], ...]
"""Requirements of earlier versions, each with the change of the first version that had it."""

MOST_FORMER = 32
"""So many requirements of earlier versions are known per resource."""


@dataclass(slots=True, eq=False)
class StoredResource:
    """One resource's place: the latest version, the last that a proxy accepted, and what to offer.

    `older` is what was accepted before `good`, for proxies that reject `good`.
    `reason` is why `current` is quarantined, `because` the required resource whose rejection that was,
    `rejected_by` the connections on which `current` itself was rejected;
    `pins` are quarantined resources whose last good version needs this one. `anew` says that it had been
    removed before `current` came, so that what was accepted earlier is no good version to go back to;
    `before` is what `current` replaced before anybody was known to have accepted it. `left` are the
    deployments that went with the resource, or had left it before. `came` is the change by which `current`
    came. `withheld` is when a version was last quarantined; `late`: `good` became that after a
    quarantine in which another one was offered instead.
    `former` is what versions before it required, None when that is more than is remembered.
    """

    type: str
    name: str
    born: int
    seq: int = 0
    current: Ready | None = None
    good: Ready | None = None
    older: Ready | None = None
    removal: ConfigResource | None = None
    reason: str | None = None
    because: Key | None = None
    rejected_by: frozenset[Connection] = frozenset()
    pins: frozenset[Key] = frozenset()
    anew: bool = False
    before: Ready | None = None
    left: tuple[Arrival, ...] = ()
    came: int = 0
    withheld: int = 0
    late: bool = False
    former: Former | None = ()

    @property
    def key(self) -> Key:
        return (self.type, self.name)

    @property
    def offered(self) -> Ready | None:
        """The version that clients shall have. None: none, or, when quarantined, the one they have."""
        if self.current is None:
            return self.good if self.pins else None
        return self.current if self.reason is None else self.good

    @property
    def gone(self) -> bool:
        """Removed, and nobody's last good version needs it."""
        return self.current is None and self.offered is None

    def remember(self, requires: Sequence[Key]) -> None:
        """Notes what `current` requires, before another version or a removal replaces it."""
        if self.former is not None:
            known = {key for key, _ in self.former}
            former = self.former + tuple((key, self.came) for key in requires if key not in known)
            self.former = former if len(former) <= MOST_FORMER else None

    def may_have_required(self, key: Key, held: int) -> bool:
        """Whether a version before `current` that a client may have had by change `held` requires `key`."""
        if self.former is None:
            return True
        return any(known == key and came <= held for known, came in self.former)
