"""In which order resource types are sent, and taken away again, on one aggregated stream.

Source: xDS protocol, "Eventual consistency considerations": what is referred to goes first, and
is removed last.
"""

_PREFIX = "type.googleapis.com/envoy."

CLUSTER = _PREFIX + "config.cluster.v3.Cluster"
ENDPOINTS = _PREFIX + "config.endpoint.v3.ClusterLoadAssignment"
SECRET = _PREFIX + "extensions.transport_sockets.tls.v3.Secret"
EXTENSION = _PREFIX + "config.core.v3.TypedExtensionConfig"
LISTENER = _PREFIX + "config.listener.v3.Listener"
SCOPED_ROUTES = _PREFIX + "config.route.v3.ScopedRouteConfiguration"
ROUTES = _PREFIX + "config.route.v3.RouteConfiguration"
VIRTUAL_HOST = _PREFIX + "config.route.v3.VirtualHost"

SENDING = (CLUSTER, ENDPOINTS, SECRET, EXTENSION, LISTENER, SCOPED_ROUTES, ROUTES, VIRTUAL_HOST)
REMOVING = (LISTENER, SCOPED_ROUTES, ROUTES, VIRTUAL_HOST, EXTENSION, SECRET, ENDPOINTS, CLUSTER)

_SENDING = {type: rank for rank, type in enumerate(SENDING)}
_REMOVING = {type: rank for rank, type in enumerate(REMOVING)}

WHOLE_STATE = frozenset((CLUSTER, LISTENER, SCOPED_ROUTES))
"""Types of which a state-of-the-world response always holds everything: what it leaves out is removed."""


def sending_rank(type: str) -> int:
    """Types of which nothing is known are sent last."""
    return _SENDING.get(type, len(SENDING))


def removing_rank(type: str) -> int:
    """Types of which nothing is known are taken away first: nothing known refers to them."""
    return _REMOVING.get(type, -1)
