"""Compatibility of two Avro schemas: the rules of schema resolution (Avro 1.11 specification, "Schema
Resolution"), checked on the schemas alone."""

from collections.abc import Iterator
from typing import Any, cast

Schema = dict[str, Any]
FREE_JSON = "signalbox.json"
"""The property of a string that holds any JSON."""

_PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}


def incompatibilities(writer: Any, reader: Any) -> list[str]:
    """The reasons why `reader` cannot read data of `writer`, one per location; none if it can."""
    return list(_Check(_names(writer), _names(reader)).between(writer, reader, "/"))


def _names(schema: Any) -> dict[str, Schema]:
    """All records of a schema by full name."""
    found: dict[str, Schema] = {}
    if isinstance(schema, list):
        for branch in cast("list[Any]", schema):
            found |= _names(branch)
    elif isinstance(schema, dict):
        record = cast("Schema", schema)
        if record["type"] == "record":
            found[record["name"]] = record
            for field in record["fields"]:
                found |= _names(field["type"])
        for inner in ("items", "values"):
            if inner in record:
                found |= _names(record[inner])
    return found


class _Check:
    def __init__(self, written: dict[str, Schema], read: dict[str, Schema]) -> None:
        self.written = written
        self.read = read
        self.seen: set[tuple[str, str]] = set()

    def between(self, writer: Any, reader: Any, place: str) -> Iterator[str]:
        if isinstance(writer, list):
            for branch in cast("list[Any]", writer):
                yield from self.between(branch, reader, place)
            return
        if isinstance(reader, list):
            branches = cast("list[Any]", reader)
            if not any(self._fits(writer, branch, place) for branch in branches):
                yield f"{place}: {_kind(writer)} is none of {', '.join(map(_kind, branches))}"
            return
        yield from self._single(_full(writer, self.written), _full(reader, self.read), place)

    def _fits(self, writer: Any, reader: Any, place: str) -> bool:
        return not list(_Check(self.written, self.read).between(writer, reader, place))

    def _single(self, writer: Schema, reader: Schema, place: str) -> Iterator[str]:
        was, now = writer["type"], reader["type"]
        if was != now:
            if now not in _PROMOTIONS.get(was, ()):
                yield f"{place}: {was} cannot be read as {now}"
        elif was == "record":
            yield from self._records(writer, reader, place)
        elif was == "array":
            yield from self.between(writer["items"], reader["items"], f"{place}[]")
        elif was == "map":
            yield from self.between(writer["values"], reader["values"], f"{place}{{}}")
        elif writer.get(FREE_JSON) != reader.get(FREE_JSON):
            yield f"{place}: text and free JSON are not the same"

    def _records(self, writer: Schema, reader: Schema, place: str) -> Iterator[str]:
        pair = (writer["name"], reader["name"])
        if pair[0] != pair[1]:
            yield f"{place}: record {pair[0]} is not {pair[1]}"
            return
        if pair in self.seen:
            return
        self.seen.add(pair)
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            below = f"{place.rstrip('/')}/{field['name']}"
            if field["name"] in written:
                yield from self.between(written[field["name"]]["type"], field["type"], below)
            elif "default" not in field:
                yield f"{below}: is not written and has no default"


def _full(schema: Any, names: dict[str, Schema]) -> Schema:
    if isinstance(schema, str):
        return names.get(schema, {"type": schema})
    return schema


def _kind(schema: Any) -> str:
    return schema if isinstance(schema, str) else str(schema.get("name", schema["type"]))
