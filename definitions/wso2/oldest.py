"""WSO2's oldest form: `version: api-platform.wso2.com/v1`, `kind: http/rest`, with `data` or `spec`.

It has no published schema. Unsupported parts are warnings; disabled parts are ignored.
"""

from collections.abc import Mapping
from typing import Any

from definitions.form import DEFAULT_PROJECT, ParsedDocument
from definitions.signalbox_api import KIND, checked_spec
from definitions.source.document_reader import DocumentReader, Node, described, mapping
from definitions.urls import split_url
from definitions.validating import is_name, slug
from definitions.wso2 import oldest_policies
from definitions.wso2.rest_api import method

FORM = "api-platform.wso2.com/v1"
TITLE: str = f"version: {FORM} with kind: http/rest"

_TOP = ("version", "kind", "data", "spec")
_BODY = (
    "name", "displayName", "version", "description", "context", "upstream", "operations", "security", "cors",
    "backend-services", "api-rate-limiting",
)  # fmt: skip


_REQUEST = (
    "method", "path", "policies", "requestPolicies", "responsePolicies", "backend-services", "authentication",
    "description", "name",
)  # fmt: skip
_POLICIES: Mapping[str, oldest_policies.Side] = {
    "policies": "request", "requestPolicies": "request", "responsePolicies": "response"
}  # fmt: skip


def claims(value: Mapping[str, Any]) -> bool:
    return value.get("version") == FORM


def read(reader: DocumentReader, name: str | None) -> ParsedDocument | None:
    root = reader.root
    root.fields(_TOP, "warning")
    kind = root.at("kind").required()
    if kind is not None and kind.lower() != "http/rest":
        root.at("kind").error("unknown-kind", f"{kind!r} is not supported; only http/rest is")
        return None
    if "data" in root and "spec" in root:
        root.at("spec").error("contradiction", "give data or spec, not both", key=True)
        return None
    body = root.at("spec" if "spec" in root else "data")
    if body.value is None:
        body.error("required", "data or spec is missing")
        return None
    parsed = _Body(body)
    title = parsed.read(name)
    checked = checked_spec(reader, parsed.data, parsed.origins, body.pointer)
    return ParsedDocument(KIND, title, DEFAULT_PROJECT, FORM, checked) if title and checked else None


