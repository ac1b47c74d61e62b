"""Limits of the xDS server, before and after authentication."""

import resource
from dataclasses import dataclass

LARGEST_REQUEST = 16 << 20
"""Bytes of one request on an authenticated stream: the names and versions of about 100,000 resources."""
LARGEST_FIRST_REQUEST = 4 << 20
"""Bytes of a stream's first request, which names the node."""
LONGEST_NODE_ID = 253
LONGEST_AGENT = 200
"""Characters of the user agent of a proxy."""
LONGEST_REASON = 100_000
"""Characters of a rejection's reason that are evaluated; the rest is ignored."""
LONGEST_TYPE = 300
MOST_TYPES = 64
"""Resource types on one stream."""
MOST_DESCRIPTORS = 1 << 20
"""Upper bound of the file descriptors to divide: gRPC's argument has 32 bits."""

_WINDOW = 16 << 10
_METADATA = 16 << 10


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for callers whose gateway is not known yet, and for connections.

    At most `connections` are open, further ones are closed at once; None: three eighths of the process's
    file descriptors, as HTTP may use half of them. A connection that has not finished its handshake after
    `handshake_ms`, or had no stream for `idle_ms`, is closed. Per token, at most `awaited` first requests are
    read concurrently; other streams wait. A stream whose first request has not been read after
    `first_request_seconds` ends.
    """

    connections: int | None = None
    streams_per_connection: int = 1_024
    waiting_streams: int = 5_000
    handshake_ms: int = 10_000
    idle_ms: int = 30_000
    awaited: int = 128
    first_request_seconds: float = 30

    def options(self) -> tuple[tuple[str, int], ...]:
        """Channel arguments of gRPC."""
        connections = self.connections
        if connections is None:
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            descriptors = MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, MOST_DESCRIPTORS)
            connections = max(1, descriptors * 3 // 8)
        return (
            ("grpc.max_receive_message_length", LARGEST_REQUEST),
            ("grpc.max_metadata_size", _METADATA),
            ("grpc.absolute_max_metadata_size", _METADATA),
            ("grpc.max_allowed_incoming_connections", connections),
            ("grpc.max_concurrent_streams", self.streams_per_connection),
            # By default gRPC cancels some streams at random from 1,000 unaccepted streams on.
            ("grpc.server.max_pending_requests", self.waiting_streams),
            ("grpc.server.max_pending_requests_hard_limit", self.waiting_streams + 1_000),
            ("grpc.server_handshake_timeout_ms", self.handshake_ms),
            ("grpc.max_connection_idle_ms", self.idle_ms),
            # Bytes buffered per stream until they are read, whatever the bandwidth.
            ("grpc.http2.lookahead_bytes", _WINDOW),
            ("grpc.http2.bdp_probe", 0),
        )


LIMITS = Limits()
