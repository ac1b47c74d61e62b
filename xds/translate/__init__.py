"""Envoy's resources for a gateway and the APIs on it. Pure: values in, entries out.

`listener_entries` makes what a gateway has once, `api_entries` what all APIs with the same first path
segment have together. An API's clusters are its own part of the cost (`clusters_of`); they are shared
with every API that has the same upstream, so the caller counts who uses a cluster and sends its
removal after the last one (`cluster_names`).
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock

from gateways.config_resource import ConfigResource, DeploymentRef, content_version
from gateways.model import DeployedApi, GatewaySettings, UnsupportedError, Upstream
from xds.translate.check import check
from xds.translate.clusters import cluster_entries, upstream_cluster, upstreams_of
from xds.translate.hosts import route_configuration
from xds.translate.listener import listener_entries
from xds.translate.names import route_name, scope_name
from xds.translate.routes import ApiRoutes, routes_of
from xds.translate.scopes import scope_body
from xds.types import CLUSTER, ROUTES, SCOPED_ROUTES

__all__ = [
    "VERSION",
    "api_entries",
    "check",
    "cluster_entries",
    "cluster_names",
    "clusters_of",
    "group_entries",
    "listener_entries",
]

VERSION: str = "2"
"""See `gateways.translator.Translator`. A test with the golden files fails when it has to be raised."""

_KEPT = 20_000
_keeping = Lock()
"""Gateway sync of several partitions translates large APIs on threads."""
_kept: "OrderedDict[tuple[int, GatewaySettings], tuple[DeployedApi, ApiRoutes]]" = OrderedDict()


def api_entries(
    settings: GatewaySettings, group: str, apis: Sequence[DeployedApi], position: int
) -> tuple[ConfigResource, ...]:
    """Clusters, route configuration and scope of the APIs whose contexts begin with `group`.

    No APIs: the removals of scope and route configuration. Raises UnsupportedError with everything
    `check` finds in any of them.
    """
    entries = group_entries(settings, group, apis, position)
    users: dict[Upstream, list[DeploymentRef]] = {}
    for api in apis:
        for upstream in upstreams_of(api):
            users.setdefault(upstream, []).append(_ref(api))
    clusters = [
        entry
        for upstream, refs in users.items()
        for entry in cluster_entries(settings, (upstream,), position, tuple(refs))
    ]
    return (*clusters, *entries)


def group_entries(
    settings: GatewaySettings, group: str, apis: Sequence[DeployedApi], position: int
) -> tuple[ConfigResource, ...]:
    """`api_entries` without the clusters."""
    refs = tuple(_ref(api) for api in apis)

    def entry(
        type: str, name: str, body: bytes, requires: tuple[tuple[str, str], ...] = ()
    ) -> ConfigResource:
        version = content_version(body)
        return ConfigResource(
            settings.subject, settings.kind, type, name, version, position, body, requires, refs
        )

    routes, scope = route_name(settings.subject, group), scope_name(settings.subject, group)
    if not apis:
        return entry(SCOPED_ROUTES, scope, b""), entry(ROUTES, routes, b"")
    body = route_configuration(settings.subject, group, _translated(settings, apis))
    clusters = dict.fromkeys(name for api in apis for name in cluster_names(settings, api))
    return (
        # Envoy 1.40 asks for a route configuration only when a scope names it, and ignores one it has not
        # asked for. Until it has it the new scope answers 404 like before, the other scopes as they did.
        # It carries no deployments: it never changes, and having it says nothing about any deployment.
        replace(entry(SCOPED_ROUTES, scope, scope_body(settings.subject, group)), deployments=()),
        entry(ROUTES, routes, body, tuple((CLUSTER, name) for name in clusters)),
    )


def clusters_of(settings: GatewaySettings, api: DeployedApi, position: int) -> tuple[ConfigResource, ...]:
    """The clusters one API uses. Raises UnsupportedError as `api_entries` does."""
    if findings := check(api):
        raise UnsupportedError(findings)
    return cluster_entries(settings, upstreams_of(api), position, (_ref(api),))


def cluster_names(settings: GatewaySettings, api: DeployedApi) -> tuple[str, ...]:
    """The names of the clusters one API uses: what to count before a cluster is removed."""
    return tuple(upstream_cluster(settings, upstream) for upstream in upstreams_of(api))


def _ref(api: DeployedApi) -> DeploymentRef:
    context = "".join(f"/{segment.text}" for segment in api.context)
    return DeploymentRef(api.deployment, api.api, api.revision, context, api.hosts[0])


def _translated(
    settings: GatewaySettings, apis: Sequence[DeployedApi]
) -> list[tuple[DeployedApi, ApiRoutes]]:
    """Each API with its routes; in a group of several, only those not seen before are translated.

    An API is the same as before when it is the same object: the caller keeps what it compiled.
    """
    translated: list[tuple[DeployedApi, ApiRoutes]] = []
    for api in apis:
        key = (id(api), settings)
        with _keeping:
            known = _kept.get(key)
            if known is not None:
                _kept.move_to_end(key)
        if known is not None and known[0] is api:
            translated.append(known)
            continue
        if findings := check(api):
            # Go on to the end: whoever reads this wants all of it at once.
            raise UnsupportedError(
                (*findings, *(f for other in apis if other is not api for f in check(other)))
            )
        made = (api, routes_of(settings, api))
        translated.append(made)
        if len(apis) > 1:
            with _keeping:
                _kept[key] = made
                while len(_kept) > _KEPT:
                    _kept.popitem(last=False)
    return translated
