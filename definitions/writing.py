"""Writes definitions as `signalbox.io/v1` YAML: in a fixed order, without defaults.

`status`, if given, is the server's status of the resource; reading ignores it.
"""

from collections.abc import Mapping
from typing import Any, cast

import yaml
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

from definitions.durations import duration
from definitions.form import DEFAULT_PROJECT
from definitions.shapes import Duration, ListOf, Record, Shape, record
from definitions.signalbox_api import FORM, KIND, THE_UPSTREAM
from definitions.source.scalars import NotInJson, resolve
from schemas.aggregates.api import ApiSpec, Backend, Upstream

_WIDE = 1 << 20


def write(name: str, project: str, spec: ApiSpec, status: Mapping[str, Any] | None = None) -> bytes:
    """The definition of an API: reading it gives `name`, `project` and `spec` again."""
    metadata: dict[str, Any] = {"name": name}
    if project != DEFAULT_PROJECT:
        metadata["project"] = project
    for key, values in (("labels", spec.labels), ("annotations", spec.annotations)):
        if values:
            metadata[key] = dict(sorted(values.items()))
    document = {"apiVersion": FORM, "kind": KIND, "metadata": metadata, "spec": _spec(spec)}
    return _yaml(_with(status, document))


def _spec(spec: ApiSpec) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for key, value in _fields(spec, record(ApiSpec)).items():
        if key == "upstreams":
            written |= _upstreams(spec.upstreams)
        elif key == "backends" and len(spec.upstreams) == 1 and spec.backends == _only(spec.upstreams[0]):
            continue
        elif key not in ("labels", "annotations"):
            written[key] = value
    return written


def _only(upstream: Upstream) -> tuple[Backend, ...]:
    return (Backend(upstream=upstream.name),)


def _upstreams(upstreams: tuple[Upstream, ...]) -> dict[str, Any]:
    written = [_upstream(upstream) for upstream in upstreams]
    if len(written) == 1 and upstreams[0].name == THE_UPSTREAM and "url" in written[0]:
        return {"upstream": {key: value for key, value in written[0].items() if key != "name"}}
    return {"upstreams": written}


def _upstream(upstream: Upstream) -> dict[str, Any]:
    fields = _fields(upstream, record(Upstream))
    if len(upstream.endpoints) == 1 and upstream.endpoints[0].weight == 1:
        url = upstream.endpoints[0].url + upstream.base_path
        rest = {k: v for k, v in fields.items() if k not in ("name", "endpoints", "basePath")}
        return {"name": upstream.name, "url": url, **rest}
    return fields


def _fields(value: BaseModel, shape: Record) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for key, member in shape.members.items():
        field: object = getattr(value, member.name)
        info = type(value).model_fields[member.name]
        if info.is_required() or field != info.get_default(call_default_factory=True):
            written[key] = _value(field, member.shape)
    return written


def _value(value: object, shape: Shape) -> Any:
    if isinstance(shape, Duration) and isinstance(value, int):
        return duration(value)
    if isinstance(shape, ListOf):
        return [_value(item, shape.item) for item in cast("tuple[object, ...]", value)]
    if isinstance(shape, Record) and isinstance(value, BaseModel):
        return _fields(value, shape)
    return value


class _Dumper(yaml.CSafeDumper):
    """Writes no aliases, and quotes text that YAML 1.1 or 1.2 would read as another type."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    try:
        style = None if resolve(text) == text else "'"
    except NotInJson:
        style = "'"
    if style is None and _is_block(text):
        style = "|"
    return yaml.ScalarNode("tag:yaml.org,2002:str", text, style=style)


def _is_block(text: str) -> bool:
    """Whether a literal block represents the text exactly."""
    lines = text.split("\n")
    return (
        len(lines) > 1
        and bool(lines[0])
        and not text[0].isspace()
        and all(line.isprintable() and not line.endswith(" ") for line in lines)
    )


_Dumper.add_representer(str, _text)


def write_values(
    kind: str, name: str, values: Mapping[str, Any], status: Mapping[str, Any] | None = None
) -> bytes:
    """The definition of another kind, from the values of its Definition."""
    spec = {to_camel(key): value for key, value in values.items()}
    document = {"apiVersion": FORM, "kind": kind, "metadata": {"name": name}, "spec": spec}
    return _yaml(_with(status, document))


def _with(status: Mapping[str, Any] | None, document: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**document, "status": status} if status is not None else document


def _yaml(document: Mapping[str, Any]) -> bytes:
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDE)
    return text.encode()
