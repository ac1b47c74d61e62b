"""`remove-headers`: headers taken off the request or the answer.

Parameters: `{request: {headers: [{name}]}, response: {headers: [{name}]}}`; a plain name
may stand for `{name}`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from xds.translate.headers import change_problem, read_sides
from xds.translate.policy import Effects, PolicyKind, is_mapping, unknown_keys


def _apply(params: Mapping[str, Any], effects: Effects) -> Iterable[str]:
    def read(item: Any, side: str, where: str) -> Iterable[str]:
        name: Any = item
        if is_mapping(item):
            yield from unknown_keys(item, ("name",), f"{where}/")
            name = item.get("name")
        if problem := change_problem(name):
            yield f"{where}/name: {problem}"
            return
        changes = effects.request_headers if side == "request" else effects.response_headers
        changes[str(name).lower()] = None

    yield from read_sides(params, read)


POLICY = PolicyKind("remove-headers", _apply)
