"""Avro schemas of all messages, generated from the models, and their binary form.

Mapping of a model to a record (Avro 1.11 specification): a message is named by its aggregate and verb in the
namespace `io.signalbox`, a value by its class in `io.signalbox.value`; optional fields are a union with null;
defaults are kept, so that fields can be added and removed; tuples are arrays; integers are long; `Literal` is
string, since a reader that lacks a new enum symbol fails on the whole record, while the model still checks
the value; `dict[str, str]` is a map; free JSON is a string marked `"signalbox.json": true`.

Every published version is kept in `published/<type>.<n>.avsc` and never edited: `SHA256SUMS` there has the
checksums. `python -m schemas.codecs.avro --write` adds the next version of changed messages, and fails
if one is incompatible with a published version: that needs a new major type and an upcaster.
"""

import argparse
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel

from schemas.catalog import MESSAGES
from schemas.codecs.avro_types import record
from schemas.codecs.binary import Codec, Data, Undecodable, compiled
from schemas.codecs.canonical import sha256_hex
from schemas.codecs.compatibility import Schema, incompatibilities
from schemas.message import Message

PUBLISHED = Path(__file__).parents[1] / "published"
SUMS = "SHA256SUMS"
"""The checksums of the published files, in the format of `sha256sum`."""

URN = "urn:signalbox:schema:"
"""The prefix of a `dataschema`; the message's type and the version follow, separated by a colon."""

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")

M = TypeVar("M", bound=BaseModel)
SchemaRegistry = Mapping[str, Mapping[int, Schema]]
"""Schemas by message type and version."""

Write = Callable[[io.BytesIO, Any, Any], None]
Read = Callable[[io.BytesIO, Any, Any], Any]
Parse = Callable[[Schema], Any]


class Incompatible(Exception):
    """A schema cannot follow a published one; `problems` are the locations with their reasons."""

    def __init__(self, type: str, problems: list[str]) -> None:
        super().__init__(
            f"{type} is incompatible with published versions and needs a new major: " + "; ".join(problems)
        )
        self.problems = problems


def schema(model: type[BaseModel]) -> Schema:
    """The Avro schema of a model, as JSON-ready data."""
    return record(model).schema(set())


@cache
def _parsed(model: type[BaseModel]) -> Any:
    _, _, parse = _fastavro()
    return parse(schema(model))


@cache
def _fastavro() -> tuple[Write, Read, Parse]:
    """Loaded at the first use: the embedded engine has none."""
    import fastavro

    # Its annotations leave the type of IO open; these specify it.
    functions = vars(fastavro)
    return functions["schemaless_writer"], functions["schemaless_reader"], functions["parse_schema"]


def encode(message: BaseModel) -> bytes:
    """The Avro binary form, without a header: `dataschema` names the schema.

    Raises OverflowError for integers beyond 64 bits.
    """
    model = type(message)
    out = io.BytesIO()
    packed = record(model).pack(message.model_dump(mode="json"))
    write, _, _ = _fastavro()
    write(out, _parsed(model), packed)
    return out.getvalue()


def decode(model: type[M], data: bytes, writer: Schema | None = None) -> M:
    """The message in `data`, which was written with `writer` (the current schema when left out).

    Raises Undecodable, or pydantic.ValidationError when a value breaks the model's rules.
    """
    source = io.BytesIO(data)
    _, read, parse = _fastavro()
    try:
        if writer is None:
            packed = read(source, _parsed(model), None)
        else:
            packed = read(source, parse(writer), _parsed(model))
        fields = record(model).unpack(packed)
    except (EOFError, ValueError, LookupError, TypeError, OverflowError, MemoryError) as error:
        raise Undecodable(f"not a {model.__name__}: {error or type(error).__name__}") from error
    if source.tell() != len(data):
        raise Undecodable(f"not a {model.__name__}: {len(data) - source.tell()} bytes too many")
    return model.model_validate(fields)


def published(folder: Path = PUBLISHED) -> SchemaRegistry:
    """All published schemas by message type and version, oldest first."""
    found: dict[str, dict[int, Schema]] = {}
    for path in folder.glob("*.avsc"):
        type_, _, number = path.stem.rpartition(".")
        found.setdefault(type_, {})[int(number)] = orjson.loads(path.read_bytes())
    return {type_: dict(sorted(versions.items())) for type_, versions in sorted(found.items())}


@cache
def _registry() -> SchemaRegistry:
    return MappingProxyType(dict(published()))


@cache
def dataschema(model: type[Message]) -> str:
    """The CloudEvents `dataschema` of messages that Signalbox writes: type and newest published version.

    Empty for a model that was never published.
    """
    versions = _registry().get(model.type())
    return f"{URN}{model.type()}:{max(versions)}" if versions else ""


