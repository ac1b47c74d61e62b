"""Neutral gateway configurations written as YAML, for the tests of the translator."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from gateways.config_resource import ConfigResource
from gateways.model import (
    MAX_IN_FLIGHT,
    DeployedApi,
    Endpoint,
    GatewaySettings,
    HeaderMatch,
    Policy,
    Route,
    Segment,
    Upstream,
    WeightedBackend,
)
from xds.part_groups import PartGroups
from xds.translate import dispatching_entries, listener_entries, part_of_api, translate, unit_entries

DATA = Path(__file__).parent / "testdata"
ONE_GROUP = sys.maxsize
SUBJECT = "organizations/default/gateways/local"


@dataclass(frozen=True)
class Input:
    settings: GatewaySettings
    apis: tuple[DeployedApi, ...]

    @property
    def units(self) -> dict[str, list[DeployedApi]]:
        units: dict[str, list[DeployedApi]] = {}
        for api in self.apis:
            units.setdefault(api.context[0].text, []).append(api)
        return units

    @property
    def entries(self) -> tuple[ConfigResource, ...]:
        """All entries, one per resource."""
        made = list(listener_entries(self.settings, 1))
        for segment, apis in self.units.items():
            made += api_entries(self.settings, segment, apis, 1)
        return tuple({entry.key: entry for entry in made}.values())

    def split(self, most: int) -> tuple[ConfigResource, ...]:
        """All entries when each unit is split, in groups where it has more than `most` parts."""
        made = list(listener_entries(self.settings, 1))
        for segment, apis in self.units.items():
            made += split_entries(self.settings, segment, apis, 1, most)
        return tuple({entry.key: entry for entry in made}.values())


def split_entries(
    settings: GatewaySettings,
    segment: str,
    apis: Sequence[DeployedApi],
    position: int,
    most: int = ONE_GROUP,
) -> tuple[ConfigResource, ...]:
    """All entries of the APIs below a first path segment that is split, in groups of about `most`."""
    groups = PartGroups(segment, most)
    made: list[ConfigResource] = []
    for api in apis:
        part = part_of_api(segment, api)
        groups.place(api.api, part)
        made += api_entries(settings, part.name, [api], position)
    for name in sorted(groups.changed()):
        made += dispatching_entries(settings, name, groups.of(name), position)
    return tuple(made)


def api_entries(
    settings: GatewaySettings, segment: str, apis: Sequence[DeployedApi], position: int
) -> tuple[ConfigResource, ...]:
    """All entries of the APIs below a first path segment."""
    return unit_entries(settings, segment, [translate(settings, api) for api in apis], position)


def parse_input(text: str) -> Input:
    document = yaml.safe_load(text)
    return Input(
        settings(**document.get("settings", {})),
        tuple(api(**fields) for fields in document["apis"]),
    )


def settings(**changes: Any) -> GatewaySettings:
    return GatewaySettings(
        **{"subject": SUBJECT, "kind": "envoy", "address": "127.0.0.1", "port": 8000} | changes
    )


def segments(path: str) -> tuple[Segment, ...]:
    """`/orders/{id}/*` as segments; `/` is none."""

    def one(text: str) -> Segment:
        if text == "*":
            return Segment("tail")
        if text.startswith("{") and text.endswith("}"):
            return Segment("parameter", text[1:-1])
        return Segment("literal", text)

    return tuple(one(text) for text in path[1:].split("/")) if path != "/" else ()


def upstream(*urls: str, connect_timeout_ms: int = 5000, max_in_flight: int = MAX_IN_FLIGHT) -> Upstream:
    """`http://host:port`, with `#weight` at the end where it is not 1."""

    def endpoint(url: str) -> Endpoint:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        scheme = "https" if parts.scheme == "https" else "http"
        return Endpoint(scheme, parts.hostname or "", port, int(parts.fragment or 1))

    return Upstream(tuple(endpoint(url) for url in urls), connect_timeout_ms, max_in_flight)


def weighted_backends(*written: Mapping[str, Any]) -> tuple[WeightedBackend, ...]:
    return tuple(
        WeightedBackend(upstream(*w["urls"], connect_timeout_ms=w.get("connect_timeout_ms", 5000),
                     max_in_flight=w.get("max_in_flight", MAX_IN_FLIGHT)),
            w.get("base_path", ""), w.get("weight", 1))
        for w in written
    )  # fmt: skip


def api(**fields: Any) -> DeployedApi:
    """An API of `{api, context, backends, operations}` and what a `DeployedApi` has besides."""
    backends = weighted_backends(*fields["backends"])
    policies = fields.get("policies", [])
    return DeployedApi(
        organization="default",
        api=fields["api"],
        revision=fields.get("revision", 1),
        deployment=fields.get("deployment", f"d-{fields['api']}"),
        context=segments(fields["context"]),
        hosts=tuple(fields.get("hosts", ["*"])),
        routes=tuple(
            route(i, operation, backends, policies) for i, operation in enumerate(fields["operations"])
        ),
        sandbox_hosts=tuple(fields.get("sandbox_hosts", [])),
        sandbox_backends=weighted_backends(*fields.get("sandbox_backends", [])),
    )


def route(
    index: int, operation: Mapping[str, Any], backends: tuple[WeightedBackend, ...], policies: list[Any]
) -> Route:
    rest = dict(operation)
    return Route(
        method=rest.pop("method"),
        path=segments(rest.pop("path")),
        backends=weighted_backends(*rest.pop("backends", [])) or backends,
        headers=tuple(HeaderMatch(**h) for h in rest.pop("headers", [])),
        policies=tuple(
            Policy(p["name"], p.get("params", {})) for p in [*policies, *rest.pop("policies", [])]
        ),
        pointer=f"/operations/{index}",
        **rest,
    )