class _Body:
    def __init__(self, body: Node) -> None:
        self._body = body
        self.data: dict[str, Any] = {}
        self.origins: dict[str, str] = {}

    def read(self, name: str | None) -> str | None:
        """Fills `data`; returns the API's name."""
        if not self._body.is_mapping:
            self._body.expected("a mapping")
            return None
        for key in self._body.value:
            if key not in _BODY:
                self._body.at(key).not_used()
        title = self._names(name)
        policies = [*_security(self._body.at("security")), *_cors(self._body.at("cors")),
                    *_rate_limit(self._body.at("api-rate-limiting"))]  # fmt: skip
        if policies:
            self.data["policies"] = policies
        services = "backend-services" if "backend-services" in self._body else "upstream"
        self.origins["/upstreams"] = self.origins["/backends"] = self._body.at(services).pointer
        if services == "backend-services":
            self._services(self._body.at("backend-services"))
        else:
            self._upstream(self._body.at("upstream"))
        operations = self._body.at("operations")
        if operations.value is None:
            operations.missing()
        names = {u["name"] for u in self.data.get("upstreams", ())}
        self.data["operations"] = [self._operation(n, i, names) for i, n in enumerate(operations.items())]
        return title

    def _names(self, name: str | None) -> str | None:
        written = self._body.at("name").required()
        self.data["display_name"] = self._body.value.get("displayName", written or "")
        for key in ("version", "context"):
            self.data[key] = self._body.at(key).required()
        context, version = self.data["context"], self.data["version"]
        if context is not None and version is not None:
            self.data["context"] = context.replace("$version", version)
        if "description" in self._body:
            self.data["description"] = self._body.value["description"]
        if written is None:
            return name
        found = written if is_name(written) else name or slug(written)
        if not found:
            self._body.at("name").error("name", f"no name follows from {written!r}")
        return found or None

    def _upstream(self, node: Node) -> None:
        if node.value is None:
            node.missing()
            return
        targets = [_target(item) for item in node.items()]
        self._add("default", node, [t for t in targets if t is not None])
        self.data["backends"] = [{"upstream": "default"}]

    def _add(self, name: str, node: Node, targets: list[tuple[Node, str, str, Any]]) -> dict[str, Any]:
        """Adds an upstream with these endpoints (node, URL, path, weight), which must have the same path."""
        upstreams: list[Any] = self.data.setdefault("upstreams", [])
        at = f"/upstreams/{len(upstreams)}"
        self.origins[at] = node.pointer
        self.origins[f"{at}/endpoints"] = node.pointer
        upstream: dict[str, Any] = {"name": name, "endpoints": []}
        for i, (place, url, path, weight) in enumerate(targets):
            for part in ("", "/url", "/weight"):
                self.origins[f"{at}/endpoints/{i}{part}"] = f"{place.pointer}{part}"
            upstream["endpoints"].append({"url": url} if weight is None else {"url": url, "weight": weight})
            if path != upstream.setdefault("base_path", path):
                place.at("url").error("url", "the endpoints of one service must have the same path")
        upstreams.append(upstream)
        return upstream

    def _services(self, node: Node) -> None:
        first, marked = None, None
        for item in node.items():
            name = item.at("name").required() if item.is_mapping else None
            if name is None:
                continue
            upstream = self._add(name, item, _endpoints(item))
            self.origins[f"/upstreams/{len(self.data['upstreams']) - 1}/name"] = item.at("name").pointer
            _pass_over(item, ("name", "isDefault", "endpoints", "timeout", "retries"))
            limits = self._timeouts(item, upstream)
            first = first or (name, limits)
            marked = marked or ((name, limits) if item.value.get("isDefault") is True else None)
        chosen = marked or first
        if chosen is not None:
            self.data["backends"] = [{"upstream": chosen[0]}]
            if chosen[1]:
                self.data["resilience"] = chosen[1]

    def _timeouts(self, item: Node, upstream: dict[str, Any]) -> dict[str, Any]:
        """Timeouts and retries of a service; those of the default service apply to the API."""
        found: dict[str, Any] = {}
        at = f"/upstreams/{len(self.data['upstreams']) - 1}/connect_timeout"
        timeout = item.at("timeout")
        for key, part in timeout.fields(("connect", "read", "write")).items() if timeout.value else ():
            if key == "connect":
                upstream["connect_timeout"] = part.value
                self.origins[at] = part.pointer
            elif key == "read":
                found["timeout"] = part.value
                self.origins["/resilience/timeout"] = part.pointer
            else:
                part.not_used("only connect and read are supported")
        if "retries" in item:
            found["retries"] = item.value["retries"]
            self.origins["/resilience/retries"] = item.at("retries").pointer
        return found

    def _operation(self, node: Node, index: int, names: set[str]) -> Any:
        if not node.is_mapping:
            return node.value
        request = node.at("request") if "request" in node else node
        if not request.is_mapping:
            request.expected("a mapping")
            return {}
        at = f"/operations/{index}"
        self.origins[at] = node.pointer
        for key in ("method", "path", "policies"):
            self.origins[f"{at}/{key}"] = request.at(key).pointer
        data: dict[str, Any] = {"method": method(request.at("method")), "path": request.at("path").required()}
        if request is not node:
            _pass_over(node, ("name", "description", "request"))
            if "name" in node:
                data["operation_id"] = node.value["name"]
                self.origins[f"{at}/operation_id"] = node.at("name").pointer
        if "authentication" in request:
            message = "authentication is not enforced by itself: add a policy that does it"
            request.at("authentication").warning("not-enforced", message)
        _pass_over(request, _REQUEST)
        policies: list[Any] = []
        for key, side in _POLICIES.items():
            if key in request:
                policies += oldest_policies.policies(request.at(key).items(), side)
        if policies:
            data["policies"] = policies
        backends = _backends(request.at("backend-services"), names)
        if backends:
            data["backends"] = backends
            self.origins[f"{at}/backends"] = request.at("backend-services").pointer
        return data


