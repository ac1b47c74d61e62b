"""The deployments of each unit of each gateway. Pure."""

from collections.abc import Collection
from dataclasses import dataclass, field

from gateways.config_resource import DeploymentRef


@dataclass(slots=True)
class UnitMembership:
    """By gateway subject and unit: API name -> its deployment."""

    units: dict[str, dict[str, dict[str, DeploymentRef]]] = field(
        default_factory=dict[str, dict[str, dict[str, DeploymentRef]]]
    )
    _unit_of: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """By gateway and API."""

    def add(self, gateway: str, unit: str, ref: DeploymentRef) -> set[str]:
        """Adds a deployment to a unit, in place of the API's other one; returns the units that changed."""
        moved = self._unit_of.setdefault(gateway, {}).get(ref.api) != unit
        changed = self.remove(gateway, ref.api) if moved else set[str]()
        self.units.setdefault(gateway, {}).setdefault(unit, {})[ref.api] = ref
        self._unit_of[gateway][ref.api] = unit
        return {*changed, unit}

    def remove(self, gateway: str, api: str) -> set[str]:
        unit = self._unit_of.get(gateway, {}).pop(api, None)
        if unit is None:
            return set()
        members = self.units[gateway][unit]
        del members[api]
        if not members:
            del self.units[gateway][unit]
        return {unit}

    def deployment(self, gateway: str, api: str) -> DeploymentRef | None:
        """The deployment of an API."""
        unit = self._unit_of.get(gateway, {}).get(api)
        return None if unit is None else self.units[gateway][unit][api]

    def of(self, gateway: str, unit: str) -> Collection[DeploymentRef]:
        return self.units.get(gateway, {}).get(unit, {}).values()
