"""What gRPC needs to find servers: listener, routes, cluster and endpoints as its clients read them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ConfigSource,
    Locality,
    SocketAddress,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.listener.v3 import ApiListener, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)

from gateways.config_resource import ConfigResource, content_version
from tests.xds.proxies import GATEWAY
from xds.encoding import any_of, encode
from xds.types import CLUSTER, ENDPOINTS, LISTENER, ROUTES

if TYPE_CHECKING:
    from betterproto2 import Message

SERVICE = "shop"
"""The name that clients dial: the listener's, and the domain of the routes."""

_OURS = ConfigSource(ads=AggregatedConfigSource())


def listener() -> ConfigResource:
    manager = HttpConnectionManager(
        rds=Rds(config_source=_OURS, route_config_name="routes"),
        http_filters=[HttpFilter(name="router", typed_config=any_of(Router()))],
    )
    return _entry(LISTENER, SERVICE, Listener(name=SERVICE, api_listener=ApiListener(any_of(manager))))


def routes(clusters: Mapping[str, str]) -> ConfigResource:
    """Which cluster is called, by prefix of the method's full name."""
    made = [
        Route(match=RouteMatch(prefix=prefix), route=RouteAction(cluster=cluster))
        for prefix, cluster in clusters.items()
    ]
    host = VirtualHost(name=SERVICE, domains=[SERVICE], routes=made)
    return _entry(ROUTES, "routes", RouteConfiguration(name="routes", virtual_hosts=[host]))


def cluster(name: str, policy: ClusterLbPolicy = ClusterLbPolicy.ROUND_ROBIN) -> ConfigResource:
    """Its endpoints have the cluster's name."""
    made = Cluster(
        name=name,
        type=ClusterDiscoveryType.EDS,
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=_OURS),
        lb_policy=policy,
    )
    return _entry(CLUSTER, name, made)


def endpoints(name: str, port: int) -> ConfigResource:
    address = Address(socket_address=SocketAddress(address="127.0.0.1", port_value=port))
    group = LocalityLbEndpoints(
        locality=Locality(region="here"),
        lb_endpoints=[LbEndpoint(endpoint=Endpoint(address=address))],
        load_balancing_weight=1,
    )
    return _entry(ENDPOINTS, name, ClusterLoadAssignment(cluster_name=name, endpoints=[group]))


def removal(entry: ConfigResource) -> ConfigResource:
    return ConfigResource(entry.gateway, entry.kind, entry.type, entry.name, "", entry.position, b"")


def _entry(type: str, name: str, message: "Message") -> ConfigResource:
    body = encode(message)
    return ConfigResource(GATEWAY, "envoy", type, name, content_version(body), 1, body)
