"""A real Envoy on what the translator makes, its discovery replaced by one static file."""

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gateways.config_resource import ConfigResource
from tests.support.hang_guard import HANG_SECONDS
from tests.support.real_envoy import real_envoy
from xds.bootstrap import RUNTIME, STATS
from xds.types import CLUSTER, LISTENER, ROUTES, SCOPED_ROUTES, message_class


def envoy_binary() -> str:
    return str(real_envoy())


def resource(entry: ConfigResource) -> dict[str, Any]:
    return message_class(entry.type).parse(entry.body).to_dict()


def static_bootstrap(entries: Iterable[ConfigResource], *, port: int = 0) -> dict[str, Any]:
    """A bootstrap that holds the entries; scopes hold their routes, listening is on `port`."""
    by_type: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in entries:
        by_type.setdefault(entry.type, {})[entry.name] = resource(entry)
    listener = next(iter(by_type[LISTENER].values()))
    listener["address"]["socketAddress"]["portValue"] = port
    scoped = listener["filterChains"][0]["filters"][-1]["typedConfig"]["scopedRoutes"]
    del scoped["scopedRds"], scoped["rdsConfigSource"]
    scopes: list[dict[str, Any]] = []
    for scope in by_type.get(SCOPED_ROUTES, {}).values():
        routes = by_type[ROUTES][scope.pop("routeConfigurationName")]
        scopes.append(scope | {"routeConfiguration": routes})
    scoped["scopedRouteConfigurationsList"] = {"scopedRouteConfigurations": scopes}
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {
            "listeners": [listener],
            "clusters": list(by_type.get(CLUSTER, {}).values()),
        },
        "stats_config": STATS,
        "layered_runtime": {"layers": [{"name": "signalbox", "static_layer": RUNTIME}]},
    }


def validate(bootstrap: dict[str, Any], directory: Path) -> str:
    """What Envoy says against a bootstrap; empty when it takes it."""
    file = directory / "envoy.json"
    file.write_text(json.dumps(bootstrap), encoding="utf-8")
    command = [envoy_binary(), "--mode", "validate", "-c", str(file), "-l", "error"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)
    return "" if done.returncode == 0 else done.stdout + done.stderr
