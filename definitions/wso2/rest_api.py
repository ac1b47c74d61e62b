"""WSO2's current form: `apiVersion: gateway.api-platform.wso2.com/v1` (and `v1alpha1`), `kind: RestApi`.

Fields and rules are those of `RestAPIRequest` in `gateway/gateway-controller/api/management-openapi.yaml` of
wso2/api-platform. Its schemas are open, so unknown fields are warnings.
"""

import re
from collections.abc import Mapping
from typing import Any

from definitions.form import DEFAULT_PROJECT, ParsedDocument
from definitions.shapes import milliseconds_at
from definitions.signalbox_api import KIND, checked_spec
from definitions.source.document_reader import DocumentReader, Node, described
from definitions.urls import split_url
from definitions.validating import name_at

GROUP = "gateway.api-platform.wso2.com/"
VERSIONS = ("v1", "v1alpha1")
TITLE: str = f"apiVersion: {GROUP}v1 or v1alpha1"

_DISPLAY_NAME = re.compile(r"[A-Za-z0-9 ._-]{1,100}")
_VERSION = re.compile(r"v[0-9]+(\.[0-9]+){0,2}")
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
_STATES = {"deployed": True, "undeployed": False}
_SPEC = (
    "displayName", "version", "context", "upstream", "upstreamDefinitions", "vhosts", "operations",
    "policies", "resilience", "subscriptionPlans", "deploymentState", "description",
)  # fmt: skip
_OPERATION = ("method", "path", "match", "policies", "resilience", "description")


def claims(value: Mapping[str, Any]) -> bool:
    version = value.get("apiVersion")
    return isinstance(version, str) and version.startswith(GROUP)


def read(reader: DocumentReader, name: str | None) -> ParsedDocument | None:
    root = reader.root
    root.fields(("apiVersion", "kind", "metadata", "spec", "status"), "warning")
    form = root.at("apiVersion")
    if form.value.removeprefix(GROUP) not in VERSIONS:
        form.error("unknown-form", f"{form.value!r} is not supported; supported are {TITLE}")
    kind = root.at("kind").required()
    if kind is not None and kind != "RestApi":
        root.at("kind").error("unknown-kind", f"{kind!r} is not supported; only RestApi is")
        return None
    if "status" in root:
        root.at("status").not_used("the gateway writes it")
    title, data, origins = _metadata(root.at("metadata"), name)
    spec = root.at("spec")
    if spec.value is None:
        spec.missing()
        return None
    parsed = _Spec(spec, data, origins)
    parsed.read()
    checked = checked_spec(reader, data, origins, spec.pointer)
    if title is None or checked is None:
        return None
    return ParsedDocument(KIND, title, DEFAULT_PROJECT, form.value, checked, parsed.deployed)


def _metadata(node: Node, name: str | None) -> tuple[str | None, dict[str, Any], dict[str, str]]:
    data: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if node.value is None and name is not None:
        return name, data, origins
    fields = node.fields(("name", "labels", "annotations"), "warning")
    for key in ("labels", "annotations"):
        if key in fields and fields[key].value is not None:
            data[key] = fields[key].value
            origins[f"/{key}"] = fields[key].pointer
    for key in data.get("labels", {}) if isinstance(data.get("labels"), dict) else ():
        if any(c.isspace() for c in key):
            fields["labels"].at(key).error("label", f"the label {key!r} contains a space", key=True)
    title = name if name is not None and "name" not in fields else name_at(node.at("name"))
    return title, data, origins


