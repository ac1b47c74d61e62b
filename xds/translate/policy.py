"""The interface of a policy kind, and the combined effects of the policies of a route."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from envoy_data_plane.envoy.extensions.filters.http.cors.v3 import CorsPolicy


def _no_changes() -> "dict[str, str | None]":
    return {}


@dataclass(slots=True)
class Effects:
    """Header changes by lower-case name (None removes), in the order they were asked for, and CORS."""

    request_headers: dict[str, str | None] = field(default_factory=_no_changes)
    response_headers: dict[str, str | None] = field(default_factory=_no_changes)
    cors: CorsPolicy | None = None


@dataclass(frozen=True, slots=True)
class PolicyKind:
    """A policy Envoy can carry out: its name, and how its parameters change a route.

    `apply(params, effects)` adds to the effects and yields what is wrong with the parameters, each
    as a sentence that begins with the place: `request/headers/0/name: ...`.
    """

    name: str
    apply: Callable[[Mapping[str, Any], Effects], Iterable[str]]


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def unknown_keys(params: Mapping[str, Any], known: Iterable[str], where: str = "") -> Iterable[str]:
    names = tuple(known)
    for key in params:
        if key not in names:
            yield f"{where}{key}: not a parameter here, known are {', '.join(names)}"
