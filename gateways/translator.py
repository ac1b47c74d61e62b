"""The interface of a translator for one kind of gateway. Pure: neutral model to config resources."""

from collections.abc import Sequence
from typing import Protocol

from gateways.config_resource import ConfigResource
from gateways.model import DeployedApi, GatewaySettings, Unsupported


class Translator(Protocol):
    @property
    def VERSION(self) -> str:
        """Raised whenever the same input becomes other bytes: gateways get them at the next start."""
        ...

    def check(self, api: DeployedApi) -> tuple[Unsupported, ...]:
        """Everything this kind of gateway cannot do for the API."""
        ...

    def listener_entries(self, settings: GatewaySettings, position: int) -> tuple[ConfigResource, ...]:
        """The resources that the gateway needs before any API."""
        ...

    def api_entries(
        self, settings: GatewaySettings, group: str, apis: Sequence[DeployedApi], position: int
    ) -> tuple[ConfigResource, ...]:
        """All that serves the APIs whose context begins with `group`; without APIs, its removal.

        Entries that groups share (upstreams) are named by others' `requires`, and never removed here.
        """
        ...
