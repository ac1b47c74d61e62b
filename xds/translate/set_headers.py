"""`set-headers`: headers set on the request or the answer, replacing what is there.

Parameters: `{request: {headers: [{name, value}]}, response: {headers: [{name, value}]}}`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from xds.translate.headers import change_problem, read_sides, value_problem
from xds.translate.policy import Effects, PolicyKind, is_mapping, unknown_keys


def _apply(params: Mapping[str, Any], effects: Effects) -> Iterable[str]:
    def read(item: Any, side: str, where: str) -> Iterable[str]:
        if not is_mapping(item):
            yield f"{where}: must have name and value"
            return
        yield from unknown_keys(item, ("name", "value"), f"{where}/")
        name, value = item.get("name"), item.get("value")
        problems = [(f"{where}/name", change_problem(name)), (f"{where}/value", value_problem(value))]
        found = [f"{place}: {problem}" for place, problem in problems if problem]
        yield from found
        if not found:
            changes = effects.request_headers if side == "request" else effects.response_headers
            changes[str(name).lower()] = str(value)

    yield from read_sides(params, read)


POLICY = PolicyKind("set-headers", _apply)
