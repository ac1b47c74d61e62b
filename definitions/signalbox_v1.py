"""`apiVersion: signalbox.io/v1`: the form of Signalbox itself. Each aggregate that users define has a kind,
derived from its model; APIs have additional short forms (signalbox_api)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from definitions import signalbox_api
from definitions.form import DEFAULT_PROJECT, ParsedDocument
from definitions.shapes import record, translated
from definitions.source.document_reader import DocumentReader
from definitions.validating import validated
from schemas.catalog import AGGREGATES
from schemas.message import Value

API_VERSION = "signalbox.io/v1"
TITLE: str = f"apiVersion: {API_VERSION}"

_TOP = ("apiVersion", "kind", "metadata", "spec", "status")
"""`status` is written by servers and ignored here."""


def _fields(view: type[Value]) -> type[Value] | None:
    """The model of the fields that users write: by convention the base `<View>Fields` of the aggregate's
    view."""
    for base in view.__mro__:
        if base.__name__ == f"{view.__name__}Fields" and issubclass(base, Value):
            return base
    return None


KINDS: Mapping[str, type[Value]] = MappingProxyType(
    {a.view.__name__: fields for a in AGGREGATES if (fields := _fields(a.view)) is not None}
)


def claims(value: Mapping[str, Any]) -> bool:
    return value.get("apiVersion") == API_VERSION


def read(reader: DocumentReader, name: str | None) -> ParsedDocument | None:
    fields = reader.root.fields(_TOP)
    kind = reader.root.at("kind")
    model = KINDS.get(kind.value) if isinstance(kind.value, str) else None
    if kind.value == signalbox_api.KIND:
        return signalbox_api.read(reader, name)
    if model is None:
        known = ", ".join(sorted((signalbox_api.KIND, *KINDS)))
        if kind.required() is not None:
            kind.error("unknown-kind", f"{kind.value!r} is not a kind; supported are: {known}")
        return None
    title, _ = signalbox_api.written_name(reader, name, ("name",))
    spec = reader.root.at("spec")
    data: Any = translated(spec, record(model)) if "spec" in fields else {}
    if not spec.is_mapping and "spec" in fields:
        spec.expected("a mapping")
        return None
    values = validated(model, data, reader, {}, "/spec")
    if title is None or values is None:
        return None
    kept = values.model_dump(mode="json", exclude_unset=True)
    return ParsedDocument(kind.value, title, DEFAULT_PROJECT, API_VERSION, kept)
