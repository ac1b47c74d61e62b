"""The interface of a policy, and the contributions of the policies of an operation."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from betterproto2 import Message
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter

from gateways.model import Upstream
from xds.encoding import any_of, build
from xds.translate.clusters import upstream_cluster
from xds.translate.policies.params import Side


def _no_changes() -> "dict[str, str | None]":
    return {}


@dataclass(slots=True)
class Contributions:
    """The additions of an operation's policies to Envoy's configuration. A later one replaces an earlier one.

    `request_headers` and `response_headers`: changes by lower-case name (None removes), in the order of the
    policies. `filters`: the configuration that an HTTP filter has on the route, by the filter's name; it also
    enables a filter that is disabled in the chain. `upstreams`: those that filters send requests to.
    """

    gateway: str = ""
    """The subject of the gateway; empty while the policies are only checked."""
    request_headers: dict[str, str | None] = field(default_factory=_no_changes)
    response_headers: dict[str, str | None] = field(default_factory=_no_changes)
    filters: dict[str, Message] = field(default_factory=dict[str, Message])
    upstreams: dict[Upstream, None] = field(default_factory=dict[Upstream, None])

    def headers(self, side: Side) -> dict[str, str | None]:
        return self.request_headers if side == "request" else self.response_headers

    def cluster(self, upstream: Upstream) -> str:
        """Adds an upstream to those that the API needs; the name of its cluster, empty without a gateway."""
        self.upstreams[upstream] = None
        return upstream_cluster(self.gateway, upstream) if self.gateway else ""


@dataclass(frozen=True, slots=True)
class PolicyKind:
    """A policy that Envoy can carry out.

    `apply(params, contributions)` adds to the contributions and yields every problem of the parameters as a
    text that begins with its location: `request/headers/0/name: ...`. `filters` are the HTTP filters that it
    needs in the chain of every gateway.
    """

    name: str
    apply: Callable[[Mapping[str, Any], Contributions], Iterable[str]]
    filters: tuple[HttpFilter, ...] = ()


def http_filter(name: str, config: Message) -> HttpFilter:
    """An HTTP filter of the chain; `config` applies to routes without a configuration of their own."""
    return build(HttpFilter, name=name, typed_config=any_of(config))


def disabled_filter(name: str, config: Message) -> HttpFilter:
    """An HTTP filter of the chain that does nothing on routes without a configuration of their own."""
    return build(HttpFilter, name=name, typed_config=any_of(config), disabled=True)
