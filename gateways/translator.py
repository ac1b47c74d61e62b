"""The interface of a translator for one kind of gateway. Pure: neutral model to config resources."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from gateways.config_resource import ConfigResource, DeploymentRef
from gateways.model import DeployedApi, GatewaySettings, Unsupported

Translated = TypeVar("Translated")
"""One API in the form in which the translator puts it into the resources of its unit."""


class Translator(Protocol[Translated]):
    """The APIs of a gateway are compiled in units, which the translator chooses.

    A changed API is translated alone; then the resources of its unit are assembled from translated APIs, new
    and cached ones. If the unit is the whole gateway, one document holds all APIs.
    """

    @property
    def VERSION(self) -> str:
        """Increased whenever the same input yields other bytes: gateways get them after the next start."""
        ...

    def unit_of(self, ref: DeploymentRef) -> str:
        """The unit that a deployment belongs to: those with the same value share resources."""
        ...

    def check(self, api: DeployedApi) -> tuple[Unsupported, ...]:
        """All features of the API that this kind of gateway does not support."""
        ...

    def listener_entries(self, settings: GatewaySettings, position: int) -> tuple[ConfigResource, ...]:
        """The resources that the gateway needs before any API."""
        ...

    def translate(self, settings: GatewaySettings, api: DeployedApi) -> Translated:
        """One API. Raises UnsupportedError with everything that `check` finds and that is not `only_new`:
        the gateway may serve such an API already."""
        ...

    def unit_entries(
        self, settings: GatewaySettings, unit: str, apis: Sequence[Translated], position: int
    ) -> tuple[ConfigResource, ...]:
        """All resources of a unit; without APIs, their removal.

        Resources that units share (upstreams) are named by others' `requires`, and never removed here.
        """
        ...

    def load(self) -> None:
        """Imports slow modules in advance; otherwise the first translation imports them."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """One API of a unit that is split, by the name of its part, and where requests to it are found."""

    name: str
    context: str
    hosts: tuple[str, ...]
    sandbox_hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartGroup:
    """A group of parts, by its name: those that get requests for these hosts with this beginning of their
    path."""

    name: str
    hosts: tuple[str, ...]
    path: str


@dataclass(frozen=True, slots=True)
class Dispatching:
    """To what a unit or a group takes requests: to parts, or to groups, the first that fits a request."""

    parts: tuple[Part, ...] = ()
    groups: tuple[PartGroup, ...] = ()


class PartGroups(Protocol):
    """The parts of a unit, in groups if they are many."""

    def place(self, api: str, part: Part | None) -> None:
        """Puts the part of an API in place of that before; None: it has none any more."""
        ...

    def changed(self) -> set[str]:
        """The names of what changed since the last call: of groups, and of the unit."""
        ...

    def of(self, name: str) -> Dispatching:
        """That of the unit or a group; empty when there is no such group any more."""
        ...


@runtime_checkable
class UnitSplitter(Protocol):
    """What a translator has in addition if a unit can be split into parts of one API each.

    A part has entries of its own: those of a unit with its name. The unit keeps one entry that takes requests
    to the parts, or to groups of parts, each with an entry that does. These change only when a part comes or
    goes.
    """

    @property
    def split_above(self) -> int:
        """A unit with more APIs is split, and stays so; below 0: none is."""
        ...

    def part_of_api(self, unit: str, api: DeployedApi) -> Part:
        """The part that an API is; another one when requests to it are found elsewhere."""
        ...

    def part_of_deployment(self, unit: str, ref: DeploymentRef, name: str) -> Part | None:
        """The part with this name, if what the deployment says of its API suffices to know it."""
        ...

    def part_named(self, entry: ConfigResource) -> str:
        """The name of the part that an entry is of; empty when it is of none."""
        ...

    def dispatched(self, entry: ConfigResource) -> tuple[str, str] | None:
        """The split unit that an entry takes requests to parts or groups for, and the name of the unit or of
        the group that the entry is of."""
        ...

    def part_resources(self, gateway: str, part: str) -> tuple[tuple[str, str], ...]:
        """Types and names of the entries that a part has by itself, and what leads to it requires."""
        ...

    def groups(self, unit: str, *, several: bool) -> PartGroups:
        """The groups of a unit without parts; `several`: there may be groups."""
        ...

    def dispatching_entries(
        self, settings: GatewaySettings, name: str, dispatching: Dispatching, position: int
    ) -> tuple[ConfigResource, ...]:
        """The entries of a unit that is split, or of a group, beside those of its parts."""
        ...
