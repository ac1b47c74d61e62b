"""Clusters: one per upstream, shared by all APIs that use it.

A cluster's name ends in a hash of its content: a changed upstream is a new cluster, and traffic moves to it
with the route, when it is warm. IP addresses make a static cluster; with a host name among the endpoints, all
of them are resolved by DNS, repeatedly. For `https` the certificate must be valid by `CA_BUNDLE` and for the
host.
"""

import re
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from ipaddress import ip_address

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    CircuitBreakersThresholdsRetryBudget,
    Cluster,
    ClusterCustomClusterType,
    ClusterDiscoveryType,
    UpstreamConnectionOptions,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    DataSource,
    Http1ProtocolOptions,
    SocketAddress,
    TcpKeepalive,
    TransportSocket,
)
from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions as CommonOptions
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.clusters.common.dns.v3 import DnsLookupFamily
from envoy_data_plane.envoy.extensions.clusters.dns.v3 import DnsCluster
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from gateways import model
from gateways.config_resource import ConfigResource, DeploymentRef, content_version
from gateways.model import GatewaySettings, Upstream
from xds.encoding import Encoded, any_of, build, encode
from xds.translate.names import PROTOCOL_OPTIONS, cluster_name
from xds.types import CLUSTER

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
"""Path of the trusted CA certificates on the proxies' machines; set it before translating."""

BUFFER_BYTES = 32_768
"""Bytes that are read and not yet forwarded, per connection."""

UPSTREAM_IDLE = timedelta(seconds=30)
"""Connections to upstreams that carry nothing are closed after this time; many servers close theirs soon."""

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?")


def cluster_entry(
    settings: GatewaySettings, upstream: Upstream, position: int, refs: Sequence[DeploymentRef] = ()
) -> ConfigResource:
    """The cluster of an upstream that these deployments use."""
    name, version, body = _cluster(settings.subject, upstream, CA_BUNDLE)
    return ConfigResource(
        settings.subject, settings.kind, CLUSTER, name, version, position, body, deployments=tuple(refs)
    )


def upstream_cluster(gateway: str, upstream: Upstream) -> str:
    """The name of an upstream's cluster on a gateway (its subject)."""
    return _cluster(gateway, upstream, CA_BUNDLE)[0]


@lru_cache(maxsize=16_384)
def rewrites_host(upstream: Upstream) -> bool:
    """Whether requests carry the upstream's host instead of the caller's: for host names and https."""
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
    # The name contains a digest of all other content of the cluster.
    digest = content_version(encode(cluster))[:8]
    short = f"{_readable(upstream)}-{digest}"
    name = cluster.name = cluster_name(gateway, short)
    # Metrics use it as one label: a dot would end the label, and begin another metric.
    cluster.alt_stat_name = short.replace(".", "_")
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
        **({"type": ClusterDiscoveryType.STATIC} if static else {"cluster_type": _dns()}),
        connect_timeout=timedelta(milliseconds=upstream.connect_timeout_ms),
        load_assignment=build(
            ClusterLoadAssignment,
            endpoints=[build(LocalityLbEndpoints, lb_endpoints=[_endpoint(e, one_host) for e in active])],
        ),
        transport_socket=_tls(active[0].host, one_host, ca_bundle) if secure else None,
        per_connection_buffer_limit_bytes=BUFFER_BYTES,
        circuit_breakers=_limits(upstream.max_in_flight),
        upstream_connection_options=_keepalive(),
        typed_extension_protocol_options=_protocol(),
    )


@lru_cache(maxsize=1)
def _dns() -> Encoded:
    """Every endpoint with a host name is resolved again when its DNS record expires, or after 5 s when its
    TTL is 0."""
    dns = build(DnsCluster, respect_dns_ttl=True, dns_lookup_family=DnsLookupFamily.V4_PREFERRED)
    kind = build(ClusterCustomClusterType, name="envoy.clusters.dns", typed_config=any_of(dns))
    return Encoded(encode(kind))


@lru_cache(maxsize=256)
def _limits(in_flight: int) -> Encoded:
    """Envoy's own default is 1,024 requests, and 3 retries at a time."""
    thresholds = build(
        CircuitBreakersThresholds,
        max_connections=in_flight,
        max_pending_requests=in_flight,
        max_requests=in_flight,
        retry_budget=build(CircuitBreakersThresholdsRetryBudget, min_retry_concurrency=10),
    )
    return Encoded(encode(build(CircuitBreakers, thresholds=[thresholds])))


@lru_cache(maxsize=1)
def _keepalive() -> Encoded:
    """A peer that vanished without closing the connection is detected after 90 s."""
    keepalive = build(TcpKeepalive, keepalive_time=60, keepalive_interval=10, keepalive_probes=3)
    return Encoded(encode(build(UpstreamConnectionOptions, tcp_keepalive=keepalive)))


@lru_cache(maxsize=1)
def _protocol() -> dict[str, Encoded]:
    options = build(
        HttpProtocolOptions,
        common_http_protocol_options=build(CommonOptions, idle_timeout=UPSTREAM_IDLE),
        explicit_http_config=build(
            HttpProtocolOptionsExplicitHttpConfig, http_protocol_options=build(Http1ProtocolOptions)
        ),
    )
    return {PROTOCOL_OPTIONS: Encoded(encode(any_of(options)))}


def _endpoint(endpoint: model.Endpoint, one_host: bool) -> LbEndpoint:
    default_port = 443 if endpoint.scheme == "https" else 80
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    # The Host header is rewritten to this name. With several https hosts it is also the SNI of the TLS
    # handshake, which has no port.
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
        # SNI cannot contain an address; the certificate must contain it.
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
