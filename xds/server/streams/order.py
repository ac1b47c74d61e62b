"""The order in which one aggregated stream sends and removes resource types.

Source: xDS protocol, "Eventual consistency considerations": a resource is sent before those that refer to it,
and removed after them.
"""

from xds.types import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SCOPED_ROUTES, SECRET, VIRTUAL_HOST

SENDING = (CLUSTER, ENDPOINTS, SECRET, EXTENSION, LISTENER, SCOPED_ROUTES, ROUTES, VIRTUAL_HOST)
REMOVING = (LISTENER, SCOPED_ROUTES, ROUTES, VIRTUAL_HOST, EXTENSION, SECRET, ENDPOINTS, CLUSTER)

_SENDING = {type: rank for rank, type in enumerate(SENDING)}
_REMOVING = {type: rank for rank, type in enumerate(REMOVING)}

WHOLE_STATE = frozenset((CLUSTER, LISTENER, SCOPED_ROUTES))
"""Types whose state-of-the-world responses are complete: a resource that is left out is removed."""


def sending_rank(type: str) -> int:
    """Unknown types are sent last."""
    return _SENDING.get(type, len(SENDING))


def removing_rank(type: str) -> int:
    """Unknown types are removed first: no known type refers to them."""
    return _REMOVING.get(type, -1)


def may_refer(type: str, to: str) -> bool:
    """Whether resources of `type` may need those of the type `to`, which are then removed after them. Routes
    of a unit that is split need the scopes of its parts."""
    return removing_rank(type) < removing_rank(to) or (type, to) == (ROUTES, SCOPED_ROUTES)
