"""Envoy's resources for a gateway and the APIs on it. Pure: values in, entries out.

`listener_entries` makes the resources that a gateway has once. `translate` makes the routes of one API, and
`unit_entries` the resources of all APIs with the same first path segment. Clusters are shared by all APIs
with the same upstream, of other units too: the caller removes a cluster when no unit requires it any more.
"""

from collections.abc import Sequence
from dataclasses import replace

from gateways.compiler import denied_upstreams
from gateways.config_resource import ConfigResource, DeploymentRef, content_version
from gateways.model import DeployedApi, GatewaySettings, Unsupported, UnsupportedError, Upstream
from gateways.translator import Dispatching
from xds.scopes import part_resources, route_name, scope_name
from xds.translate.check import check, untranslatable
from xds.translate.clusters import cluster_entry
from xds.translate.hosts import dispatching_configuration, route_configuration
from xds.translate.listener import listener_entries
from xds.translate.routes import TranslatedApi, translated_api
from xds.translate.scopes import scope_body
from xds.translate.split import part_of_api, part_of_deployment, splittable
from xds.types import CLUSTER, ROUTES, SCOPED_ROUTES

__all__ = [
    "check",
    "dispatching_entries",
    "listener_entries",
    "part_of_api",
    "part_of_deployment",
    "splittable",
    "translate",
    "unit_entries",
]


def translate(settings: GatewaySettings, api: DeployedApi) -> TranslatedApi:
    """The routes of an API, and the upstreams it needs. Raises UnsupportedError with findings of `check` that
    are not `only_new`, or denied upstreams of policies."""
    if findings := untranslatable(api):
        raise UnsupportedError(findings)
    translated = translated_api(settings, api)
    if denied := denied_upstreams(settings.access, translated.called):
        raise UnsupportedError(tuple(Unsupported("/policies", problem) for problem in denied))
    return translated


def unit_entries(
    settings: GatewaySettings, unit: str, apis: Sequence[TranslatedApi], position: int
) -> tuple[ConfigResource, ...]:
    """Clusters, scope and route configuration of the APIs of a unit, whose contexts begin with its name, or
    of the one API of a part of it.

    No APIs: the removals of scope and route configuration.
    """
    if not apis:
        return _scoped(settings, unit, b"", (), (), position)
    users: dict[Upstream, list[DeploymentRef]] = {}
    for api in apis:
        for upstream in api.upstreams:
            users.setdefault(upstream, []).append(api.ref)
    clusters = [cluster_entry(settings, upstream, position, refs) for upstream, refs in users.items()]
    required = dict.fromkeys((CLUSTER, cluster.name) for cluster in clusters)
    body = route_configuration(settings.subject, unit, apis)
    refs = [api.ref for api in apis]
    return (*clusters, *_scoped(settings, unit, body, tuple(required), refs, position))


def dispatching_entries(
    settings: GatewaySettings, name: str, dispatching: Dispatching, position: int
) -> tuple[ConfigResource, ...]:
    """Scope and route configuration of a unit that is split, or of a group of its parts. It takes requests to
    parts or groups, and requires them: proxies get it when they have these, and lose them after it."""
    body = dispatching_configuration(settings.subject, name, dispatching)
    led_to = [each.name for each in (*dispatching.parts, *dispatching.groups)]
    required = [key for each in led_to for key in part_resources(settings.subject, each)]
    return _scoped(settings, name, body, required, (), position)


def _scoped(
    settings: GatewaySettings,
    unit: str,
    body: bytes,
    required: Sequence[tuple[str, str]],
    refs: Sequence[DeploymentRef],
    position: int,
) -> tuple[ConfigResource, ConfigResource]:
    """The scope of a unit or a part, and its route configuration; removals without a `body`.

    Envoy 1.40 asks for a route configuration only when a scope names it, and ignores one it has not asked
    for. Until it has it the new scope answers 404 like before, the other scopes as they did. The scope
    carries no deployments: it never changes, and an ACK of it is an ACK of none of them.
    """

    def entry(type: str, name: str, body: bytes) -> ConfigResource:
        version = content_version(body)
        return ConfigResource(settings.subject, settings.kind, type, name, version, position, body)

    scope = scope_body(settings.subject, unit) if body else b""
    routes = entry(ROUTES, route_name(settings.subject, unit), body)
    return (
        entry(SCOPED_ROUTES, scope_name(settings.subject, unit), scope),
        replace(routes, requires=tuple(required), deployments=tuple(refs)),
    )
