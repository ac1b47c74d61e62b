"""Reads files: all definitions of all forms, with all findings at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from definitions import openapi, signalbox_v1
from definitions.form import DefinitionForm, ParsedDocument
from definitions.source.document_reader import DocumentReader, mapping
from definitions.source.documents import pieces
from definitions.source.finding import Finding
from definitions.source.limits import DEFAULT, Limits
from definitions.source.source_map import SourceMap
from definitions.source.yaml_source import parse
from definitions.wso2 import oldest, rest_api
from schemas.aggregates.api import ApiSpec

FORMS: tuple[DefinitionForm, ...] = (signalbox_v1, rest_api, oldest, openapi)
"""All supported forms. To add one, write a module and list it here."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One document without errors.

    `spec` is an ApiSpec for the kind `API`, for others the model's data (snake_case, JSON-ready, without
    defaults). `content` is this document alone, as written, `line` its first line in `source`; `deployed`:
    whether it is to be deployed, in forms that have such a field.
    """

    kind: str
    name: str
    project: str
    form: str
    spec: ApiSpec | Mapping[str, Any]
    content: bytes
    media_type: str
    source: str
    line: int
    deployed: bool | None


@dataclass(frozen=True, slots=True)
class Reading:
    """The definitions of a file, in its order. A document with an error appears in `findings` only."""

    definitions: tuple[Definition, ...]
    findings: tuple[Finding, ...]


def read(content: bytes, source: str = "", *, name: str | None = None, limits: Limits = DEFAULT) -> Reading:
    """Reads a file of any form, YAML or JSON. Errors in the file are findings, never exceptions.

    `source` is the name of the file in findings. `name` is for definitions without a name.
    """
    definitions: list[Definition] = []
    findings: list[Finding] = []
    seen: dict[tuple[str, str], int] = {}
    for piece in pieces(content, source, limits):
        if isinstance(piece, Finding):
            findings.append(piece)
            continue
        source_map = parse(piece, source, limits)
        definition = _definition(source_map, name)
        if definition is not None:
            first = seen.setdefault((definition.kind, definition.name), definition.line)
            if first != definition.line:
                text = f"{definition.kind} {definition.name!r} is already defined on line {first}"
                source_map.add("error", "duplicate-definition", "", text)
            else:
                definitions.append(definition)
        findings += _listed(source_map, max(1, min(limits.findings, limits.file_findings - len(findings))))
    return Reading(tuple(definitions), tuple(findings))


def _definition(source_map: SourceMap, name: str | None) -> Definition | None:
    if source_map.value is None:
        return None
    reader = DocumentReader(source_map)
    if not reader.root.is_mapping:
        reader.root.error("unknown-form", f"this is not a definition; supported are: {_supported()}")
        return None
    form = next((f for f in FORMS if f.claims(mapping(source_map.value))), None)
    if form is None:
        at = next((k for k in ("apiVersion", "version", "openapi", "swagger") if k in reader.root), None)
        node = reader.root.at(at) if at else reader.root
        node.error("unknown-form", f"this form of definition is unknown; supported are: {_supported()}")
        return None
    parsed = form.read(reader, name)
    if parsed is None or reader.refused:
        return None
    return _defined(parsed, source_map)


def _defined(parsed: ParsedDocument, source_map: SourceMap) -> Definition:
    json = source_map.text.lstrip()[:1] == "{"
    return Definition(
        kind=parsed.kind,
        name=parsed.name,
        project=parsed.project,
        form=parsed.form,
        spec=parsed.spec,
        content=source_map.piece.content,
        media_type="application/json" if json else "application/yaml",
        source=source_map.source,
        line=source_map.line,
        deployed=parsed.deployed,
    )


def _listed(source_map: SourceMap, most: int) -> list[Finding]:
    """The findings in the order of the file; above the limit the first ones, and the number of the others."""
    found = sorted(source_map.findings, key=lambda f: (f.line, f.column))
    if len(found) <= most:
        return found
    kept = found[:most]
    severity = "error" if any(f.severity == "error" for f in found) else "warning"
    text = f"{len(found) - most} more findings in this document"
    place = (source_map.source, kept[-1].line, kept[-1].column)
    return [*kept, Finding(severity, text, "", *place, "too-many-findings")]


def _supported() -> str:
    return "; ".join(form.TITLE for form in FORMS)
