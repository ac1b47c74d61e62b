"""Envoy's resources for a gateway and the APIs on it. Pure: values in, entries out.

`listener_entries` makes the resources that a gateway has once. `translate` makes the routes of one API, and
`unit_entries` the resources of all APIs with the same first path segment. Clusters are shared by all APIs
with the same upstream, of other units too: the caller removes a cluster when no unit requires it any more.
"""

from collections.abc import Sequence

from gateways.compiler import denied_upstreams
from gateways.config_resource import ConfigResource, DeploymentRef, content_version
from gateways.model import DeployedApi, GatewaySettings, Unsupported, UnsupportedError, Upstream
from xds.translate.check import check, untranslatable
from xds.translate.clusters import cluster_entry
from xds.translate.hosts import route_configuration
from xds.translate.listener import listener_entries
from xds.translate.names import route_name, scope_name
from xds.translate.routes import TranslatedApi, translated_api
from xds.translate.scopes import scope_body
from xds.types import CLUSTER, ROUTES, SCOPED_ROUTES

__all__ = ["check", "listener_entries", "translate", "unit_entries"]


def translate(settings: GatewaySettings, api: DeployedApi) -> TranslatedApi:
    """The routes of an API, and the upstreams it needs. Raises UnsupportedError with everything `check`
    finds, but for that which concerns new deployments only."""
    if findings := untranslatable(api):
        raise UnsupportedError(findings)
    translated = translated_api(settings, api)
    if denied := denied_upstreams(settings.access, translated.called):
        raise UnsupportedError(tuple(Unsupported("/policies", problem) for problem in denied))
    return translated


def unit_entries(
    settings: GatewaySettings, segment: str, apis: Sequence[TranslatedApi], position: int
) -> tuple[ConfigResource, ...]:
    """Clusters, scope and route configuration of the APIs whose contexts begin with `segment`.

    No APIs: the removals of scope and route configuration.
    """
    routes, scope = route_name(settings.subject, segment), scope_name(settings.subject, segment)

    def entry(
        type: str, name: str, body: bytes, requires: Sequence[tuple[str, str]], refs: Sequence[DeploymentRef]
    ) -> ConfigResource:
        return ConfigResource(
            settings.subject,
            settings.kind,
            type,
            name,
            content_version(body),
            position,
            body,
            tuple(requires),
            tuple(refs),
        )

    if not apis:
        return entry(SCOPED_ROUTES, scope, b"", (), ()), entry(ROUTES, routes, b"", (), ())
    users: dict[Upstream, list[DeploymentRef]] = {}
    for api in apis:
        for upstream in api.upstreams:
            users.setdefault(upstream, []).append(api.ref)
    clusters = [cluster_entry(settings, upstream, position, refs) for upstream, refs in users.items()]
    required = dict.fromkeys((CLUSTER, cluster.name) for cluster in clusters)
    body = route_configuration(settings.subject, segment, apis)
    return (
        *clusters,
        # Envoy 1.40 asks for a route configuration only when a scope names it, and ignores one it has not
        # asked for. Until it has it the new scope answers 404 like before, the other scopes as they did.
        # The scope carries no deployments: it never changes, and an ACK of it is an ACK of none of them.
        entry(SCOPED_ROUTES, scope, scope_body(settings.subject, segment), (), ()),
        entry(ROUTES, routes, body, tuple(required), [api.ref for api in apis]),
    )
