"""The translator for Envoy gateways.

Importing Envoy's messages takes about a second. So `xds.translate` is imported when something is translated,
or by `load`.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateways.config_resource import ConfigResource, DeploymentRef
from gateways.model import DeployedApi, GatewaySettings, Unsupported
from gateways.translator import Dispatching, Part
from xds.part_groups import PartGroups
from xds.scopes import dispatched, part_named, part_resources

if TYPE_CHECKING:
    from xds.translate.routes import TranslatedApi


SPLIT_ABOVE = 64
GROUPED_ABOVE = 128
"""Parts are in groups if there are more, and so many are in most groups at most."""


class EnvoyTranslator:
    """Implements `gateways.translator.Translator` and `UnitSplitter`."""

    VERSION: str = "3"
    """A test with the golden files fails when it has to be raised."""

    def unit_of(self, ref: DeploymentRef) -> str:
        """The first path segment: it selects the route configuration."""
        return ref.context.split("/")[1]

    def check(self, api: DeployedApi) -> tuple[Unsupported, ...]:
        from xds.translate import check

        return check(api)

    def listener_entries(self, settings: GatewaySettings, position: int) -> tuple[ConfigResource, ...]:
        from xds.translate import listener_entries

        return listener_entries(settings, position)

    def translate(self, settings: GatewaySettings, api: DeployedApi) -> "TranslatedApi":
        from xds.translate import translate

        return translate(settings, api)

    def unit_entries(
        self, settings: GatewaySettings, unit: str, apis: "Sequence[TranslatedApi]", position: int
    ) -> tuple[ConfigResource, ...]:
        from xds.translate import unit_entries

        return unit_entries(settings, unit, apis, position)

    @property
    def split_above(self) -> int:
        from xds.translate import splittable

        return SPLIT_ABOVE if splittable() else -1

    def part_of_api(self, unit: str, api: DeployedApi) -> Part:
        from xds.translate import part_of_api

        return part_of_api(unit, api)

    def part_of_deployment(self, unit: str, ref: DeploymentRef, name: str) -> Part | None:
        from xds.translate import part_of_deployment

        return part_of_deployment(unit, ref, name)

    def part_named(self, entry: ConfigResource) -> str:
        return part_named(entry)

    def dispatched(self, entry: ConfigResource) -> tuple[str, str] | None:
        return dispatched(entry)

    def part_resources(self, gateway: str, part: str) -> tuple[tuple[str, str], ...]:
        return part_resources(gateway, part)

    def groups(self, unit: str, *, several: bool) -> PartGroups:
        return PartGroups(unit, GROUPED_ABOVE if several else sys.maxsize)

    def dispatching_entries(
        self, settings: GatewaySettings, name: str, dispatching: Dispatching, position: int
    ) -> tuple[ConfigResource, ...]:
        from xds.translate import dispatching_entries

        return dispatching_entries(settings, name, dispatching, position)

    def load(self) -> None:
        importlib.import_module("xds.translate")
