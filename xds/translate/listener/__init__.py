"""The one listener of a gateway. It does not depend on APIs, so it never changes with one.

A private header is overwritten with the normalised path of each request before any other filter reads it, and
the first segment of that path chooses the scope: a client cannot choose it otherwise. Slashes that were
percent-encoded are refused or decoded before: the routed path is then also the one that an upstream may make
of the request.
"""

from datetime import timedelta
from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    CidrRange,
    ConfigSource,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    HttpProtocolOptionsHeadersWithUnderscoresAction,
    SocketAddress,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.http.upstream_codec.v3 import UpstreamCodec
from envoy_data_plane.envoy.extensions.filters.network.connection_limit.v3 import ConnectionLimit
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerInternalAddressConfig,
    HttpConnectionManagerServerHeaderTransformation,
    HttpFilter,
    ScopedRds,
    ScopedRoutes,
    ScopedRoutesScopeKeyBuilder,
    ScopedRoutesScopeKeyBuilderFragmentBuilder,
    ScopedRoutesScopeKeyBuilderFragmentBuilderHeaderValueExtractor,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManagerPathWithEscapedSlashesAction as EscapedSlashesAction,
)

from gateways.config_resource import ConfigResource, content_version
from gateways.model import GatewaySettings
from gateways.upstream_access import UpstreamAccess
from xds.encoding import any_of, build, encode
from xds.translate.listener.access_log import access_log
from xds.translate.listener.headers import answers_filter, early_mutation, host_filter
from xds.translate.listener.local_replies import local_replies
from xds.translate.listener.upstreams import access_filter
from xds.translate.names import (
    CODEC_FILTER,
    ROUTER_FILTER,
    SCOPE_HEADER,
    listener_name,
    scoped_routes_name,
)
from xds.translate.policies import http_filters
from xds.translate.split import split_filters
from xds.types import LISTENER

# An empty list would mean all private addresses and loopback, whose x-envoy-* headers Envoy applies.
_NOBODY = build(CidrRange, address_prefix="0.0.0.0", prefix_len=32)

MAX_CONNECTIONS = 50_000
"""Maximum number of concurrent client connections to a node's listener; further ones are closed at once."""

_ESCAPED_SLASHES = {
    "reject": EscapedSlashesAction.REJECT_REQUEST,
    "redirect": EscapedSlashesAction.UNESCAPE_AND_REDIRECT,
    "decode": EscapedSlashesAction.UNESCAPE_AND_FORWARD,
}
_UNDERSCORE_HEADERS = {
    "reject": HttpProtocolOptionsHeadersWithUnderscoresAction.REJECT_REQUEST,
    "drop": HttpProtocolOptionsHeadersWithUnderscoresAction.DROP_HEADER,
    "allow": HttpProtocolOptionsHeadersWithUnderscoresAction.ALLOW,
}


def listener_entries(settings: GatewaySettings, position: int) -> tuple[ConfigResource, ...]:
    """The gateway's listener, which does not depend on its APIs."""
    name = listener_name(settings.subject)
    body = _listener(settings)
    return (
        ConfigResource(
            settings.subject, settings.kind, LISTENER, name, content_version(body), position, body
        ),
    )


@lru_cache(maxsize=1024)
def _listener(settings: GatewaySettings) -> bytes:
    limit = build(ConnectionLimit, stat_prefix="main", max_connections=MAX_CONNECTIONS)
    connections = build(Filter, name="envoy.filters.network.connection_limit", typed_config=any_of(limit))
    manager = build(Filter, name="http", typed_config=any_of(_connection_manager(settings)))
    address = build(SocketAddress, address=settings.address, port_value=settings.port)
    return encode(
        build(
            Listener,
            name=listener_name(settings.subject),
            address=build(Address, socket_address=address),
            stat_prefix="main",
            per_connection_buffer_limit_bytes=32_768,
            filter_chains=[build(FilterChain, filters=[connections, manager])],
        )
    )


def _connection_manager(settings: GatewaySettings) -> HttpConnectionManager:
    return build(
        HttpConnectionManager,
        stat_prefix="main",
        scoped_routes=_scoped_routes(settings.subject),
        http_filters=[
            host_filter(),
            *split_filters(),
            *http_filters(),
            build(HttpFilter, name=ROUTER_FILTER, typed_config=any_of(_router(settings.access))),
        ],
        early_header_mutation_extensions=[early_mutation(forwarding=settings.trusted_proxies > 0)],
        access_log=[access_log()],
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action=_ESCAPED_SLASHES[settings.escaped_slashes],
        # The peer is the client, or the nearest of the trusted proxies.
        use_remote_address=True,
        xff_num_trusted_hops=settings.trusted_proxies,
        internal_address_config=build(HttpConnectionManagerInternalAddressConfig, cidr_ranges=[_NOBODY]),
        common_http_protocol_options=build(
            HttpProtocolOptions,
            idle_timeout=timedelta(hours=1),
            headers_with_underscores_action=_UNDERSCORE_HEADERS[settings.underscore_headers],
        ),
        http2_protocol_options=build(
            Http2ProtocolOptions,
            max_concurrent_streams=100,
            initial_stream_window_size=65_536,
            initial_connection_window_size=1_048_576,
        ),
        stream_idle_timeout=timedelta(minutes=5),
        request_headers_timeout=timedelta(seconds=10),
        request_timeout=timedelta(minutes=5),
        server_header_transformation=HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH,
        local_reply_config=local_replies(),
    )


def _router(access: UpstreamAccess) -> Router:
    """The upstream filters apply to all clusters: no cluster has filters of its own."""
    codec = build(HttpFilter, name=CODEC_FILTER, typed_config=any_of(build(UpstreamCodec)))
    filters = [access_filter(access), answers_filter(), codec]
    return build(Router, suppress_envoy_headers=True, upstream_http_filters=filters)


def _scoped_routes(gateway: str) -> ScopedRoutes:
    extractor = build(
        ScopedRoutesScopeKeyBuilderFragmentBuilderHeaderValueExtractor,
        name=SCOPE_HEADER,
        element_separator="/",
        index=1,
    )
    fragment = build(ScopedRoutesScopeKeyBuilderFragmentBuilder, header_value_extractor=extractor)
    return build(
        ScopedRoutes,
        name=scoped_routes_name(gateway),
        scope_key_builder=build(ScopedRoutesScopeKeyBuilder, fragments=[fragment]),
        rds_config_source=_ads(),
        scoped_rds=build(ScopedRds, scoped_rds_config_source=_ads()),
    )


def _ads() -> ConfigSource:
    return build(ConfigSource, ads=build(AggregatedConfigSource), resource_api_version=ApiVersion.V3)
