"""Files to definitions: whatever the form, every document, every finding at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from definitions import openapi, signalbox_v1, wso2, wso2_oldest
from definitions.document_reader import DocumentReader, mapping
from definitions.finding import Finding
from definitions.form import DefinitionForm, ParsedDocument
from definitions.limits import DEFAULT, Limits
from definitions.source_map import SourceMap
from definitions.streams import pieces
from definitions.yaml_source import parse
from schemas.api import ApiSpec

FORMS: tuple[DefinitionForm, ...] = (signalbox_v1, wso2, wso2_oldest, openapi)
"""Every form that is read. A new one is a module and its name here."""


@dataclass(frozen=True, slots=True)
class Definition:
    """One document that could be read.

    `spec` is an ApiSpec for the kind `API`, for others the model's data (snake_case, JSON-ready, what is
    written and no defaults). `content` is this document alone, as written, `line` where it starts in
    `source`; `deployed` whether it asks to be deployed, where the form has a way to say so.
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
    """Reads a file of any form, YAML or JSON. Never raises for what is in it.

    `source` is what findings call the file. `name` is for definitions that carry none; one that does
    keeps its own.
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
        reader.root.error("unknown-form", f"this is no definition; supported are: {_supported()}")
        return None
    form = next((f for f in FORMS if f.claims(mapping(source_map.value))), None)
    if form is None:
        at = next((k for k in ("apiVersion", "version", "openapi", "swagger") if k in reader.root), None)
        node = reader.root.at(at) if at else reader.root
        node.error("unknown-form", f"this form of definition is not read; supported are: {_supported()}")
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
    """In the order of the file; of too many, the first, and how many more."""
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
