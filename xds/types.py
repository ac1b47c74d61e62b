"""Type URLs: the resource types of xDS, and the message classes of packed messages."""

import importlib
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from betterproto2 import Message

_PREFIX = "type.googleapis.com/envoy."

CLUSTER = _PREFIX + "config.cluster.v3.Cluster"
ENDPOINTS = _PREFIX + "config.endpoint.v3.ClusterLoadAssignment"
SECRET = _PREFIX + "extensions.transport_sockets.tls.v3.Secret"
EXTENSION = _PREFIX + "config.core.v3.TypedExtensionConfig"
LISTENER = _PREFIX + "config.listener.v3.Listener"
SCOPED_ROUTES = _PREFIX + "config.route.v3.ScopedRouteConfiguration"
ROUTES = _PREFIX + "config.route.v3.RouteConfiguration"
VIRTUAL_HOST = _PREFIX + "config.route.v3.VirtualHost"

ResourceKey = tuple[str, str]
"""Type URL and name."""

# A message inside an Any can only be packed or read once its module is imported: this lists every module
# whose messages a resource may hold, so that the order of imports does not matter.
PACKED = (
    "envoy_data_plane.envoy.config.cluster.v3",
    "envoy_data_plane.envoy.config.listener.v3",
    "envoy_data_plane.envoy.config.route.v3",
    "envoy_data_plane.envoy.extensions.clusters.dns.v3",
    "envoy_data_plane.envoy.extensions.filters.http.cors.v3",
    "envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3",
    "envoy_data_plane.envoy.extensions.filters.http.rbac.v3",
    "envoy_data_plane.envoy.extensions.filters.http.router.v3",
    "envoy_data_plane.envoy.extensions.filters.http.set_filter_state.v3",
    "envoy_data_plane.envoy.extensions.filters.http.upstream_codec.v3",
    "envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3",
    "envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3",
    "envoy_data_plane.envoy.extensions.access_loggers.filters.cel.v3",
    "envoy_data_plane.envoy.extensions.access_loggers.filters.process_ratelimit.v3",
    "envoy_data_plane.envoy.extensions.access_loggers.stream.v3",
    "envoy_data_plane.envoy.extensions.filters.network.connection_limit.v3",
    "envoy_data_plane.envoy.extensions.rbac.matchers.upstream_ip_port.v3",
    "envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3",
    "envoy_data_plane.envoy.extensions.transport_sockets.tls.v3",
    "envoy_data_plane.envoy.extensions.upstreams.http.v3",
)


@cache
def _registry() -> "tuple[dict[type[Message], str], dict[str, type[Message]]]":
    for module in PACKED:
        importlib.import_module(module)
    from envoy_data_plane.message_pool import default_message_pool

    # The pool's own tables, so that modules registered later are found as well.
    return default_message_pool.type_to_url, default_message_pool.url_to_type


def type_url(kind: "type[Message]") -> str:
    """The type URL of a message class.

    Raises LookupError for a class of a module that is neither in `PACKED` nor imported.
    """
    try:
        return _registry()[0][kind]
    except KeyError:
        raise LookupError(f"{kind.__module__}.{kind.__qualname__} is no registered message") from None


def message_class(url: str) -> "type[Message]":
    """The message class of a type URL. Raises LookupError when there is none."""
    try:
        return _registry()[1][url]
    except KeyError:
        raise LookupError(f"{url} is no registered message") from None
