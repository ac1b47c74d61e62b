"""OpenAPI 3.0 and 3.1: the first server is the upstream, paths and methods are the operations.

The extension `x-signalbox` at the top has the fields that OpenAPI lacks: `name`, `project`, and those
fields of `signalbox.io/v1` that are in `_EXTENSION`; `x-signalbox` of an operation has `policies`,
`resilience` and `backends`. Without it, name and context are derived from the title.
https://spec.openapis.org/oas/v3.1.1.html
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from definitions import openapi_validity
from definitions.form import DEFAULT_PROJECT, ParsedDocument
from definitions.shapes import record, translated
from definitions.signalbox_api import KIND, THE_UPSTREAM, checked_spec, spec_fields
from definitions.source.document_reader import DocumentReader, Node, entries, mapping
from definitions.source.finding import tokens
from definitions.urls import split_url
from definitions.validating import name_at, slug
from schemas.aggregates.api import Operation

TITLE: str = "openapi: 3.0.x or 3.1.x"
EXTENSION = "x-signalbox"

_VERSION = re.compile(r"(3\.[01])\.[0-9]+(-.+)?")
_VARIABLE = re.compile(r"\{([^{}]*)\}")
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_EXTENSION = (
    "context", "hosts", "policies", "resilience", "upstream", "upstreams", "backends", "sandboxHosts",
    "sandboxBackends", "plans", "delegatedContexts",
)  # fmt: skip
_OF_AN_OPERATION = ("policies", "resilience", "backends")
_LONGEST_DESCRIPTION = 10_000
_REFERENCES = 16


def claims(value: Mapping[str, Any]) -> bool:
    return "openapi" in value


def read(reader: DocumentReader, name: str | None) -> ParsedDocument | None:
    root = reader.root
    form = root.at("openapi")
    version = form.required()
    match = _VERSION.fullmatch(version) if version is not None else None
    if match is None:
        if version is not None:
            form.error("unknown-form", f"OpenAPI {version} is not supported; use 3.0.x or 3.1.x")
        return None
    openapi_validity.check(reader, match[1])
    parsed = _Reader(root)
    title, project = parsed.read(name)
    checked = checked_spec(reader, parsed.data, parsed.origins, root.at(EXTENSION).pointer)
    if title is None or project is None or checked is None:
        return None
    return ParsedDocument(KIND, title, project, f"openapi-{match[1]}", checked)


class _Reader:
    """Reads a document into the data of an ApiSpec, and the origin of each part in the file."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self.data: dict[str, Any] = {}
        self.origins: dict[str, str] = {}

    def read(self, name: str | None) -> tuple[str | None, str | None]:
        """Fills `data`; returns name and project of the API."""
        extension = self._root.at(EXTENSION)
        fields: dict[str, Node] = {}
        if EXTENSION in self._root:
            fields, self.data, self.origins = spec_fields(extension, _EXTENSION, ("name", "project"))
        title = self._info()
        if "upstreams" not in self.data and not {"upstream", "upstreams"} & fields.keys():
            self._server()
        self._operations()
        self._warn()
        derived = slug(title)
        if "context" not in fields and title:
            self.data["context"] = f"/{derived}"
            self.origins["/context"] = "/info/title"
            if not derived:
                self._root.at("info").at("title").error(
                    "context", f"no path follows from {title!r}: add x-signalbox: {{context: /…, name: …}}"
                )
        project = name_at(fields["project"]) if "project" in fields else DEFAULT_PROJECT
        if "name" in fields:
            return name_at(fields["name"]), project
        return name or derived or None, project

    def _info(self) -> str:
        info = self._root.at("info")
        for key, field in (("title", "display_name"), ("version", "version"), ("description", "description")):
            self.origins[f"/{field}"] = info.at(key).pointer
            if key in info:
                self.data[field] = info.at(key).value
        text = self.data.get("description")
        if isinstance(text, str) and len(text) > _LONGEST_DESCRIPTION:
            self.data["description"] = text[: _LONGEST_DESCRIPTION - 1] + "…"
            message = f"the description is cut at {_LONGEST_DESCRIPTION} characters"
            info.at("description").warning("shortened", message)
        title = self.data.get("display_name")
        return title if isinstance(title, str) else ""

    def _server(self) -> None:
        servers = self._root.at("servers")
        self.origins["/upstreams"] = self.origins["/backends"] = servers.pointer
        entries = servers.items() if isinstance(servers.value, list) else []
        if not entries:
            servers.error(
                "no-server",
                "there is no server: add servers with an absolute url, or x-signalbox: {upstream: {url: …}}",
            )
            return
        if len(entries) > 1:
            message = f"only the first of {len(entries)} servers is used"
            entries[1].warning("not-used", message)
        url = self._substituted(entries[0])
        if url is None:
            return
        at = entries[0].at("url")
        if "://" not in url:
            message = (
                f"{url!r} is relative to the document's address: "
                "write an absolute url, or x-signalbox: {upstream: {url: …}}"
            )
            at.error("no-server", message)
            return
        split = split_url(Node(at.reader, at.pointer, url))
        if split is None:
            return
        for part in ("", "/0", "/0/endpoints", "/0/endpoints/0", "/0/endpoints/0/url", "/0/base_path"):
            self.origins[f"/upstreams{part}"] = at.pointer
        endpoints = [{"url": split[0]}]
        self.data["upstreams"] = [{"name": THE_UPSTREAM, "endpoints": endpoints, "base_path": split[1]}]
        self.data.setdefault("backends", [{"upstream": THE_UPSTREAM}])
        self.origins["/backends"] = at.pointer

    def _substituted(self, server: Node) -> str | None:
        url = server.at("url").required() if server.is_mapping else None
        if url is None:
            return None
        variables = server.at("variables")
        for name in _VARIABLE.findall(url):
            default = mapping(mapping(variables.value).get(name)).get("default")
            if not isinstance(default, str):
                server.at("url").error("server-variable", f"the variable {{{name}}} has no default")
                return None
            url = url.replace(f"{{{name}}}", default)
        return url

    def _operations(self) -> None:
        found: list[Any] = []
        self.data["operations"] = found
        self.origins["/operations"] = "/paths"
        paths = self._root.at("paths")
        for path in mapping(paths.value):
            if not path.startswith("/"):
                continue
            item = self._resolved(paths.at(path))
            if "servers" in item:
                item.at("servers").not_used("an API has the servers at the top of the document")
            for method in _METHODS:
                operation = item.at(method)
                if operation.is_mapping:
                    at = f"/operations/{len(found)}"
                    self.origins[at] = operation.pointer
                    self.origins[f"{at}/path"] = self.origins[f"{at}/method"] = paths.at(path).pointer
                    found.append(self._operation(operation, method, path, at))
        if not found:
            self._nothing()

    def _nothing(self) -> None:
        webhooks = self._root.at("webhooks")
        if webhooks.value:
            message = "the document has webhooks and no paths: a gateway has nothing to serve"
            webhooks.error("no-operations", message, key=True)
            self.origins["/operations"] = webhooks.pointer
        elif not self._root.at("paths").reader.blamed("/paths"):
            self._root.at("paths").error("no-operations", "the document has no operations", key=True)

    def _operation(self, node: Node, method: str, path: str, at: str) -> dict[str, Any]:
        data: dict[str, Any] = {"method": method.upper(), "path": path}
        if "operationId" in node:
            data["operation_id"] = node.at("operationId").value
            self.origins[f"{at}/operation_id"] = node.at("operationId").pointer
        if "servers" in node:
            node.at("servers").not_used("an API has the servers at the top of the document")
        extension = node.at(EXTENSION)
        if extension.value is not None:
            members = record(Operation).members
            for key, field in extension.fields(_OF_AN_OPERATION).items():
                data[members[key].name] = translated(field, members[key].shape)
                self.origins[f"{at}/{members[key].name}"] = field.pointer
        return data

    def _resolved(self, item: Node) -> Node:
        """A path item with its `$ref` within the document resolved (OpenAPI 3.1, 4.8.9)."""
        for _ in range(_REFERENCES):
            ref = mapping(item.value).get("$ref")
            if not isinstance(ref, str) or not ref.startswith("#/"):
                break
            item = self._root
            for step in tokens(ref[1:]):
                item = item.at(step) if item.is_mapping else Node(item.reader, item.pointer, None)
        return item

    def _warn(self) -> None:
        if self._root.at("webhooks").value and self.data["operations"]:
            self._root.at("webhooks").not_used("a gateway serves paths")
        secured = next(self._secured(), None)
        policies = entries(self.data.get("policies"))
        if secured is not None and not any(str(mapping(p).get("name")).endswith("-auth") for p in policies):
            message = "security is not enforced by itself: add a policy such as jwt-auth to x-signalbox"
            secured.warning("not-enforced", message)

    def _secured(self) -> Iterator[Node]:
        if self._root.at("security").value:
            yield self._root.at("security")
        paths = self._root.at("paths")
        for path in mapping(paths.value):
            for method in _METHODS:
                security = paths.at(path).at(method).at("security")
                if security.value:
                    yield security
