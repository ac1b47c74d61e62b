"""Generates the tables of docs/definitions.md from the models: `python -m definitions.reference --write`.

The tables are between `<!-- fields KIND -->` and `<!-- end -->`; the text around them is written by hand.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
from pydantic import BaseModel

from definitions.durations import duration
from definitions.shapes import Duration, ListOf, Record, Shape, record
from definitions.signalbox_api import KIND
from definitions.signalbox_v1 import KINDS
from schemas.aggregates.api import ApiSpec
from schemas.aggregates.deployment import DEPLOYMENT

PAGE = Path(__file__).parents[1] / "docs" / "definitions.md"
SPECS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {KIND: ApiSpec, **{kind: model for kind, model in KINDS.items() if kind != DEPLOYMENT.view.__name__}}
)
"""The model of `spec` per kind of definition; deployments are not defined in files."""

_BLOCK = re.compile(r"^<!-- fields (\w+) -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)
_IN_METADATA = ("labels", "annotations")
"""Fields of an API's model that are written in `metadata`."""


def rendered(page: str) -> str:
    """The page with its tables generated again. Raises ValueError unless each kind has one block."""
    if sorted(_BLOCK.findall(page)) != sorted(SPECS):
        raise ValueError(f"the page needs one block of fields for each of: {', '.join(SPECS)}")
    return _BLOCK.sub(
        lambda block: f"<!-- fields {block[1]} -->\n{_tables(SPECS[block[1]])}<!-- end -->", page
    )


def _tables(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    parts = _Tables(schema.get("$defs", {})).of("spec", schema, record(model))
    return "".join(f"\n{part}\n" for part in parts)


class _Tables:
    """One table per model, at its first use."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._seen: set[str] = set()

    def of(self, place: str, schema: Mapping[str, Any], shape: Record) -> Iterator[str]:
        rows = [f"| field of `{place}` | value | default | |", "|---|---|---|---|"]
        below: list[tuple[str, str, Record]] = []
        for key, member in shape.members.items():
            field = schema["properties"][member.name]
            at = f"metadata.{key}" if key in _IN_METADATA else key
            default = _default(field, member.shape, member.name in schema.get("required", ()))
            rows.append(
                f"| `{at}` | {_cell(_value(field, member.shape))} | {default} | {_cell(_text(field))} |"
            )
            several = isinstance(member.shape, ListOf)
            inner = member.shape.item if isinstance(member.shape, ListOf) else member.shape
            if isinstance(inner, Record) and (name := _name(field)) not in self._seen:
                self._seen.add(name)
                below.append((f"{place}.{key}[]" if several else f"{place}.{key}", name, inner))
        yield "\n".join(rows)
        for inner_place, name, inner in below:
            yield from self.of(inner_place, self._definitions[name], inner)


def _value(field: Mapping[str, Any], shape: Shape) -> str:
    """A description of the allowed values of a field."""
    field = _given(field)
    if isinstance(shape, Duration):
        return "a duration"
    if isinstance(shape, ListOf):
        return _bounded(f"a list of: {_value(field['items'], shape.item)}", field, "Items", "entries")
    if isinstance(shape, Record):
        return "a mapping, below"
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    kind = field.get("type")
    if kind == "integer":
        return f"a whole number, {field['minimum']:,} to {field['maximum']:,}"
    if kind == "boolean":
        return "`true` or `false`"
    if kind == "object":
        return _bounded("a mapping", field, "Properties", "entries")
    return _bounded("text", field, "Length", "characters")


def _bounded(text: str, field: Mapping[str, Any], of: str, unit: str) -> str:
    least, most = field.get(f"min{of}", 0), field.get(f"max{of}")
    if most is None:
        return text
    return f"{text}; {least} to {most:,} {unit}" if least else f"{text}; at most {most:,} {unit}"


def _default(field: Mapping[str, Any], shape: Shape, required: bool) -> str:
    if required:
        return "required"
    default = field.get("default")
    if default in (None, "", [], {}):
        return ""
    if isinstance(shape, Duration):
        return f"`{duration(default)}`"
    return f"`{default}`" if isinstance(default, str) else f"`{orjson.dumps(default).decode()}`"


def _text(field: Mapping[str, Any]) -> str:
    given = _given(field)
    text = field.get("description") or given.get("description") or ""
    examples = field.get("examples") or given.get("examples")
    if not examples:
        return text
    example = examples[0] if isinstance(examples[0], str) else orjson.dumps(examples[0]).decode()
    return f"{text} Such as `{example}`.".strip()


def _given(field: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of an optional field's value."""
    return next((branch for branch in field.get("anyOf", ()) if branch.get("type") != "null"), field)


def _name(field: Mapping[str, Any]) -> str:
    given = _given(field)
    return str(given.get("items", given)["$ref"]).rpartition("/")[2]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main(arguments: Sequence[str]) -> int:
    """Checks whether the page is up to date, or (`--write`) updates it."""
    parser = argparse.ArgumentParser(prog="python -m definitions.reference", description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="write the tables again")
    page = PAGE.read_text("utf-8")
    new = rendered(page)
    if parser.parse_args(arguments).write:
        PAGE.write_text(new, "utf-8")
        return 0
    print("up to date" if page == new else "out of date: python -m definitions.reference --write")
    return int(page != new)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