class NeverPublished(KeyError):
    """A `dataschema` names a schema that is not known here; the text is a full sentence."""

    def __str__(self) -> str:
        return str(self.args[0])


def is_of(uri: str, type: str) -> bool:
    """Whether a `dataschema` names a schema of this message type."""
    return uri.rpartition(":")[0] == URN + type


def missing_version(uri: str) -> str:
    """The missing version of a known message that a `dataschema` names, as text; else empty."""
    if uri in _codecs:
        return ""
    type_, _, number = uri.removeprefix(URN).rpartition(":")
    versions = _registry().get(type_)
    if not versions or not uri.startswith(URN):
        return ""
    if _NUMBER.fullmatch(number) and int(number) in versions:
        return ""
    return f"needs version {number} of {type_}; here are {', '.join(map(str, versions))}"


def writer_schema(uri: str) -> Schema:
    """The schema a `dataschema` names. Raises NeverPublished."""
    if reason := missing_version(uri):
        raise NeverPublished(reason)
    type_, _, number = uri.removeprefix(URN).rpartition(":")
    if not uri.startswith(URN) or type_ not in _registry():
        raise NeverPublished(f"{uri} was never published here")
    return _registry()[type_][int(number)]


_codecs: dict[str, Codec] = {}
"""By `dataschema`; no more than there are published schemas."""


def _codec(uri: str) -> Codec:
    """Raises NeverPublished."""
    codec = _codecs.get(uri)
    if codec is None:
        codec = _codecs[uri] = compiled(writer_schema(uri))
    return codec


def encode_data(uri: str, data: Data) -> bytes | None:
    """JSON-ready data, encoded with the schema of a `dataschema`; None when decoding would not give
    exactly `data`, or the schema is unknown."""
    try:
        return _codec(uri).pack(data)
    except NeverPublished:
        return None


def decode_data(uri: str, content: bytes) -> Data:
    """The data in `content`, with the fields its writer knew. Raises NeverPublished, Undecodable."""
    return _codec(uri).unpack(content)


def problems(current: Schema, versions: Mapping[int, Schema]) -> list[str]:
    """The incompatibilities of `current` with the published versions, in both directions."""
    return [
        f"{problem} ({direction} version {number})"
        for number, old in versions.items()
        for direction, found in (
            ("reading", incompatibilities(old, current)),
            ("being read by", incompatibilities(current, old)),
        )
        for problem in found
    ]


class Edited(Exception):
    """Published files were changed; `names` has their names."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"published schemas must not be changed or removed: {', '.join(names)}")
        self.names = names


def edited(folder: Path = PUBLISHED) -> list[str]:
    """The published files that were changed, added or removed since `publish` recorded them."""
    sums = _sums(folder)
    here = {path.name: sha256_hex(path.read_bytes()) for path in folder.glob("*.avsc")}
    return sorted(name for name in sums.keys() | here.keys() if sums.get(name) != here.get(name))


def _sums(folder: Path) -> dict[str, str]:
    """The recorded SHA-256 by file name."""
    path = folder / SUMS
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    return {name: digest for digest, name in (line.split("  ") for line in lines)}


def publish(models: Mapping[str, type[Message]] = MESSAGES, folder: Path = PUBLISHED) -> list[Path]:
    """Writes the next version of every schema that changed, records its hash, and returns the file names.

    Raises Incompatible or Edited before anything is written.
    """
    sums = _sums(folder)
    if wrong := [name for name in edited(folder) if name in sums]:
        raise Edited(wrong)
    registry = published(folder)
    changed: dict[Path, Schema] = {}
    for type_, model in models.items():
        current, versions = schema(model), registry.get(type_, {})
        newest = max(versions, default=0)
        if versions and versions[newest] == current:
            continue
        if found := problems(current, versions):
            raise Incompatible(type_, found)
        changed[folder / f"{type_}.{newest + 1}.avsc"] = current
    folder.mkdir(exist_ok=True)
    for path, current in changed.items():
        path.write_bytes(orjson.dumps(current, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    present = {path.name: sha256_hex(path.read_bytes()) for path in folder.glob("*.avsc")}
    lines = [f"{digest}  {name}\n" for name, digest in sorted(present.items())]
    (folder / SUMS).write_text("".join(lines), "ascii")
    return list(changed)


def main(arguments: Sequence[str], folder: Path = PUBLISHED) -> int:
    """Lists the published versions, or (`--write`) publishes changed messages."""
    parser = argparse.ArgumentParser(prog="python -m schemas.codecs.avro", description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="publish the next version of changed messages")
    if not parser.parse_args(arguments).write:
        for type_, versions in published(folder).items():
            print(type_, *versions)
        return 0
    try:
        for path in publish(folder=folder):
            print(path.name)
    except (Incompatible, Edited) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
