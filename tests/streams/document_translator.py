"""Gateways of a kind that gets JSON documents: one of the whole gateway, or one of each API."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateways.config_resource import ConfigResource, DeploymentRef, content_version
from gateways.model import DeployedApi, GatewaySettings, Unsupported
from gateways.translator import Translator

LISTENER = "test.document/Listener"
DOCUMENT = "test.document/Document"


@dataclass(frozen=True)
class Service:
    """One API as it stands in a document."""

    ref: DeploymentRef
    text: dict[str, Any]


@dataclass
class DocumentTranslator:
    """`whole`: one document for all APIs of a gateway. `translated` are the APIs that were translated."""

    whole: bool
    VERSION: str = "1"
    translated: list[str] = field(default_factory=list[str])

    def unit_of(self, ref: DeploymentRef) -> str:
        return "all" if self.whole else ref.api

    def check(self, api: DeployedApi) -> tuple[Unsupported, ...]:
        return tuple(
            Unsupported(policy.pointer, f"the policy {policy.name}")
            for route in api.routes
            for policy in route.policies
        )

    def listener_entries(self, settings: GatewaySettings, position: int) -> tuple[ConfigResource, ...]:
        body = f"{settings.address}:{settings.port}".encode()
        return (_entry(settings, LISTENER, "main", body, position),)

    def translate(self, settings: GatewaySettings, api: DeployedApi) -> Service:
        self.translated.append(api.api)
        context = "".join(f"/{segment.text}" for segment in api.context)
        ref = DeploymentRef(api.deployment, api.api, api.revision, context, api.hosts[0])
        ports = [e.port for route in api.routes for b in route.backends for e in b.upstream.endpoints]
        revision = api.revision if settings.revision_header else 0
        return Service(ref, {"context": context, "ports": ports, "revision": revision})

    def unit_entries(
        self, settings: GatewaySettings, unit: str, apis: Sequence[Service], position: int
    ) -> tuple[ConfigResource, ...]:
        body = orjson.dumps([api.text for api in apis]) if apis else b""
        return (_entry(settings, DOCUMENT, unit, body, position, tuple(api.ref for api in apis)),)

    def load(self) -> None:
        """Nothing is imported late."""


def _entry(
    settings: GatewaySettings,
    type: str,
    name: str,
    body: bytes,
    position: int,
    refs: tuple[DeploymentRef, ...] = (),
) -> ConfigResource:
    path = f"{settings.subject}/{name}"
    version = content_version(body)
    return ConfigResource(settings.subject, settings.kind, type, path, version, position, body, (), refs)


@dataclass
class Wrapped:
    """Another translator, of which a test changes one part."""

    of: Translator[Any]
    VERSION: str = "1"

    def unit_of(self, ref: DeploymentRef) -> str:
        return self.of.unit_of(ref)

    def check(self, api: DeployedApi) -> tuple[Unsupported, ...]:
        return self.of.check(api)

    def listener_entries(self, settings: GatewaySettings, position: int) -> tuple[ConfigResource, ...]:
        return self.of.listener_entries(settings, position)

    def translate(self, settings: GatewaySettings, api: DeployedApi) -> Any:
        return self.of.translate(settings, api)

    def unit_entries(
        self, settings: GatewaySettings, unit: str, apis: Sequence[Any], position: int
    ) -> tuple[ConfigResource, ...]:
        return self.of.unit_entries(settings, unit, apis, position)

    def load(self) -> None:
        self.of.load()