class _Spec:
    """Reads `spec` into the data of an ApiSpec, and the origin of each part in the file."""

    def __init__(self, spec: Node, data: dict[str, Any], origins: dict[str, str]) -> None:
        self._spec = spec
        self._data = data
        self._origins = origins
        self.deployed: bool | None = None

    def read(self) -> None:
        fields = self._spec.fields(_SPEC, "warning")
        if not self._spec.is_mapping:
            return
        self._plain(fields)
        self._upstreams(fields)
        if "vhosts" in fields:
            self._vhosts(fields["vhosts"])
        self._data["operations"] = self._operations(self._spec.at("operations"))
        if "policies" in fields:
            self._data["policies"] = [policy(n, self._origins) for n in fields["policies"].items()]
        if "resilience" in fields:
            self._data["resilience"] = resilience(fields["resilience"])
        if "subscriptionPlans" in fields:
            self._data["plans"] = [n.value for n in fields["subscriptionPlans"].items()]
            self._origins["/plans"] = fields["subscriptionPlans"].pointer
        if "deploymentState" in fields:
            state = fields["deploymentState"]
            self.deployed = _STATES.get(state.value) if isinstance(state.value, str) else None
            if self.deployed is None:
                state.error("choice", f"it must be deployed or undeployed, not {described(state.value)}")

    def _plain(self, fields: dict[str, Node]) -> None:
        title = self._spec.at("displayName").required()
        if title is not None:
            self._data["display_name"] = title
            if not _DISPLAY_NAME.fullmatch(title):
                message = f"{title[:100]!r}: 1 to 100 letters, digits, spaces, hyphens, underscores and dots"
                fields["displayName"].error("pattern", message)
        version = self._spec.at("version").required()
        if version is not None:
            self._data["version"] = version
            if not _VERSION.fullmatch(version):
                fields["version"].error("pattern", f"{version!r} is not a version such as v1.0")
        context = self._spec.at("context").required()
        if context is not None:
            self._data["context"] = context.replace("$version", version or "v0")
        if "description" in fields:
            self._data["description"] = fields["description"].value

    def _upstreams(self, fields: dict[str, Node]) -> None:
        upstreams: list[Any] = []
        definitions = fields["upstreamDefinitions"].items() if "upstreamDefinitions" in fields else []
        for i, node in enumerate(definitions):
            self._origins[f"/upstreams/{i}"] = node.pointer
            upstreams.append(upstream_definition(node, i, self._origins))
        defined = [u["name"] for u in upstreams if u.get("name")]
        node = self._spec.at("upstream")
        self._origins["/upstreams"] = self._origins["/backends"] = node.pointer
        if node.value is None:
            node.missing()
            return
        targets = node.fields(("main", "sandbox"), "warning")
        if not node.is_mapping:
            return
        if "main" not in targets:
            node.at("main").missing()
        self._data["upstreams"] = upstreams
        for key, field in (("main", "backends"), ("sandbox", "sandbox_backends")):
            if key in targets:
                self._target(key, field, targets[key], defined)

    def _target(self, key: str, field: str, node: Node, defined: list[str]) -> None:
        fields = node.fields(("url", "ref", "hostRewrite"), "warning")
        if not node.is_mapping:
            return
        self._origins[f"/{field}"] = node.pointer
        if "hostRewrite" in fields:
            _host_rewrite(fields["hostRewrite"])
        if "url" in fields and "ref" in fields:
            node.error("contradiction", f"{key} has url and ref; give one of them", key=True)
        elif "ref" in fields:
            name = fields["ref"].required()
            self._origins[f"/{field}/0/upstream"] = fields["ref"].pointer
            if name is not None and name not in defined:
                fields["ref"].error("unknown-upstream", f"there is no upstreamDefinitions entry {name!r}")
            if name is not None:
                self._data[field] = [{"upstream": name}]
        elif "url" in fields:
            split = split_url(fields["url"])
            if split is None:
                return
            name = key
            while name in defined:
                name += "-url"
            index = len(self._data["upstreams"])
            for part in ("", "/endpoints", "/endpoints/0", "/endpoints/0/url", "/base_path"):
                self._origins[f"/upstreams/{index}{part}"] = fields["url"].pointer
            endpoints = [{"url": split[0]}]
            self._data["upstreams"].append({"name": name, "endpoints": endpoints, "base_path": split[1]})
            self._data[field] = [{"upstream": name}]
        else:
            node.error("required", f"{key} needs a url or a ref", key=True)

    def _vhosts(self, node: Node) -> None:
        fields = node.fields(("main", "sandbox"), "warning")
        if node.is_mapping and "main" not in fields:
            node.at("main").missing()
        for key, field in (("main", "hosts"), ("sandbox", "sandbox_hosts")):
            text = fields[key].required() if key in fields else None
            if text is not None:
                hosts = [host.strip().lower() for host in text.split(";")]
                self._data[field] = [host for host in hosts if host]
                self._origins[f"/{field}"] = fields[key].pointer
                for i in range(len(hosts)):
                    self._origins[f"/{field}/{i}"] = fields[key].pointer

    def _operations(self, node: Node) -> list[Any]:
        if node.value is None:
            node.missing()
            return []
        found: list[Any] = []
        for item in node.items():
            for data in self._operation(item):
                self._origins[f"/operations/{len(found)}"] = item.pointer
                if "match" in item:
                    match = item.at("match")
                    self._origins[f"/operations/{len(found)}/method"] = match.at("method").pointer
                    self._origins[f"/operations/{len(found)}/path"] = match.at("path").at("value").pointer
                    self._origins[f"/operations/{len(found)}/headers"] = match.at("headers").pointer
                found.append(data)
        return found

    def _operation(self, node: Node) -> list[dict[str, Any]]:
        fields = node.fields(_OPERATION, "warning")
        if not node.is_mapping:
            return []
        data: dict[str, Any] = {}
        if "policies" in fields:
            data["policies"] = [policy(n, self._origins) for n in fields["policies"].items()]
        if "resilience" in fields:
            data["resilience"] = resilience(fields["resilience"])
        if "match" not in fields:
            return [data | {"method": method(node.at("method")), "path": _path(node.at("path"))}]
        for key in ("method", "path"):
            if key in fields:
                fields[key].not_used("only match is used")
        return [data | matched for matched in _match(fields["match"])]


