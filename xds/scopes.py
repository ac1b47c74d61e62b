"""Names of scopes and route configurations, and the route configuration that a scope names."""

from gateways.config_resource import ConfigResource
from xds.encoding import read_varint
from xds.types import ROUTES, SCOPED_ROUTES, ResourceKey

PART_SEPARATOR = "|"
"""Stands in the names of the parts of a unit that is split; no context has it."""
GROUP_SEPARATOR = PART_SEPARATOR * 2
"""In the names of groups of parts; APIs have names."""

_NAME, _ROUTES = 1, 2
"""Fields of `envoy.config.route.v3.ScopedRouteConfiguration`."""
_VARINT, _LENGTH = 0, 2


def scope_name(gateway: str, unit: str) -> str:
    return f"{gateway}/scopes/{unit}"


def route_name(gateway: str, unit: str) -> str:
    return f"{gateway}/routes/{unit}"


def group_name(unit: str, of: str) -> str:
    return f"{unit}{GROUP_SEPARATOR}{of}"


def part_named(entry: ConfigResource) -> str:
    """The part that a route configuration is of; empty when it is that of a unit or a group, or another
    resource."""
    name = entry.name.rpartition("/")[2]
    return name if entry.type == ROUTES and PART_SEPARATOR in name and GROUP_SEPARATOR not in name else ""


def dispatched(entry: ConfigResource) -> tuple[str, str] | None:
    """Of a route configuration that takes requests to parts or groups: the unit, and the name of unit or
    group."""
    name = entry.name.rpartition("/")[2]
    if entry.type != ROUTES or not any(type == SCOPED_ROUTES for type, _ in entry.requires):
        return None
    return name.partition(GROUP_SEPARATOR)[0], name


def part_resources(gateway: str, part: str) -> tuple[ResourceKey, ...]:
    """The scope and the route configuration of a part."""
    return (SCOPED_ROUTES, scope_name(gateway, part)), (ROUTES, route_name(gateway, part))


def routes_of(entry: ConfigResource) -> ResourceKey | None:
    """Type and name of the route configuration that a scope refers to; without it Envoy keeps the whole
    listener warming. None if `entry` is not a valid scope under its own name."""
    if entry.type != SCOPED_ROUTES or not entry.body:
        return None
    try:
        fields = _texts(entry.body)
    except (IndexError, ValueError):
        return None
    if fields.get(_NAME) != entry.name.encode() or _ROUTES not in fields:
        return None
    return ROUTES, fields[_ROUTES].decode("utf-8", "replace")


def _texts(message: bytes) -> dict[int, bytes]:
    """The length-delimited fields, by number. Raises IndexError, ValueError for invalid bytes."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(message):
        tag, at = read_varint(message, at)
        if tag & 7 == _VARINT:
            _, at = read_varint(message, at)
        elif tag & 7 == _LENGTH:
            size, at = read_varint(message, at)
            if at + size > len(message):
                raise ValueError("truncated field")
            found[tag >> 3] = message[at : at + size]
            at += size
        else:
            raise ValueError("unexpected wire type")
    return found
