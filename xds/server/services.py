"""The discovery services of xDS: the aggregated one, and one for each resource type.

Source: envoy/service/*/v3/*.proto. A stream of the aggregated service carries all types; a stream of
any other service carries one.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

from gateways.config_resource import PRIVATE
from xds.server.limits import LONGEST_TYPE
from xds.server.wire import DeltaRequest, StateRequest, WireError
from xds.types import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SCOPED_ROUTES, SECRET, VIRTUAL_HOST

R = TypeVar("R", DeltaRequest, StateRequest)


@dataclass(frozen=True, slots=True)
class Service:
    """A gRPC service: its full name, its methods per variant ("": not offered), its type ("": all)."""

    name: str
    delta: str
    state: str
    type: str = ""


def _of(package: str, service: str, resources: str, type: str) -> Service:
    return Service(
        f"envoy.service.{package}.v3.{service}DiscoveryService",
        f"Delta{resources}",
        f"Stream{resources}",
        type,
    )


AGGREGATED = _of("discovery", "Aggregated", "AggregatedResources", "")

SERVICES = (
    AGGREGATED,
    _of("cluster", "Cluster", "Clusters", CLUSTER),
    _of("endpoint", "Endpoint", "Endpoints", ENDPOINTS),
    _of("listener", "Listener", "Listeners", LISTENER),
    _of("route", "Route", "Routes", ROUTES),
    _of("route", "ScopedRoutes", "ScopedRoutes", SCOPED_ROUTES),
    replace(_of("route", "VirtualHost", "VirtualHosts", VIRTUAL_HOST), state=""),
    _of("secret", "Secret", "Secrets", SECRET),
    _of("extension", "ExtensionConfig", "ExtensionConfigs", EXTENSION),
)


def typed(request: R, service: Service) -> R:
    """The request, with the service's type if it has none.

    Raises WireError for a request without a type to the aggregated service, for a type that is too long, for
    another type than the service's, and for private types of Signalbox.
    """
    if not request.type:
        request.type = service.type
    if not request.type:
        raise WireError("type_url is missing")
    if len(request.type) > LONGEST_TYPE:
        raise WireError(f"type_url takes at most {LONGEST_TYPE} characters, it has {len(request.type)}")
    if request.type.startswith(PRIVATE):
        raise WireError(f"{request.type} is not served")
    if service.type and request.type != service.type:
        raise WireError(f"{service.name} serves {service.type}, the request is for {request.type}")
    return request
