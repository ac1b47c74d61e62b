"""Names of resources, header names and filter names. A resource's name is a path below its gateway."""

LISTENER_PATH = "listeners/main"

GATEWAY_PREFIX = "x-signalbox-"
"""Headers with this prefix are the gateway's own."""
SCOPE_HEADER = "x-signalbox-scope"
"""Set by the listener on every request, from the path; never taken from a client, never sent upstream."""
PROBE_HEADER = "x-signalbox-probe"
REVISION_HEADER = "x-signalbox-revision"
DEPLOYMENT_HEADER = "x-signalbox-deployment"

CORS_FILTER = "envoy.filters.http.cors"
CODEC_FILTER = "envoy.filters.http.upstream_codec"
PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
UPSTREAM_ACCESS_FILTER = "envoy.filters.http.upstream_rbac"
SCOPE_FILTER = "scope"
RESELECT_FILTER = "reselect"
"""The two filters that take a request from the routes of a split unit to those of one of its APIs, or of a
group of them."""
PART_SCOPE_FILTER = "part-scope"
PART_RESELECT_FILTER = "part-reselect"
"""Those that take it from the routes of a group to those of one of its APIs."""
ROUTER_FILTER = "envoy.filters.http.router"


def listener_name(gateway: str) -> str:
    return f"{gateway}/{LISTENER_PATH}"


def scoped_routes_name(gateway: str) -> str:
    return f"{gateway}/scopes"


def cluster_name(gateway: str, upstream: str) -> str:
    return f"{gateway}/upstreams/{upstream}"
