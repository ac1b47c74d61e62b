"""A static Envoy configuration that answers every request by itself, or asks an upstream."""

from pathlib import Path
from typing import Any


def static_bootstrap(port: int, admin: Path, body: str = "here", upstream: int = 0) -> dict[str, Any]:
    """`upstream` is a port on loopback; without one every answer is `body`."""
    manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    answer: dict[str, Any] = {"direct_response": {"status": 200, "body": {"inline_string": body}}}
    if upstream:
        answer = {"route": {"cluster": "upstream", "timeout": "0s"}}
    hosts = [
        {
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}} | answer],
        }
    ]
    filters = [
        {
            "name": "http",
            "typed_config": {
                "@type": f"{manager}.HttpConnectionManager",
                "stat_prefix": "main",
                "route_config": {"name": "all", "virtual_hosts": hosts},
                "http_filters": [{"name": "router", "typed_config": {"@type": router}}],
            },
        }
    ]
    return {
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        "static_resources": {
            "clusters": [_cluster(upstream)] if upstream else [],
            "listeners": [
                {"name": "gateway", "address": _address(port), "filter_chains": [{"filters": filters}]}
            ],
        },
    }


def _cluster(port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": "upstream",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
