"""The route configuration of a unit: the APIs whose contexts begin with the same segment, or one of them.

Envoy looks for a route only in the one virtual host that fits the request's host best. So the virtual host of
a name holds the routes of every API that serves this name: by the name itself, by a `*.` pattern, or by `*`.
Longer contexts come first, then those with the more specific host; a context is included once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from envoy_data_plane.envoy.config.route.v3 import Route, RouteConfiguration, VirtualHost

from gateways.translator import Dispatching, PartGroup
from xds.encoding import Encoded, build, encode, extended
from xds.scopes import GROUP_SEPARATOR, route_name
from xds.translate.names import PROBE_HEADER, SCOPE_HEADER
from xds.translate.resilience import default_retries
from xds.translate.routes import TranslatedApi
from xds.translate.split import dispatching_filters, route_to_group, route_to_part


@dataclass(frozen=True, slots=True)
class _Bound:
    """Routes below a context, on some hosts; `headers` are added to all their answers."""

    context: str
    hosts: Sequence[str]
    routes: Sequence[Encoded]
    headers: Sequence[Encoded] = ()

    def with_headers(self) -> Iterator[Encoded]:
        """The routes with the headers in each."""
        return (extended(Route, route, "response_headers_to_add", self.headers) for route in self.routes)


def route_configuration(gateway: str, unit: str, apis: Sequence[TranslatedApi]) -> bytes:
    """The encoded route configuration of a unit with all routes of its APIs."""
    bound: list[_Bound] = []
    for api in apis:
        bound.append(_Bound(api.context, api.hosts, api.routes, api.headers))
        bound.append(_Bound(api.context, api.sandbox_hosts, api.sandbox_routes, api.headers))
    return _encoded(gateway, unit, bound, {})


def dispatching_configuration(gateway: str, name: str, dispatching: Dispatching) -> bytes:
    """The encoded route configuration of a unit that is split, or of a group of its parts."""
    bound = [
        _Bound(part.context, (*part.hosts, *part.sandbox_hosts), (route_to_part(part),))
        for part in dispatching.parts
    ]
    grouped = bool(dispatching.groups) or GROUP_SEPARATOR in name
    return _encoded(gateway, name, bound, dispatching_filters(grouped=grouped), dispatching.groups)


def _encoded(
    gateway: str,
    unit: str,
    bound: Sequence[_Bound],
    filters: Mapping[str, object],
    groups: Sequence[PartGroup] = (),
) -> bytes:
    served: dict[str, list[tuple[str, int]]] = {}
    for index, each in enumerate(bound):
        for host in each.hosts:
            served.setdefault(host, []).append((each.context, index))
    domains: dict[tuple[int, ...], list[str]] = {}
    for host in sorted(served):
        domains.setdefault(_chosen(host, served), []).append(host)
    to_groups: dict[tuple[str, ...], list[Encoded]] = {}
    for group in groups:
        to_groups.setdefault(group.hosts, []).append(route_to_group(group))
    routes = (
        *((names, _routes([bound[i] for i in chosen])) for chosen, names in domains.items()),
        *((names, {"routes": to_group}) for names, to_group in to_groups.items()),
    )
    virtual_hosts = [
        build(
            VirtualHost,
            name=names[0],
            domains=list(names),
            **fields,
            retry_policy=default_retries(),
        )
        for names, fields in routes
    ]
    return encode(
        build(
            RouteConfiguration,
            name=route_name(gateway, unit),
            virtual_hosts=virtual_hosts,
            request_headers_to_remove=[SCOPE_HEADER, PROBE_HEADER],
            ignore_port_in_host_matching=True,
            typed_per_filter_config=filters,
        )
    )


def _routes(chosen: Sequence[_Bound]) -> dict[str, object]:
    """The fields of a virtual host. The headers of a single API are those of the virtual host: in each route
    they take more of Envoy's memory."""
    if len(chosen) == 1:
        return {"routes": chosen[0].routes, "response_headers_to_add": chosen[0].headers}
    return {"routes": [route for each in chosen for route in each.with_headers()]}


def _chosen(host: str, served: Mapping[str, Sequence[tuple[str, int]]]) -> tuple[int, ...]:
    """What the virtual host of `host` has of the bound routes, in order."""
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
