"""Converts policies of WSO2's oldest form to current ones."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

from definitions.source.document_reader import Node, mapping

Side = Literal["request", "response"]
_NAMED = Callable[[Node, str], list[Any]]


def policies(nodes: Iterable[Node], side: Side) -> list[Any]:
    """The policies in order; adjacent ones that set headers are merged. Unknown names are kept."""
    found: list[Any] = []
    runs: list[Any] = []
    run: Any = None
    for node in nodes:
        if not node.is_mapping:
            node.expected("a mapping")
            continue
        name = node.at("name").required()
        if name is None:
            continue
        for key in node.value:
            if key not in ("name", "params", "version", "executionCondition"):
                node.at(key).not_used()
        if name not in _TRANSLATED:
            found.append(_kept(node))
            run = None
            continue
        for policy in _TRANSLATED[name](node.at("params"), side):
            sets = policy["name"] == "set-headers"
            if sets and run is not None:
                run["params"][side]["headers"] += policy["params"][side]["headers"]
                continue
            found.append(policy)
            run = policy if sets else None
            runs += [run] if sets else []
    for policy in runs:
        policy["params"][side]["headers"] = _last_of_each(policy["params"][side]["headers"])
    return found


def _last_of_each(headers: list[Any]) -> list[Any]:
    last = {str(header["name"]).lower(): header for header in headers}
    return [header for header in headers if last[str(header["name"]).lower()] is header]


def api_key(node: Node) -> list[Any]:
    """The policy for `{header | query | cookie: NAME}`, or `{key, in}` unchanged."""
    params = mapping(node.value)
    if "key" in params:
        return [_policy("api-key-auth", {k: v for k, v in params.items() if k != "enabled"})]
    for place in ("header", "query", "cookie"):
        if params.get(place):
            return [_policy("api-key-auth", {"key": params[place], "in": place})]
    node.error("required", "apiKey needs header or query: the location of the key in the request")
    return []


def _policy(name: str, params: Any) -> dict[str, Any]:
    return {"name": name, "version": "v1", "params": params}


def _kept(node: Node) -> dict[str, Any]:
    names = {"executionCondition": "condition"}
    used = ("name", "version", "params", "executionCondition")
    return {names.get(k, k): node.value[k] for k in used if node.value.get(k) is not None}


def _jwt(params: Node, side: str) -> list[Any]:
    return [_policy("jwt-auth", params.value or {})]


def _rate_limit(params: Node, side: str) -> list[Any]:
    limit, window = params.at("limit"), params.at("window")
    if not isinstance(limit.value, int) or isinstance(limit.value, bool):
        limit.expected("a whole number")
    if not isinstance(window.value, str):
        window.expected("a duration, such as 1m")
    return [_policy("basic-ratelimit", {"limits": [{"requests": limit.value, "duration": window.value}]})]


def _set_header(params: Node, side: str) -> list[Any]:
    return _set([params], side)


def _remove_header(params: Node, side: str) -> list[Any]:
    return _remove([params], side)


def _header_modify(params: Node, side: str) -> list[Any]:
    """`{set | add: …, remove: …}`, each a mapping, or a list of `{name, value}` or names."""
    made: list[Any] = []
    fields = params.fields(("set", "add", "remove"), "warning")
    for key in ("set", "add"):
        if key in fields:
            made += _set(_entries(fields[key]), side)
    if "remove" in fields:
        made += _remove(fields["remove"].items(), side)
    return made


def _entries(node: Node) -> list[Node]:
    if node.is_mapping:
        return [node.at(key) for key in mapping(node.value)]
    return node.items()


def _set(nodes: list[Node], side: str) -> list[Any]:
    headers: list[Any] = []
    for node in nodes:
        if not node.is_mapping:
            headers.append({"name": node.name, "value": node.value})
            continue
        name = _header_name(node)
        value = node.at("value").text()
        if value is not None and "${" in value:
            node.at("value").warning(
                "expression", "expressions are not evaluated: the text is sent unchanged", False
            )
        if "value" not in node:
            node.at("value").missing()
        headers.append({"name": name or "", "value": value})
    return [_policy("set-headers", {side: {"headers": headers}})]


def _remove(nodes: list[Node], side: str) -> list[Any]:
    names = [node.value if isinstance(node.value, str) else _header_name(node) for node in nodes]
    return [_policy("remove-headers", {side: {"headers": [{"name": name} for name in names]}})]


def _header_name(node: Node) -> str | None:
    key = next((k for k in ("name", "key", "header") if k in node), "name")
    return node.at(key).required()


_TRANSLATED: dict[str, _NAMED] = {
    "apiKey": lambda params, side: api_key(params),
    "jwt": _jwt,
    "rateLimit": _rate_limit,
    "headerModify": _header_modify,
    "SET_HEADER": _set_header,
    "REMOVE_HEADER": _remove_header,
}
