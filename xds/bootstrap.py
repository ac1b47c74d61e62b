"""The file an Envoy starts with: who it is, and where its configuration comes from."""

from collections.abc import Iterable
from typing import Any

_XDS_CLUSTER = "signalbox-xds"

MAX_CONNECTIONS = 50_000
"""Callers' connections at a time, per node; more are closed at once."""

RUNTIME: dict[str, Any] = {
    # Envoy refuses expressions above a program size of 100, which is a path of 90 characters with one
    # parameter. The longest that the translator lets through stays well below this.
    "re2.max_program_size.error_level": 50_000,
    "re2.max_program_size.warn_level": 50_000,
}
"""Runtime settings the translated configuration relies on."""


def bootstrap(
    *,
    node_id: str,
    gateway: str,
    token: str,
    xds_host: str,
    xds_port: int,
    other_servers: Iterable[tuple[str, int]] = (),
    admin_host: str = "127.0.0.1",
    admin_port: int = 0,
    admin_socket: str = "",
) -> dict[str, Any]:
    """Envoy's bootstrap as JSON can say it.

    `gateway` is the gateway's subject and becomes the node's cluster; `token` is sent as a bearer token
    on the discovery stream, so the file is a secret. The admin interface listens on `admin_socket`
    (a path) when given, else on `admin_host:admin_port`. Listeners, clusters and routes come over one
    delta stream (ADS), from one server after the other until one answers; a control plane that is back
    is found again within a second.
    """
    ads: dict[str, Any] = {"ads": {}, "resource_api_version": "V3"}
    admin: dict[str, Any] = (
        {"pipe": {"path": admin_socket, "mode": 0o600}} if admin_socket else _address(admin_host, admin_port)
    )
    return {
        "node": {"id": node_id, "cluster": gateway},
        "admin": {"address": admin},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [
                    {
                        "envoy_grpc": {
                            "cluster_name": _XDS_CLUSTER,
                            "retry_policy": {
                                "retry_back_off": {"base_interval": "0.050s", "max_interval": "1s"}
                            },
                        },
                        "initial_metadata": [{"key": "authorization", "value": f"Bearer {token}"}],
                    }
                ],
            },
            "lds_config": ads,
            "cds_config": ads,
        },
        "static_resources": {"clusters": [_xds_cluster([(xds_host, xds_port), *other_servers])]},
        # Counters of Envoy's own parts stay; those of each cluster are made only when they are first used.
        "stats_config": {"stats_tags": [], "use_all_default_tags": False},
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.resource_monitors"
                        ".downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": MAX_CONNECTIONS,
                    },
                }
            ]
        },
        "layered_runtime": {"layers": [{"name": "signalbox", "static_layer": RUNTIME}]},
    }


def _xds_cluster(servers: Iterable[tuple[str, int]]) -> dict[str, Any]:
    return {
        "name": _XDS_CLUSTER,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": _XDS_CLUSTER,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(host, port)}} for host, port in servers]}
            ],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {
                        # A control plane that is gone without a word is noticed, and an idle stream kept.
                        "connection_keepalive": {"interval": "10s", "timeout": "5s"}
                    }
                },
            }
        },
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
