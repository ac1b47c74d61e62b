"""Validation of the parameters of policies."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeGuard

Side = Literal["request", "response"]
SIDES: tuple[Side, ...] = ("request", "response")


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def unknown_keys(params: Mapping[str, Any], known: Iterable[str], where: str = "") -> Iterable[str]:
    names = tuple(known)
    for key in params:
        if key not in names:
            yield f"{where}{key}: not a parameter here, known are {', '.join(names)}"


def read_sides(params: Mapping[str, Any], read: Callable[[Any, Side, str], Iterable[str]]) -> Iterable[str]:
    """Walks `{request: {headers: [...]}, response: {headers: [...]}}`, as WSO2's header policies have it.

    Calls `read(item, side, where)` for each item and yields its problems and those of the shape.
    """
    yield from unknown_keys(params, SIDES)
    if not params.get("request") and not params.get("response"):
        yield "request: neither request nor response has headers"
    for side in SIDES:
        part = params.get(side)
        if part is None:
            continue
        items = part.get("headers") if is_mapping(part) else None
        if not is_mapping(part) or not is_list(items):
            yield f"{side}/headers: must be a list"
            continue
        yield from unknown_keys(part, ("headers",), f"{side}/")
        for i, item in enumerate(items):
            yield from read(item, side, f"{side}/headers/{i}")
