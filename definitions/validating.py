"""Validates data by models; errors of pydantic are reported at their position in the file."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from definitions.shapes import ListOf, Record, record
from definitions.source.document_reader import DocumentReader, Node, described
from definitions.source.finding import pointer
from schemas.message import Name
from schemas.text import faults

M = TypeVar("M", bound=BaseModel)
Origins = Mapping[str, str]
"""Pointer into the model's data -> pointer into the document, for parts that were moved."""

_NAME: TypeAdapter[str] = TypeAdapter(Name)
_NAME_RULE = "letters, digits, dot, hyphen and underscore, at most 100, a letter or digit at both ends"
_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_RULES = {
    "missing": "required",
    "extra_forbidden": "unknown-field",
    "literal_error": "choice",
    "string_pattern_mismatch": "pattern",
    "string_too_short": "length",
    "string_too_long": "length",
    "greater_than_equal": "range",
    "less_than_equal": "range",
    "greater_than": "range",
    "less_than": "range",
}


def validated(
    model: type[M], data: Mapping[str, Any], reader: DocumentReader, origins: Origins, base: str
) -> M | None:
    """`data` as a `model`, strictly validated (no text for a number). None, and errors, when it is invalid.

    `base` is the pointer to the fields of the model in the document, except for parts in `origins`.
    """
    found = False
    for location, _, what in faults(data):
        found = True
        at = written_at(model, location, origins, base)
        if not reader.blamed(at):
            Node(reader, at, None).error("character", f"the text {what}")
    if found:
        return None
    try:
        return model.model_validate_json(orjson.dumps(data), strict=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            at = written_at(model, detail["loc"], origins, base)
            if not reader.blamed(at):
                _add_error(reader, at, detail, _hint(model, detail["loc"]))
        return None


def name_at(node: Node) -> str | None:
    """The name at `node`; None, and an error, when it is missing or invalid."""
    text = node.required()
    if text is None:
        return None
    if not is_name(text):
        node.error("name", f"{text!r} cannot be a name: {_NAME_RULE}")
        return None
    return text


def slug(title: str) -> str:
    """`Pétstore (v2)!` -> `petstore-v2`; empty when no character of the title is usable."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:80].strip("-")


def is_name(text: str) -> bool:
    try:
        _NAME.validate_python(text)
    except ValidationError:
        return False
    return True


def written_at(model: type[BaseModel], loc: Sequence[str | int], origins: Origins, base: str) -> str:
    """The pointer into the document to the part `loc` of a model's data."""
    for length in range(len(loc), -1, -1):
        origin = base if length == 0 else origins.get(pointer(loc[:length]))
        if origin is not None:
            return origin + pointer(_in_file(model, loc)[length:])
    raise AssertionError("unreachable: the empty prefix has an origin")


def _in_file(model: type[BaseModel], loc: Sequence[str | int]) -> list[str | int]:
    shape: object = record(model)
    names: list[str | int] = []
    for part in loc:
        if isinstance(shape, Record) and isinstance(part, str):
            found = shape.by_name(part)
            names.append(found[0] if found else part)
            shape = found[1].shape if found else None
        else:
            names.append(part)
            shape = shape.item if isinstance(shape, ListOf) else None
    return names


def _hint(model: type[BaseModel], loc: Sequence[str | int]) -> str:
    shape: object = record(model)
    hint = ""
    for part in loc:
        if isinstance(shape, Record) and isinstance(part, str):
            found = shape.by_name(part)
            hint = found[1].hint if found else ""
            shape = found[1].shape if found else None
        else:
            shape = shape.item if isinstance(shape, ListOf) else None
    return hint


def _add_error(reader: DocumentReader, at: str, detail: ErrorDetails, hint: str) -> None:
    kind = detail["type"]
    value: object = detail["input"]
    node = Node(reader, at, value)
    if kind == "missing":
        node.missing()
    elif kind in _TYPES:
        node.expected(_TYPES[kind])
    elif kind == "string_pattern_mismatch":
        why = hint or f"it must match {detail.get('ctx', {}).get('pattern')}"
        node.error("pattern", f"{node.name} cannot be {str(value)[:80]!r}: {why}")
    elif kind in ("too_short", "too_long"):
        takes, key = ("needs at least", "min") if kind == "too_short" else ("takes at most", "max")
        bound: object = detail.get("ctx", {}).get(f"{key}_length")
        node.error("length", f"{node.name} {takes} {bound} {'entry' if bound == 1 else 'entries'}")
    else:
        reason = re.sub(r"^Input should", "it should", detail["msg"])
        message = f"{node.name} cannot be {described(value)}: {reason}"
        node.error(_RULES.get(kind, kind.replace("_", "-")), message)
