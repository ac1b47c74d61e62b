"""Envoy's bootstrap configuration: the node's identity and the addresses of its xDS servers."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

_XDS_CLUSTER = "signalbox-xds"

MAX_CONNECTIONS = 50_000
"""Maximum number of concurrent client connections per node; further ones are closed at once."""

RUNTIME: dict[str, Any] = {
    # By default Envoy rejects regular expressions with a program size above 100, such as a path of 90
    # characters with one parameter. All expressions that the translator accepts are well below this.
    "re2.max_program_size.error_level": 50_000,
    "re2.max_program_size.warn_level": 50_000,
}
"""Runtime settings the translated configuration relies on."""

MAX_HEAP = 2 * 1024**3
"""Default heap limit in bytes; 10,000 APIs need less than 700 MB."""

_OF_ROUTES = (
    r".*\.rds\..*\.(config_reload|config_reload_time_ms|init_fetch_timeout|update_attempt|update_duration"
    r"|update_empty|update_failure|update_time|version|version_text)"
)

STATS: dict[str, Any] = {
    # Metrics of clusters, routes and listeners have these as labels, not in their names.
    "use_all_default_tags": True,
    # Of the twelve metrics of every API's route configuration two are kept, update_success and
    # update_rejected: the others take a tenth of Envoy's memory.
    "stats_matcher": {"exclusion_list": {"patterns": [{"safe_regex": {"regex": _OF_ROUTES}}]}},
}

DNS: dict[str, Any] = {
    "name": "envoy.network.dns_resolver.cares",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        # New clusters wait for each other's first DNS answer, so an unresponsive name server must not cost
        # the default of 5 s per attempt. Queries without an answer are repeated.
        "query_timeout_seconds": 1,
        "query_tries": 1,
    },
}


@dataclass(frozen=True, slots=True)
class Trust:
    """`ca`: path of the CA certificates that xDS servers are verified with. `names`: host names or addresses,
    one of which the server's certificate must contain; if empty, names are not verified."""

    ca: str
    names: tuple[str, ...] = ()


def bootstrap(
    *,
    node_id: str,
    gateway: str,
    token: str,
    xds_host: str,
    xds_port: int,
    other_servers: Iterable[tuple[str, int]] = (),
    trust: Trust | None = None,
    admin_host: str = "127.0.0.1",
    admin_port: int = 0,
    admin_socket: str = "",
    max_heap: int = MAX_HEAP,
) -> dict[str, Any]:
    """Envoy's bootstrap, JSON-ready.

    `gateway` is the gateway's subject and becomes the node's cluster; `token` is sent as a bearer token
    on the discovery stream, so the file is a secret. The admin interface listens on `admin_socket`
    (a path) when given, else on `admin_host:admin_port`. `max_heap` is the bytes that Envoy may allocate.
    Listeners, clusters and routes come over one delta stream (ADS). Envoy tries the servers in turn until one
    answers, at least once per second. With `trust` the connection uses TLS.
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
        "static_resources": {"clusters": [_xds_cluster([(xds_host, xds_port), *other_servers], trust)]},
        "stats_config": STATS,
        "typed_dns_resolver_config": DNS,
        # The statistics of a cluster are created on first use.
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "overload_manager": _overload_manager(max_heap),
        "layered_runtime": {"layers": [{"name": "signalbox", "static_layer": RUNTIME}]},
    }


def _overload_manager(max_heap: int) -> dict[str, Any]:
    """As heap usage rises: shorter idle timeouts, then resets of large streams, then rejected requests."""
    heap = "envoy.resource_monitors.fixed_heap"
    monitors = "type.googleapis.com/envoy.extensions.resource_monitors"

    def above(share: float) -> dict[str, Any]:
        return {"name": heap, "threshold": {"value": share}}

    def between(low: float, high: float) -> dict[str, Any]:
        return {"name": heap, "scaled": {"scaling_threshold": low, "saturation_threshold": high}}

    idle = "type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig"
    return {
        "refresh_interval": "0.250s",
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 20},
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": f"{monitors}.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": MAX_CONNECTIONS,
                },
            },
            {
                "name": heap,
                "typed_config": {
                    "@type": f"{monitors}.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": max_heap,
                },
            },
        ],
        "actions": [
            {
                "name": "envoy.overload_actions.reduce_timeouts",
                "triggers": [between(0.80, 0.95)],
                "typed_config": {
                    "@type": idle,
                    "timer_scale_factors": [
                        {"timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout": "2s"},
                        {"timer": "HTTP_DOWNSTREAM_STREAM_IDLE", "min_timeout": "5s"},
                    ],
                },
            },
            {"name": "envoy.overload_actions.shrink_heap", "triggers": [above(0.90)]},
            {
                "name": "envoy.overload_actions.reset_high_memory_stream",
                "triggers": [between(0.90, 0.98)],
            },
            {"name": "envoy.overload_actions.stop_accepting_requests", "triggers": [above(0.95)]},
            {"name": "envoy.overload_actions.stop_accepting_connections", "triggers": [above(0.98)]},
        ],
    }


def _tls(trust: Trust) -> dict[str, Any]:
    validation: dict[str, Any] = {"trusted_ca": {"filename": trust.ca}}
    if trust.names:
        validation["match_typed_subject_alt_names"] = [
            {"san_type": "IP_ADDRESS" if _is_address(name) else "DNS", "matcher": {"exact": name}}
            for name in trust.names
        ]
    context: dict[str, Any] = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {"validation_context": validation, "alpn_protocols": ["h2"]},
    }
    if trust.names and not _is_address(trust.names[0]):
        context["sni"] = trust.names[0]
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _xds_cluster(servers: Iterable[tuple[str, int]], trust: Trust | None) -> dict[str, Any]:
    return {
        **({"transport_socket": _tls(trust)} if trust else {}),
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
                        # Detects a control plane that vanished without closing, and keeps idle streams open.
                        "connection_keepalive": {"interval": "10s", "timeout": "5s"}
                    }
                },
            }
        },
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
