"""Access control of upstream addresses, checked when a host was selected, before any connection. So it also
applies to the answers of DNS. One filter serves all clusters."""

from collections.abc import Iterable

from envoy_data_plane.envoy.config.core.v3 import CidrRange, TypedExtensionConfig
from envoy_data_plane.envoy.config.rbac.v3 import Permission, PermissionSet, Policy, Principal
from envoy_data_plane.envoy.config.rbac.v3 import Rbac as Rules
from envoy_data_plane.envoy.config.rbac.v3 import RbacAction as Action
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.rbac.matchers.upstream_ip_port.v3 import UpstreamIpPortMatcher
from envoy_data_plane.envoy.type.v3 import Int64Range

from gateways.upstream_access import NetworkPort, UpstreamAccess
from xds.encoding import any_of, build
from xds.translate.names import UPSTREAM_ACCESS_FILTER


def access_filter(access: UpstreamAccess) -> HttpFilter:
    """An upstream filter: the gateway answers requests to denied addresses itself."""
    policies: dict[str, Policy] = {}
    if access.closed:
        policies["closed"] = _policy(_any(access.closed))
    if access.denied:
        denied = _any(NetworkPort(network) for network in access.denied)
        if access.allowed:
            allowed = _any(NetworkPort(network) for network in access.allowed)
            both = [denied, build(Permission, not_rule=allowed)]
            denied = build(Permission, and_rules=build(PermissionSet, rules=both))
        policies["denied"] = _policy(denied)
    rules = build(Rules, action=Action.DENY, policies=policies)
    rbac = build(Rbac, rules=rules, rules_stat_prefix="upstreams_")
    return build(HttpFilter, name=UPSTREAM_ACCESS_FILTER, typed_config=any_of(rbac))


def _policy(permission: Permission) -> Policy:
    return build(Policy, permissions=[permission], principals=[build(Principal, any=True)])


def _any(places: Iterable[NetworkPort]) -> Permission:
    return build(Permission, or_rules=build(PermissionSet, rules=[_at(place) for place in places]))


def _at(place: NetworkPort) -> Permission:
    prefix, _, length = place.network.partition("/")
    matcher = build(
        UpstreamIpPortMatcher,
        upstream_ip=build(CidrRange, address_prefix=prefix, prefix_len=int(length)),
        upstream_port_range=build(Int64Range, start=place.port, end=place.port + 1) if place.port else None,
    )
    extension = build(
        TypedExtensionConfig, name="envoy.rbac.matchers.upstream_ip_port", typed_config=any_of(matcher)
    )
    return build(Permission, matcher=extension)
