"""Which deployments make up each group of each gateway, and how events change that. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateways.config_resource import DeploymentRef


@dataclass(slots=True)
class GroupMembership:
    """Per gateway subject and group (first path segment): API name -> what it contributes."""

    groups: dict[str, dict[str, dict[str, DeploymentRef]]] = field(
        default_factory=dict[str, dict[str, dict[str, DeploymentRef]]]
    )
    placed: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """(gateway, API) -> the group it is in."""

    def place(self, gateway: str, group: str, ref: DeploymentRef) -> set[str]:
        """Puts an API's contribution where it belongs now; the groups that changed."""
        changed = self.remove(gateway, ref.api) if self.group(gateway, ref.api) != group else set[str]()
        self.groups.setdefault(gateway, {}).setdefault(group, {})[ref.api] = ref
        self.placed[gateway, ref.api] = group
        return {*changed, group}

    def remove(self, gateway: str, api: str) -> set[str]:
        group = self.placed.pop((gateway, api), None)
        if group is None:
            return set()
        members = self.groups[gateway][group]
        del members[api]
        if not members:
            del self.groups[gateway][group]
        return {group}

    def group(self, gateway: str, api: str) -> str | None:
        return self.placed.get((gateway, api))

    def deployment(self, gateway: str, api: str) -> DeploymentRef | None:
        """What an API contributes."""
        group = self.placed.get((gateway, api))
        return None if group is None else self.groups[gateway][group][api]

    def of(self, gateway: str, group: str) -> Mapping[str, DeploymentRef]:
        return self.groups.get(gateway, {}).get(group, {})

    def drop(self, gateway: str) -> Iterable[str]:
        """Forgets a gateway; the groups it had."""
        gone = self.groups.pop(gateway, {})
        for members in gone.values():
            for api in members:
                self.placed.pop((gateway, api), None)
        return gone.keys()
