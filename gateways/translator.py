"""The interface of a translator for one kind of gateway. Pure: neutral model to config resources."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from gateways.config_resource import ConfigResource, DeploymentRef
from gateways.model import DeployedApi, GatewaySettings, Unsupported

Translated = TypeVar("Translated")
"""One API in the form in which the translator puts it into the resources of its unit."""


class Translator(Protocol[Translated]):
    """The APIs of a gateway are compiled in units, which the translator chooses.

    A change of an API is translated alone; then the resources of its unit are put together from what was
    translated, now or before. A unit that is the whole gateway makes one document of all APIs.
    """

    @property
    def VERSION(self) -> str:
        """Raised whenever the same input becomes other bytes: gateways get them at the next start."""
        ...

    def unit_of(self, ref: DeploymentRef) -> str:
        """The unit that a deployment belongs to: those with the same value share resources."""
        ...

    def check(self, api: DeployedApi) -> tuple[Unsupported, ...]:
        """Everything this kind of gateway cannot do for the API."""
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
        """Imports what takes long to import; without it the first translation does."""
        ...
