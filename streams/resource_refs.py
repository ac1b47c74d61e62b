"""Which shared resources (upstreams) each group of APIs needs, so that unneeded ones are removed. Pure."""

from dataclasses import dataclass, field

Resource = tuple[str, str]
"""Type and name."""


@dataclass(slots=True)
class ResourceRefs:
    """Per gateway: what every group needs, and who needs every resource."""

    _needs: dict[tuple[str, str], frozenset[Resource]] = field(
        default_factory=dict[tuple[str, str], frozenset[Resource]]
    )
    _users: dict[tuple[str, Resource], set[str]] = field(default_factory=dict[tuple[str, Resource], set[str]])

    def set(self, gateway: str, group: str, needs: frozenset[Resource]) -> frozenset[Resource]:
        """Notes what a group needs now; answers what it no longer does, which others may still need."""
        before = self._needs.pop((gateway, group), frozenset())
        if needs:
            self._needs[gateway, group] = needs
        for resource in needs - before:
            self._users.setdefault((gateway, resource), set()).add(group)
        for resource in before - needs:
            users = self._users[gateway, resource]
            users.discard(group)
            if not users:
                del self._users[gateway, resource]
        return before - needs

    def of(self, gateway: str, group: str) -> frozenset[Resource]:
        """What a group needs."""
        return self._needs.get((gateway, group), frozenset())

    def needed(self, gateway: str, resource: Resource) -> bool:
        """Whether any group of the gateway needs it."""
        return (gateway, resource) in self._users
