"""Validates a document by the schema and rules of OpenAPI (openapi-spec-validator).

The validator is imported at the first document (0.6 s). It cannot fetch anything: a reference to another
document is a finding.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, cast

from definitions.source.document_reader import DocumentReader, Node, mapping
from definitions.source.finding import pointer, token, tokens

_OPAQUE = frozenset(("example", "examples", "default", "enum", "const", "value"))
_OPERATION = re.compile(r"'(get|put|post|delete|options|head|patch|trace)' (?:operation )?in '([^']+)'")
_LONGEST = 300


def check(reader: DocumentReader, version: str) -> None:
    """Adds every error to `reader`; `version` is `3.0` or `3.1`."""
    for at, rule, message in dict.fromkeys(_problems(reader, version)):
        Node(reader, at, None).error(rule, message)


def _problems(reader: DocumentReader, version: str) -> Iterator[tuple[str, str, str]]:
    document = reader.source_map.value
    references = list(_references(document))
    yield from references
    try:
        structural = [*_structural(document, version)]
        yield from structural
        if not structural and not references and "paths" in document:
            yield from _semantic(document, version)
    except Exception as error:  # a failure of the validator is reported as a finding
        detail = str(error).split("\n", 1)[0][:_LONGEST]
        yield "", "openapi", f"the document cannot be validated: {type(error).__name__}: {detail}"


def _structural(document: Any, version: str) -> Iterator[tuple[str, str, str]]:
    for error in cast("Iterable[Any]", _validator(version).schema_validator.iter_errors(document)):
        yield pointer(error.absolute_path), "openapi", _first_line(error.message)


def _semantic(document: Any, version: str) -> Iterator[tuple[str, str, str]]:
    from jsonschema_path.paths import SchemaPath

    # Not `iter_errors` of the validator: its cache keeps every document.
    validator = _validator(version)({})
    errors = validator.root_validator(SchemaPath.from_dict(document, handlers={}))
    for error in cast("Iterable[Any]", errors):
        message = _first_line(error.message)
        at = pointer(error.absolute_path)
        named = _OPERATION.search(message)
        if not at and named:
            at = f"/paths/{token(named[2])}/{named[1]}"
        yield at, "openapi", message


def _validator(version: str) -> Any:
    import openapi_spec_validator as validators

    return {"3.0": validators.OpenAPIV30SpecValidator, "3.1": validators.OpenAPIV31SpecValidator}[version]


def _first_line(message: str) -> str:
    return message.split("\n", 1)[0][:_LONGEST]


def _references(document: Any) -> Iterator[tuple[str, str, str]]:
    """References without a target, or to another document."""
    seen: set[int] = set()
    todo: list[tuple[str, Any]] = [("", document)]
    while todo:
        at, value = todo.pop()
        if isinstance(value, list):
            todo += [(f"{at}/{i}", item) for i, item in enumerate(cast("list[Any]", value))]
        if not isinstance(value, dict) or id(cast("object", value)) in seen:
            continue
        seen.add(id(cast("object", value)))
        for key, child in mapping(cast("object", value)).items():
            if key == "$ref" and isinstance(child, str):
                if not child.startswith("#"):
                    message = f"{child[:200]!r} is outside the document: bundle it into one file first"
                    yield f"{at}/$ref", "external-reference", message
                elif child.startswith("#/") and not _leads_somewhere(document, child[1:]):
                    yield f"{at}/$ref", "reference", f"{child[:200]!r} has no target"
            elif key not in _OPAQUE and not key.startswith("x-"):
                todo.append((f"{at}/{token(key)}", child))


def _leads_somewhere(document: Any, at: str) -> bool:
    from urllib.parse import unquote

    value: Any = document
    for step in tokens(unquote(at)):
        if isinstance(value, dict) and step in value:
            value = cast("dict[str, Any]", value)[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(cast("list[Any]", value)):
            value = cast("list[Any]", value)[int(step)]
        else:
            return False
    return True