def _backends(node: Node, names: set[str]) -> list[Any]:
    found: list[Any] = []
    for item in node.items() if node.value is not None else ():
        fields = item.fields(("name", "weight"), "warning")
        name = item.at("name").required()
        if name is not None and name not in names:
            item.at("name").warning(
                "unknown-upstream", f"there is no backend service {name!r}; left out", False
            )
        elif name is not None:
            weight = {"weight": fields["weight"].value} if "weight" in fields else {}
            found.append({"upstream": name, **weight})
    return found


def _target(item: Node) -> tuple[Node, str, str, Any] | None:
    if not item.is_mapping:
        item.expected("a mapping")
        return None
    split = split_url(item.at("url"))
    return (item, *split, item.value.get("weight")) if split else None


def _endpoints(item: Node) -> list[tuple[Node, str, str, Any]]:
    node = item.at("endpoints")
    if node.value is None:
        node.missing()
        return []
    found: list[tuple[Node, str, str, Any]] = []
    for endpoint in node.items():
        target = _target(endpoint)
        if target is not None:
            _pass_over(endpoint, ("url", "description", "weight"))
            found.append(target)
    return found


def _pass_over(node: Node, used: tuple[str, ...]) -> None:
    """Adds warnings about entries that are neither used nor disabled."""
    for key, value in mapping(node.value).items():
        if key not in used and mapping(value).get("enabled") is not False:
            node.at(key).not_used()


def _security(node: Node) -> list[Any]:
    if not node.is_mapping or node.value.get("enabled") is False:
        return []
    found: list[Any] = []
    for key, value in node.value.items():
        if key == "apiKey" and mapping(value).get("enabled", True) is not False:
            found += oldest_policies.api_key(node.at(key))
        elif key not in ("enabled", "apiKey") and _switched_on(value):
            node.at(key).not_used("add a policy that does it")
    return found


def _switched_on(value: object) -> bool:
    if isinstance(value, bool):
        return value
    return any(k != "scopes" and _switched_on(v) for k, v in mapping(value).items())


def _cors(node: Node) -> list[Any]:
    if not node.is_mapping or node.value.get("enabled") is False:
        return []
    names = {"allowOrigins": "allowedOrigins", "allowMethods": "allowedMethods",
             "allowHeaders": "allowedHeaders", "exposeHeaders": "exposedHeaders"}  # fmt: skip
    params: dict[str, Any] = {}
    for key, value in node.value.items():
        if key in names:
            parts = value.split(",") if isinstance(value, str) else None
            params[names[key]] = value if parts is None else [p.strip() for p in parts if p.strip()]
        elif key in ("maxAge", "allowCredentials"):
            params[key] = value
        elif key != "enabled":
            node.at(key).not_used()
    return [{"name": "cors", "version": "v1", "params": params}]


def _rate_limit(node: Node) -> list[Any]:
    if not node.is_mapping or node.value.get("enabled") is False:
        return []
    units = {"second": "1s", "minute": "1m", "hour": "1h", "day": "24h"}
    unit, count = node.value.get("rateLimitTimeUnit"), node.value.get("rateLimitCount")
    if not isinstance(unit, str) or unit not in units:
        message = f"one of {', '.join(units)}, not {described(unit)}"
        node.at("rateLimitTimeUnit").error("choice", message)
        return []
    if not isinstance(count, int):
        node.at("rateLimitCount").expected("a whole number")
        return []
    _pass_over(node, ("enabled", "rateLimitTimeUnit", "rateLimitCount", "stopOnQuotaReach"))
    limits = [{"requests": count, "duration": units[unit]}]
    return [{"name": "basic-ratelimit", "version": "v1", "params": {"limits": limits}}]
