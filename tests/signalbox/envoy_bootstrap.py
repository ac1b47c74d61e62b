"""A static Envoy configuration that answers every request by itself."""

from typing import Any


def static_bootstrap(port: int, admin_port: int, body: str = "here") -> dict[str, Any]:
    manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    answer = {"status": 200, "body": {"inline_string": body}}
    hosts = [
        {
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "direct_response": answer}],
        }
    ]
    filters = [
        {
            "name": "http",
            "typed_config": {
                "@type": f"{manager}.HttpConnectionManager",
                "stat_prefix": "test",
                "route_config": {"name": "all", "virtual_hosts": hosts},
                "http_filters": [{"name": "router", "typed_config": {"@type": router}}],
            },
        }
    ]
    return {
        "admin": {"address": _address(admin_port)},
        "static_resources": {
            "listeners": [
                {"name": "gateway", "address": _address(port), "filter_chains": [{"filters": filters}]}
            ]
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
