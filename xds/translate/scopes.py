"""Scopes: the first segment of a path selects the route configuration."""

from envoy_data_plane.envoy.config.route.v3 import (
    ScopedRouteConfiguration,
    ScopedRouteConfigurationKey,
    ScopedRouteConfigurationKeyFragment,
)

from xds.encoding import build, encode
from xds.translate.names import route_name, scope_name


def scope_body(gateway: str, segment: str) -> bytes:
    return encode(
        build(
            ScopedRouteConfiguration,
            name=scope_name(gateway, segment),
            route_configuration_name=route_name(gateway, segment),
            key=build(
                ScopedRouteConfigurationKey,
                fragments=[build(ScopedRouteConfigurationKeyFragment, string_key=segment)],
            ),
        )
    )
