"""The shared resources (upstreams) that each unit requires; those no longer required are removed. Pure."""

from dataclasses import dataclass, field

Resource = tuple[str, str]
"""Type and name."""


@dataclass(slots=True)
class ResourceRefs:
    """By gateway: the resources that each unit requires, and the units that require each resource."""

    _required: dict[tuple[str, str], tuple[Resource, ...]] = field(
        default_factory=dict[tuple[str, str], tuple[Resource, ...]]
    )
    """Tuples take a fourth of the memory of sets; most have one resource."""
    _users: dict[tuple[str, Resource], set[str]] = field(default_factory=dict[tuple[str, Resource], set[str]])

    def set(self, gateway: str, unit: str, required: frozenset[Resource]) -> frozenset[Resource]:
        """Replaces the resources that a unit requires; those it no longer does, which others may require."""
        before = frozenset(self._required.pop((gateway, unit), ()))
        self.add(gateway, unit, required)
        for resource in before - required:
            users = self._users[gateway, resource]
            users.discard(unit)
            if not users:
                del self._users[gateway, resource]
        return before - required

    def add(self, gateway: str, unit: str, required: frozenset[Resource]) -> None:
        """Adds to the resources that a unit requires."""
        known = self._required.get((gateway, unit), ())
        if added := required.difference(known):
            self._required[gateway, unit] = (*known, *added)
        for resource in required:
            self._users.setdefault((gateway, resource), set()).add(unit)

    def of(self, gateway: str, unit: str) -> frozenset[Resource]:
        """The resources that a unit requires."""
        return frozenset(self._required.get((gateway, unit), ()))

    def required(self, gateway: str, resource: Resource) -> bool:
        """Whether any unit of the gateway requires it."""
        return (gateway, resource) in self._users