def _match(node: Node) -> list[dict[str, Any]]:
    fields = node.fields(("method", "path", "headers"), "warning")
    if not node.is_mapping:
        return []
    data: dict[str, Any] = {"method": method(node.at("method"))}
    if "headers" in fields:
        data["headers"] = [_header(item) for item in fields["headers"].items()]
    path = node.at("path")
    if path.value is None:
        path.missing()
        return []
    path.fields(("value", "type"), "warning")
    if not path.is_mapping:
        return []
    text, kind = _path(path.at("value")), path.value.get("type", "Exact")
    if kind not in ("Exact", "PathPrefix"):
        path.at("type").error("choice", f"type is Exact or PathPrefix, not {described(kind)}")
    if kind != "PathPrefix" or text is None:
        return [data | {"path": text}]
    prefix = text.rstrip("/")
    return [data | {"path": prefix or "/"}, data | {"path": f"{prefix}/*"}]


def _header(node: Node) -> dict[str, Any]:
    fields = node.fields(("name", "value", "type"), "warning")
    return {key: field.value for key, field in fields.items()}


def method(node: Node) -> str | None:
    text = node.required()
    if text is not None and text not in _METHODS:
        node.error("choice", f"{text!r} is not one of the methods {', '.join(_METHODS)}")
    return text


def _path(node: Node) -> str | None:
    text = node.required()
    if text is not None and not text.startswith("/"):
        node.error("pattern", f"{text!r} must begin with /")
    return text


def upstream_definition(node: Node, index: int, origins: dict[str, str]) -> dict[str, Any]:
    fields = node.fields(("name", "basePath", "timeout", "upstreams"), "warning")
    data: dict[str, Any] = {"name": node.at("name").required()} if node.is_mapping else {}
    if "basePath" in fields:
        data["base_path"] = fields["basePath"].value
    if "timeout" in fields:
        connect = fields["timeout"].fields(("connect",), "warning").get("connect")
        data["connect_timeout"] = milliseconds_at(connect) if connect is not None else None
        if connect is not None:
            origins[f"/upstreams/{index}/connect_timeout"] = connect.pointer
    targets = node.at("upstreams")
    origins[f"/upstreams/{index}/endpoints"] = targets.pointer
    if node.is_mapping and targets.value is None:
        targets.missing()
    data["endpoints"] = endpoints = [_endpoint(item) for item in targets.items()]
    if any("weight" in e for e in endpoints):
        data["endpoints"] = [{"weight": 100, **e} for e in endpoints]
    return data


def _endpoint(node: Node) -> dict[str, Any]:
    fields = node.fields(("url", "weight"), "warning")
    data: dict[str, Any] = {}
    split = split_url(node.at("url")) if node.is_mapping else None
    if split is not None:
        data["url"] = split[0]
        if split[1]:
            fields["url"].error("url", "scheme, host and port only; the path belongs into basePath")
    if "weight" in fields:
        data["weight"] = weight = fields["weight"].value
        if isinstance(weight, int) and not 0 <= weight <= 100:
            fields["weight"].error("range", f"a weight is from 0 to 100, not {weight}")
    return data


def _host_rewrite(node: Node) -> None:
    if node.value not in ("auto", "manual"):
        node.error("choice", f"hostRewrite must be auto or manual, not {described(node.value)}")
    elif node.value == "manual":
        node.not_used("the host is the upstream's unless a policy host-rewrite changes it")


def policy(node: Node, origins: dict[str, str]) -> Any:
    """A policy of the current form; any name is kept: a gateway that does not support it rejects the
    deployment."""
    fields = node.fields(("name", "version", "params", "executionCondition"), "warning")
    if not node.is_mapping:
        return node.value
    node.at("version").required()
    names = {"executionCondition": "condition"}
    return {names.get(key, key): field.value for key, field in fields.items()}


def resilience(node: Node) -> dict[str, Any]:
    fields = node.fields(("timeout", "idleTimeout"), "warning")
    names = {"timeout": "timeout", "idleTimeout": "idle_timeout"}
    return {names[key]: milliseconds_at(field) for key, field in fields.items() if field.value is not None}
