"""`kind: API` of `signalbox.io/v1`: the fields of ApiSpec in camelCase, durations with units, and short
forms:

* `upstream: http://orders:8080/v2` or `upstream: {url: …, connectTimeout: 2s}`: the upstream `default`;
* an entry of `upstreams` may have `url` (with a path) instead of `endpoints` and `basePath`;
* `backends` may be left out when there is one upstream.
"""

from collections.abc import Iterable
from typing import Any, cast

from definitions import rules
from definitions.form import DEFAULT_PROJECT, ParsedDocument
from definitions.shapes import milliseconds_at, record, translated
from definitions.source.document_reader import DocumentReader, Node, mapping
from definitions.urls import split_url
from definitions.validating import name_at, validated
from schemas.aggregates.api import ApiSpec, Upstream

KIND = "API"
FORM = "signalbox.io/v1"
THE_UPSTREAM = "default"

_METADATA = ("name", "project", "labels", "annotations")
_SPEC = record(ApiSpec)
_UPSTREAM = record(Upstream)
_MOVED = ("upstreams", "backends", "sandboxBackends")
_FIELDS = (*(name for name in _SPEC.members if name not in ("labels", "annotations")), "upstream")


def read(reader: DocumentReader, name: str | None) -> ParsedDocument | None:
    title, written = written_name(reader, name, _METADATA)
    project = name_at(written["project"]) if "project" in written else DEFAULT_PROJECT
    spec = reader.root.at("spec")
    if spec.value is None:
        spec.missing()
        return None
    _, data, origins = spec_fields(spec, _FIELDS)
    for key in ("labels", "annotations"):
        if key in written:
            data[key] = written[key].value
            origins[f"/{key}"] = written[key].pointer
    checked = checked_spec(reader, data, origins, spec.pointer)
    if title is None or project is None or checked is None:
        return None
    return ParsedDocument(KIND, title, project, FORM, checked)


def written_name(
    reader: DocumentReader, name: str | None, known: tuple[str, ...]
) -> tuple[str | None, dict[str, Node]]:
    """The name in `metadata`, or else `name`; and the fields of `metadata`."""
    metadata = reader.root.at("metadata")
    if metadata.value is None:
        if name is None:
            metadata.missing()
        return name, {}
    fields = metadata.fields(known)
    if not metadata.is_mapping or ("name" not in fields and name is not None):
        return name, fields
    return name_at(metadata.at("name")), fields


def checked_spec(
    reader: DocumentReader, data: dict[str, Any], origins: dict[str, str], base: str
) -> ApiSpec | None:
    """The specification; None, and all errors, when it is invalid."""
    rules.check(data, reader, origins, base)
    return validated(ApiSpec, data, reader, origins, base)


def spec_fields(
    spec: Node, allowed: Iterable[str], others: tuple[str, ...] = ()
) -> tuple[dict[str, Node], dict[str, Any], dict[str, str]]:
    """The fields as written (`allowed` and `others`), the data of `allowed`, and the origins of moved
    parts."""
    fields = spec.fields((*allowed, *others))
    names = {n: m for n, m in _SPEC.members.items() if n in fields and n not in others}
    data = {m.name: translated(fields[n], m.shape) for n, m in names.items() if n not in _MOVED}
    origins: dict[str, str] = {}
    data |= upstreams(fields, origins)
    for key in ("backends", "sandboxBackends"):
        if key in names:
            data[names[key].name] = _backends(fields[key], names[key].shape)
    if "backends" not in data and len(data.get("upstreams", ())) > 1:
        message = "there are several upstreams: list those that receive traffic in backends"
        spec.at("backends").error("required", message)
    if "backends" not in fields and "upstreams" not in data:
        origins["/backends"] = (fields.get("upstream") or spec.at("upstreams")).pointer
    if "backends" not in data and len(data.get("upstreams", ())) == 1:
        data["backends"] = [{"upstream": mapping(data["upstreams"][0]).get("name")}]
        origins["/backends"] = origins["/upstreams/0"]
    return fields, data, origins


def upstreams(fields: dict[str, Node], origins: dict[str, str]) -> dict[str, Any]:
    """The field `upstreams` of an ApiSpec from `upstream` or `upstreams`, if one is present."""
    one, several = fields.get("upstream"), fields.get("upstreams")
    if one is not None and several is not None:
        one.error("contradiction", "give upstream or upstreams, not both", key=True)
    if one is not None:
        origins["/upstreams"] = origins["/upstreams/0"] = one.pointer
        if isinstance(one.value, str):
            return {"upstreams": [_with_url({"name": THE_UPSTREAM}, one, one.pointer, origins, 0)]}
        known = one.fields(("url", "connectTimeout"))
        if not one.is_mapping:
            return {}
        upstream: dict[str, Any] = {"name": THE_UPSTREAM}
        if "connectTimeout" in known:
            upstream["connect_timeout"] = milliseconds_at(known["connectTimeout"])
        return {"upstreams": [_with_url(upstream, one.at("url"), one.pointer, origins, 0)]}
    if several is None:
        return {}
    return {"upstreams": [_upstream(item, origins, i) for i, item in enumerate(several.items())]}


def _upstream(item: Node, origins: dict[str, str], index: int) -> Any:
    origins[f"/upstreams/{index}"] = item.pointer
    if not item.is_mapping:
        return item.value
    members = dict(_UPSTREAM.members)
    if "url" in item:
        members = {n: m for n, m in members.items() if n not in ("endpoints", "basePath")}
        for clash in ("endpoints", "basePath"):
            if clash in item:
                item.at(clash).error("contradiction", f"give url or {clash}, not both", key=True)
    fields = item.fields((*members, "url", "endpoints", "basePath"))
    data = {members[n].name: translated(f, members[n].shape) for n, f in fields.items() if n in members}
    return _with_url(data, item.at("url"), item.pointer, origins, index) if "url" in item else data


def _with_url(upstream: dict[str, Any], url: Node, at: str, origins: dict[str, str], index: int) -> Any:
    for part in ("/endpoints", "/endpoints/0", "/endpoints/0/url", "/base_path"):
        origins[f"/upstreams/{index}{part}"] = url.pointer
    split = split_url(url)
    if split is not None:
        upstream["endpoints"] = [{"url": split[0]}]
        upstream["base_path"] = split[1]
    return upstream


def _backends(node: Node, shape: Any) -> Any:
    data = translated(node, shape)
    if not isinstance(data, list):
        return data
    items = cast("list[Any]", data)
    return [{"upstream": item} if isinstance(item, str) else item for item in items]
