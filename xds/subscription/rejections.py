"""The versions that one client rejected, and those it has instead."""

from collections.abc import Callable
from dataclasses import dataclass, field

from xds.server.wire import Ready
from xds.store.resource import StoredResource
from xds.types import ResourceKey

UNKNOWN = 0
"""A value of `Subscription.pending`: the client has a version, but it is unknown since when."""


@dataclass(slots=True, eq=False)
class Rejections:
    """`reasons`: by name and version, why the client rejected it. `keeping`: names whose offered version the
    client rejected, with the change up to which it had the version offered then."""

    reasons: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    keeping: dict[str, int] = field(default_factory=dict[str, int])

    def reason(self, resource: Ready) -> str | None:
        """Why the client rejected this version."""
        return self.reasons.get(resource.entry.name, {}).get(resource.version)

    def add(self, resource: Ready, stored: StoredResource | None, reason: str) -> None:
        """Records a rejection, and drops those of versions that `stored` no longer has."""
        name = resource.entry.name
        offers = (stored.current, stored.good, stored.older) if stored else ()
        versions = {offer.version for offer in offers if offer}
        before = self.reasons.get(name, {})
        self.reasons[name] = {v: why for v, why in before.items() if v in versions}
        self.reasons[name][resource.version] = reason

    def discard(self, resource: Ready) -> None:
        """The client accepted this version after all."""
        self.reasons.get(resource.entry.name, {}).pop(resource.version, None)

    def forget(self, name: str) -> bool:
        """Drops the rejections of `name`. Returns whether there were any."""
        return self.reasons.pop(name, None) is not None

    def last_good(self, stored: StoredResource, client_seq: int) -> Ready | None:
        """The last good version, unless the client has or rejected it.

        `client_seq`: the change up to which the client had the offered version.
        """
        for resource in (stored.good, stored.older):
            if resource is None or resource is stored.offered or resource.stamp <= client_seq:
                continue
            if self.reason(resource) is None:
                return resource
        return None

    def may_need(self, key: ResourceKey, gone: int, slot_of: Callable[[str], StoredResource | None]) -> bool:
        """Whether a version that the client kept after a rejection may require `key`, removed by change
        `gone`.

        The kept version is not stored. One that was offered after the removal of `key` does not require it.
        """
        for name, client_seq in self.keeping.items():
            stored = slot_of(name)
            if gone > client_seq and (
                client_seq == UNKNOWN or stored is None or stored.may_have_required(key, client_seq)
            ):
                return True
        return False
