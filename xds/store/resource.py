"""One resource in the store."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateways.config_resource import ConfigResource
from xds.server.observer import Connection
from xds.server.streams.resource_deployments import DeploymentChange
from xds.server.wire import Ready
from xds.types import ResourceKey

EarlierRequirements = tuple[tuple[ResourceKey, int], ...]
"""Requirements of earlier versions, each with the change of the first version that had it."""

NOBODY: frozenset[Connection] = frozenset()
"""The only one: each `frozenset()` is another object, and most resources were rejected by nobody."""

MOST_EARLIER_REQUIREMENTS = 32
"""Requirements of earlier versions that are kept per resource."""


@dataclass(slots=True, eq=False)
class StoredResource:
    """The versions of one resource: the latest, the last that a proxy accepted, and the one to offer.

    `older` was accepted before `good`, and is for proxies that reject `good`. `reason`: why `current` is
    quarantined; `because`: the required resource that caused it, if any; `rejected_by`: the connections on
    which `current` itself was rejected; `pins`: quarantined resources whose last good version requires this
    one. `recreated`: it had been removed before `current` was added, so no earlier version is a fallback;
    `before`: the version that `current` replaced before any proxy accepted it. `removed_deployments`: removed
    with the resource, or before. `created`, `changed`: the changes that added the resource and `current`.
    `withheld`: the change at which a version was last quarantined; `late`: `good` was accepted after a
    quarantine in which another version was offered. `earlier_requirements`: those of earlier versions, None
    if there are too many to keep.
    """

    type: str
    name: str
    created: int
    seq: int = 0
    current: Ready | None = None
    good: Ready | None = None
    older: Ready | None = None
    removal: ConfigResource | None = None
    reason: str | None = None
    because: ResourceKey | None = None
    rejected_by: frozenset[Connection] = NOBODY
    pins: frozenset[ResourceKey] = frozenset()
    recreated: bool = False
    before: Ready | None = None
    removed_deployments: tuple[DeploymentChange, ...] = ()
    changed: int = 0
    withheld: int = 0
    late: bool = False
    earlier_requirements: EarlierRequirements | None = ()

    @property
    def key(self) -> ResourceKey:
        return (self.type, self.name)

    @property
    def offered(self) -> Ready | None:
        """The version to offer to clients. None: none; if quarantined, they keep the version they have."""
        if self.current is None:
            return self.good if self.pins else None
        return self.current if self.reason is None else self.good

    @property
    def gone(self) -> bool:
        """Removed, and no last good version of another resource needs it."""
        return self.current is None and self.offered is None

    def remember(self, requires: Sequence[ResourceKey]) -> None:
        """Keeps the requirements of `current`, before another version or a removal replaces it."""
        if self.earlier_requirements is not None:
            known = {key for key, _ in self.earlier_requirements}
            kept = self.earlier_requirements + tuple(
                (key, self.changed) for key in requires if key not in known
            )
            self.earlier_requirements = kept if len(kept) <= MOST_EARLIER_REQUIREMENTS else None

    def may_have_required(self, key: ResourceKey, client_seq: int) -> bool:
        """Whether a client may have had, by change `client_seq`, an earlier version that requires `key`."""
        if self.earlier_requirements is None:
            return True
        return any(required == key and since <= client_seq for required, since in self.earlier_requirements)
