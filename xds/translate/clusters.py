"""Clusters: one per upstream, whoever uses it.

A cluster's name ends in a hash of its content: a changed upstream is a new cluster, and traffic moves
to it with the route, when it is warm. IP addresses make a static cluster; with a host name among the
endpoints all are resolved and followed by DNS. For `https` the certificate must be valid by
`CA_BUNDLE` and for the host.
"""

import re
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache
from ipaddress import ip_address

from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterDnsLookupFamily,
)
from envoy_data_plane.envoy.config.core.v3 import Address, DataSource, SocketAddress, TransportSocket
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from gateways import model
from gateways.entry import Cause, Entry, content_version
from gateways.model import DeployedApi, GatewaySettings, Upstream
from xds.encoding import any_of, build, encode
from xds.translate.names import cluster_name
from xds.types import CLUSTER

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
"""Where the proxies' machines keep the certificate authorities they trust; set it before translating."""

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?")


def cluster_entries(
    settings: GatewaySettings, upstreams: Iterable[Upstream], position: int, causes: tuple[Cause, ...] = ()
) -> tuple[Entry, ...]:
    """One entry per upstream."""
    entries: list[Entry] = []
    for upstream in dict.fromkeys(upstreams):
        name, version, body = _cluster(settings.subject, upstream, CA_BUNDLE)
        entries.append(
            Entry(settings.subject, settings.kind, CLUSTER, name, version, position, body, causes=causes)
        )
    return tuple(entries)


def upstreams_of(api: DeployedApi) -> tuple[Upstream, ...]:
    """The upstreams an API sends requests to, each once, in the order of their first use."""
    arms = [arm for route in api.routes for arm in route.arms]
    arms += api.sandbox_arms if api.sandbox_hosts else ()
    return tuple(dict.fromkeys(arm.upstream for arm in arms if arm.weight > 0))


def upstream_cluster(settings: GatewaySettings, upstream: Upstream) -> str:
    """The name of an upstream's cluster."""
    return _cluster(settings.subject, upstream, CA_BUNDLE)[0]


@lru_cache(maxsize=16_384)
def rewrites_host(upstream: Upstream) -> bool:
    """Whether requests carry the upstream's host instead of the caller's: behind names and https."""
    return any(e.scheme == "https" or not _is_ip(e.host) for e in upstream.endpoints if e.weight > 0)


@lru_cache(maxsize=16_384)
def upstream_problems(upstream: Upstream) -> tuple[str, ...]:
    problems: list[str] = []
    active = [e for e in upstream.endpoints if e.weight > 0]
    if not active:
        problems.append("an upstream without an endpoint of a weight above 0")
    if len({e.scheme for e in active}) > 1:
        problems.append("an upstream with both http and https endpoints")
    if upstream.connect_timeout_ms <= 0:
        problems.append("a connect timeout of 0: Envoy always limits the time to connect")
    for e in upstream.endpoints:
        if not _is_ip(e.host) and not _HOST.fullmatch(e.host):
            problems.append(f"the upstream host {e.host!r}: neither an address nor a host name")
        if not 1 <= e.port <= 65535:
            problems.append(f"the upstream port {e.port}: must be 1 to 65535")
        if not 0 <= e.weight <= 1_000_000:
            problems.append(f"the endpoint weight {e.weight}: must be 0 to 1000000")
    return tuple(problems)


@lru_cache(maxsize=16_384)
def _cluster(gateway: str, upstream: Upstream, ca_bundle: str) -> tuple[str, str, bytes]:
    """Name, version and body."""
    cluster = _build(upstream, ca_bundle)
    # The name is made of what the cluster is: everything but the name itself.
    digest = content_version(encode(cluster))[:8]
    name = cluster.name = cluster_name(gateway, f"{_readable(upstream)}-{digest}")
    assert cluster.load_assignment is not None
    cluster.load_assignment.cluster_name = name
    body = encode(cluster)
    return name, content_version(body), body


def _build(upstream: Upstream, ca_bundle: str) -> Cluster:
    active = [e for e in upstream.endpoints if e.weight > 0]
    static = all(_is_ip(e.host) for e in active)
    secure = active[0].scheme == "https"
    one_host = len({e.host for e in active}) == 1
    return build(
        Cluster,
        type=ClusterDiscoveryType.STATIC if static else ClusterDiscoveryType.STRICT_DNS,
        connect_timeout=timedelta(milliseconds=upstream.connect_timeout_ms),
        load_assignment=build(
            ClusterLoadAssignment,
            endpoints=[build(LocalityLbEndpoints, lb_endpoints=[_endpoint(e, one_host) for e in active])],
        ),
        dns_lookup_family=ClusterDnsLookupFamily.V4_PREFERRED if not static else ClusterDnsLookupFamily.AUTO,
        transport_socket=_tls(active[0].host, one_host, ca_bundle) if secure else None,
    )


def _endpoint(endpoint: model.Endpoint, one_host: bool) -> LbEndpoint:
    default_port = 443 if endpoint.scheme == "https" else 80
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    # The name the Host header is rewritten to. With several https hosts it is also the name asked for in
    # the TLS handshake, which has no port.
    with_port = endpoint.port != default_port and (endpoint.scheme == "http" or one_host)
    rewritten = endpoint.scheme == "https" or not _is_ip(endpoint.host)
    return build(
        LbEndpoint,
        endpoint=build(
            Endpoint,
            address=build(
                Address,
                socket_address=build(SocketAddress, address=endpoint.host, port_value=endpoint.port),
            ),
            hostname=(f"{host}:{endpoint.port}" if with_port else host) if rewritten else "",
        ),
        load_balancing_weight=endpoint.weight,
    )


def _tls(host: str, one_host: bool, ca_bundle: str) -> TransportSocket:
    named = one_host and not _is_ip(host)
    validation = build(CertificateValidationContext, trusted_ca=build(DataSource, filename=ca_bundle))
    if one_host and not named:
        # An address cannot be asked for by name in the handshake; the certificate must hold it.
        matcher = build(
            SubjectAltNameMatcher,
            san_type=SubjectAltNameMatcherSanType.IP_ADDRESS,
            matcher=build(StringMatcher, exact=host),
        )
        validation.match_typed_subject_alt_names = [matcher]
    tls = build(
        UpstreamTlsContext,
        common_tls_context=build(CommonTlsContext, validation_context=validation),
        sni=host if named else "",
        auto_host_sni=not one_host,
        auto_sni_san_validation=named or not one_host,
    )
    return build(TransportSocket, name="envoy.transport_sockets.tls", typed_config=any_of(tls))


def _readable(upstream: Upstream) -> str:
    first = upstream.endpoints[0]
    host = re.sub(r"[^a-z0-9.]+", "-", first.host.lower()).strip("-")[:40]
    return f"{host}-{first.port}"


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
