"""`set-headers`: sets headers of the request or the answer, replacing existing values.

Parameters: `{request: {headers: [{name, value}]}, response: {headers: [{name, value}]}}`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from xds.translate.headers import change_problem, value_problem
from xds.translate.policies.params import Side, is_mapping, read_sides, unknown_keys
from xds.translate.policies.policy import Contributions, PolicyKind


def _apply(params: Mapping[str, Any], contributions: Contributions) -> Iterable[str]:
    def read(item: Any, side: Side, where: str) -> Iterable[str]:
        if not is_mapping(item):
            yield f"{where}: must have name and value"
            return
        yield from unknown_keys(item, ("name", "value"), f"{where}/")
        name, value = item.get("name"), item.get("value")
        problems = [(f"{where}/name", change_problem(name)), (f"{where}/value", value_problem(value))]
        found = [f"{place}: {problem}" for place, problem in problems if problem]
        yield from found
        if not found:
            changes = contributions.headers(side)
            changes[str(name).lower()] = str(value)

    yield from read_sides(params, read)


POLICY = PolicyKind("set-headers", _apply)
