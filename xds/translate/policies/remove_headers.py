"""`remove-headers`: removes headers from the request or the answer.

Parameters: `{request: {headers: [{name}]}, response: {headers: [{name}]}}`; a plain name may stand for
`{name}`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from xds.translate.headers import change_problem
from xds.translate.policies.params import Side, is_mapping, read_sides, unknown_keys
from xds.translate.policies.policy import Contributions, PolicyKind


def _apply(params: Mapping[str, Any], contributions: Contributions) -> Iterable[str]:
    def read(item: Any, side: Side, where: str) -> Iterable[str]:
        name: Any = item
        if is_mapping(item):
            yield from unknown_keys(item, ("name",), f"{where}/")
            name = item.get("name")
        if problem := change_problem(name):
            yield f"{where}/name: {problem}"
            return
        contributions.headers(side)[str(name).lower()] = None

    yield from read_sides(params, read)


POLICY = PolicyKind("remove-headers", _apply)
