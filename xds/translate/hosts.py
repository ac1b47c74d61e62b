"""The route configuration of a unit: the APIs whose contexts begin with the same segment.

Envoy looks for a route only in the one virtual host that fits the request's host best. So the virtual host of
a name holds the routes of every API that serves this name: by the name itself, by a `*.` pattern, or by `*`.
Longer contexts come first, then those with the more specific host; a context is included once.
"""

from collections.abc import Mapping, Sequence

from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration, VirtualHost

from xds.encoding import Encoded, build, encode
from xds.translate.names import PROBE_HEADER, SCOPE_HEADER, route_name
from xds.translate.resilience import default_retries
from xds.translate.routes import TranslatedApi


def route_configuration(gateway: str, segment: str, apis: Sequence[TranslatedApi]) -> bytes:
    """The encoded route configuration."""
    served: dict[str, list[tuple[str, int]]] = {}
    bindings: list[tuple[Encoded, ...]] = []
    for api in apis:
        for hosts, routes in ((api.hosts, api.routes), (api.sandbox_hosts, api.sandbox_routes)):
            for host in hosts:
                served.setdefault(host, []).append((api.context, len(bindings)))
            bindings.append(routes)
    domains: dict[tuple[int, ...], list[str]] = {}
    for host in sorted(served):
        domains.setdefault(_chosen(host, served), []).append(host)
    virtual_hosts = [
        build(
            VirtualHost,
            name=names[0],
            domains=names,
            routes=[route for i in chosen for route in bindings[i]],
            retry_policy=default_retries(),
        )
        for chosen, names in domains.items()
    ]
    return encode(
        build(
            RouteConfiguration,
            name=route_name(gateway, segment),
            virtual_hosts=virtual_hosts,
            request_headers_to_remove=[SCOPE_HEADER, PROBE_HEADER],
            ignore_port_in_host_matching=True,
        )
    )


def _chosen(host: str, served: Mapping[str, Sequence[tuple[str, int]]]) -> tuple[int, ...]:
    """The APIs whose routes are in the virtual host of `host`, in order."""
    patterns = [host] if host == "*" else [host, *_wider(host)]
    found = [
        (-len(context), rank, context, binding)
        for rank, pattern in enumerate(patterns)
        for context, binding in served.get(pattern, ())
    ]
    chosen: dict[str, int] = {}
    for _, _, context, binding in sorted(found):
        chosen.setdefault(context, binding)
    return tuple(chosen.values())


def _wider(host: str) -> list[str]:
    """The patterns that match a host too, the most specific first: `a.b.c` -> `*.b.c`, `*.c`, `*`."""
    labels = host.removeprefix("*.").split(".")
    start = 0 if host.startswith("*.") else 1
    patterns = ["*." + ".".join(labels[i:]) for i in range(start, len(labels))]
    return [*(p for p in patterns if p != host), "*"]
