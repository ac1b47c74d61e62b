"""Reads definitions in a thread, since reading uses only CPU; those of a large request in another process."""

import asyncio
from bisect import bisect
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from api.call import Call
from api.problems import Error
from definitions.reading import Definition, read
from definitions.source.documents import Piece, pieces
from definitions.source.finding import Finding
from definitions.source.limits import DEFAULT
from schemas.aggregates.api import ApiSpec, PublishApi
from schemas.aggregates.deployment import DEPLOYMENT
from schemas.catalog import AGGREGATES
from schemas.message import Command
from streams.compute_process import Compute, NoProcess, computed

YAML = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain"})
COMMAND_OF_KIND: Mapping[str, type[Command]] = MappingProxyType(
    {
        "API": PublishApi,
        **{a.view.__name__: r.command for a in AGGREGATES for r in a.routes if r.method == "PUT"},
    }
)
"""The command of applying a definition, by its kind: that of a PUT."""

RECORD: str = DEPLOYMENT.view.__name__
"""The kind of deployments, which are created by deploying and never change."""

CHUNK = 16
"""Files that one call in a thread or process reads."""

MANY = 50
"""Files of a request that are worth a process: starting it takes as long as reading a thousand."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file as received."""

    source: str
    content: bytes


@dataclass(frozen=True, slots=True)
class ParsedDefinition:
    """One definition: its command and the command's fields, except the organization.

    `command` is None for a kind that is not created from files (a deployment).
    """

    kind: str
    name: str
    form: str
    line: int
    command: type[Command] | None
    fields: Mapping[str, Any]
    content: bytes
    media_type: str
    findings: tuple[Error, ...] = ()


@dataclass(frozen=True, slots=True)
class InvalidDefinition:
    """An invalid definition with all its findings."""

    kind: str
    name: str
    line: int
    findings: tuple[Error, ...]


async def read_one(text: SourceFile, name: str) -> ParsedDefinition | InvalidDefinition:
    """The one definition in `text`, about the API `name`."""
    return await asyncio.to_thread(_one, text, name)


async def read_all(
    texts: Sequence[SourceFile], compute: Compute
) -> AsyncIterator[tuple[SourceFile, Sequence[ParsedDefinition | InvalidDefinition]]]:
    """The definitions of every text, in order; many are read by `compute`."""
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        many = compute if len(texts) >= MANY else NoProcess()
        for text, found in zip(chunk, await computed(many, _each, chunk), strict=True):
            yield text, found


async def store_document(call: Call, one: ParsedDefinition) -> dict[str, Any]:
    """Stores a definition as it was written; returns the fields of `schemas.aggregates.api.Document`."""
    sha256 = await call.services.documents.put(one.content, one.media_type)
    return {"sha256": sha256, "media_type": one.media_type, "size": len(one.content), "form": one.form}


def _each(texts: Sequence[SourceFile]) -> list[Sequence[ParsedDefinition | InvalidDefinition]]:
    return [_read(text, None) for text in texts]


def _one(text: SourceFile, name: str) -> ParsedDefinition | InvalidDefinition:
    read = _read(text, name)
    wrong = [error for one in read if isinstance(one, InvalidDefinition) for error in one.findings]
    defined = [one for one in read if isinstance(one, ParsedDefinition)]
    for one in defined[1:]:
        wrong.append(_wrong(one.line, "several-documents", "", "one definition belongs here"))
    for one in defined:
        if one.command is not PublishApi:
            wrong.append(_wrong(one.line, "wrong-kind", "/kind", f"an API belongs here, not a {one.kind}"))
        elif one.name != name:
            detail = f"the path has {name!r}, not {one.name!r}"
            wrong.append(_wrong(one.line, "differs-from-path", "/metadata/name", detail))
    if wrong:
        return InvalidDefinition("API", name, 1, tuple(wrong))
    return defined[0]


def _wrong(line: int, rule: str, pointer: str, detail: str) -> Error:
    return {
        "pointer": pointer,
        "detail": detail,
        "rule": rule,
        "severity": "error",
        "line": line,
        "column": 1,
    }


def _read(text: SourceFile, name: str | None) -> Sequence[ParsedDefinition | InvalidDefinition]:
    """One entry per document of the file, in its order; at least one."""
    reading = read(text.content, text.source, name=name)
    starts = [p.line + 1 for p in pieces(text.content, text.source, DEFAULT) if isinstance(p, Piece)]
    found: dict[int, tuple[list[Definition], list[Finding]]] = {}
    for definition in reading.definitions:
        found.setdefault(bisect(starts, definition.line), ([], []))[0].append(definition)
    for finding in reading.findings:
        found.setdefault(bisect(starts, finding.line), ([], []))[1].append(finding)
    result: list[ParsedDefinition | InvalidDefinition] = []
    for place in sorted(found):
        definitions, findings = found[place]
        errors = tuple(_error(f) for f in findings)
        result += [_defined(d, errors) for d in definitions]
        if not definitions:
            result.append(InvalidDefinition("", "", starts[place - 1] if place else 1, errors))
    if not result:
        empty = _wrong(1, "empty", "", "the file has no definition")
        result.append(InvalidDefinition("", "", 1, (empty,)))
    return result


def _defined(definition: Definition, findings: tuple[Error, ...]) -> ParsedDefinition | InvalidDefinition:
    spec = definition.spec
    command = COMMAND_OF_KIND.get(definition.kind)
    if command is None and definition.kind != RECORD:
        detail = f"{definition.kind} is not applied from a file"
        error = {"pointer": "/kind", "detail": detail, "rule": "unknown-kind", "line": definition.line}
        return InvalidDefinition(definition.kind, definition.name, definition.line, (*findings, error))
    fields = {"project": definition.project, "spec": spec} if isinstance(spec, ApiSpec) else spec
    return ParsedDefinition(
        kind=definition.kind,
        name=definition.name,
        form=definition.form,
        line=definition.line,
        command=command,
        fields=fields,
        content=definition.content,
        media_type=definition.media_type,
        findings=findings,
    )


def _error(finding: Finding) -> Error:
    return {
        "pointer": finding.pointer,
        "detail": finding.message,
        "rule": finding.rule,
        "severity": finding.severity,
        "line": finding.line,
        "column": finding.column,
    }
