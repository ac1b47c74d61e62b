"""Scopes: the first segment of a path selects the route configuration; for parts, `xds.translate.split`."""

from envoy_data_plane.envoy.config.route.v3 import (
    ScopedRouteConfiguration,
    ScopedRouteConfigurationKey,
    ScopedRouteConfigurationKeyFragment,
)

from xds.encoding import build, encode
from xds.scopes import route_name, scope_name


def scope_body(gateway: str, unit: str) -> bytes:
    return encode(
        build(
            ScopedRouteConfiguration,
            name=scope_name(gateway, unit),
            route_configuration_name=route_name(gateway, unit),
            key=build(
                ScopedRouteConfigurationKey,
                fragments=[build(ScopedRouteConfigurationKeyFragment, string_key=unit)],
            ),
        )
    )
