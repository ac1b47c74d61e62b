"""Avro's binary encoding of JSON-ready data, compiled to Python once per schema.

Data is encoded only when decoding gives exactly the same data, because the hash chain is computed over it:
absent fields stay absent, 1 does not become 1.0. Mapping of data to schema: a field whose type is a union
that begins with null may be left out, any other must be there; a command's `name` with the default "" (its
id becomes the name) may be left out; a string marked `"signalbox.json"` holds any JSON. It takes half the
time of fastavro; tests compare the two.
https://avro.apache.org/docs/1.11.1/specification/#binary-encoding
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from schemas.codecs.compatibility import FREE_JSON, Schema

Data = dict[str, Any]

_DOUBLE = struct.Struct("<d")


class Inexact(Exception):
    """Data that decoding would not reproduce exactly."""


class Undecodable(Exception):
    """The bytes were not written with the schema."""


@dataclass(frozen=True, slots=True)
class Codec:
    """Encoder and decoder of one schema."""

    _write: Callable[[Any, bytearray], None]
    _read: Callable[[bytes, int], tuple[Any, int]]

    def pack(self, data: Data) -> bytes | None:
        """The bytes; None when decoding would not give exactly `data`."""
        out = bytearray()
        try:
            self._write(data, out)
        except (Inexact, KeyError, UnicodeEncodeError, orjson.JSONEncodeError):
            return None
        return bytes(out)

    def unpack(self, content: bytes) -> Data:
        """Raises Undecodable."""
        try:
            data, end = self._read(content, 0)
        except IndexError:
            raise Undecodable("the data ends too early") from None
        except (ValueError, struct.error) as error:
            raise Undecodable(str(error)) from error
        if end != len(content):
            # Slices past the end are shorter than requested; this check finds them.
            raise Undecodable("the data does not have the length that its schema requires")
        return data


def compiled(schema: Schema) -> Codec:
    """The codec of a message's schema."""
    source = _Source()
    source.record(schema, top=True)
    names: dict[str, Any] = {
        "Inexact": Inexact, "long": _long, "read_long": _read_long, "read_length": _read_length,
        "read_count": _read_count,
        "LENGTHS": _LENGTHS, "dumps": orjson.dumps, "loads": orjson.loads,
        "pack_double": _DOUBLE.pack, "unpack_double": _DOUBLE.unpack_from, "finite": _finite,
    }  # fmt: skip
    exec(compile("\n".join(source.lines), f"<avro {schema['name']}>", "exec"), names)
    stem = _identifier(schema["name"])
    return Codec(names[f"write_{stem}"], names[f"read_{stem}"])


def _long(value: int) -> bytes:
    """Zig-zag and variable length."""
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_LENGTHS = [_long(n) for n in range(2048)]
"""Encoded lengths of short texts."""


def _read_long(content: bytes, at: int) -> tuple[int, int]:
    rest = shift = 0
    while True:
        byte = content[at]
        at += 1
        rest |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
    if rest >> 64:
        raise ValueError("a number has more than 64 bits")
    return (rest >> 1) ^ -(rest & 1), at


def _read_length(content: bytes, at: int) -> tuple[int, int]:
    length, at = _read_long(content, at)
    if length < 0 or length > len(content):
        raise ValueError("a length is out of bounds")
    return length, at


def _read_count(content: bytes, at: int) -> tuple[int, int]:
    """The number of items of a block; a negative count is followed by the block's size."""
    count, at = _read_long(content, at)
    if count < 0:
        _, at = _read_long(content, at)
    return abs(count), at


def _finite(value: float) -> float:
    if value - value != 0:
        raise ValueError("a number is not finite")
    return value


def _identifier(name: str) -> str:
    return name.replace(".", "_")


def _is_optional(field: Schema) -> bool:
    kind: Any = field["type"]
    if not isinstance(kind, list) or field.get("default") is not None:
        return False
    return cast("list[Any]", kind)[0] == "null"


@dataclass(slots=True)
class _Source:
    """Generates the Python source: two functions per record."""

    lines: list[str] = field(default_factory=list[str])
    count: int = 0

    def fresh(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def record(self, schema: Schema, top: bool = False) -> None:
        stem = _identifier(schema["name"])
        nested: list[Schema] = []
        write, read = _Block(self, nested), _Block(self, nested)
        command = top and ".command." in schema.get("signalbox.type", "")
        required = 0
        for member in schema["fields"]:
            name, kind, optional = member["name"], member["type"], _is_optional(member)
            nameless = command and name == "name" and member.get("default") == ""
            write.member(name, kind, optional=optional, nameless=nameless)
            read.read_member(name, kind, optional=optional, nameless=nameless)
            required += not (optional or nameless)
        self.lines += [
            f"def write_{stem}(d, out):",
            "    if type(d) is not dict: raise Inexact",
            f"    n = {required}",
            *write.lines,
            "    if len(d) != n: raise Inexact",
            f"def read_{stem}(m, p):",
            "    d = {}",
            *read.lines,
            "    return d, p",
        ]
        seen: set[str] = set()
        for inner in nested:
            if inner["name"] not in seen:
                seen.add(inner["name"])
                self.record(inner)


@dataclass(slots=True)
class _Block:
    """Statements of one function. `d`: the record's data, `out`: the output, `m`: the input, read from
    index `p`, `n`: the number of fields present."""

    source: _Source
    nested: list[Schema]
    lines: list[str] = field(default_factory=list[str])
    depth: int = 1

    def add(self, *lines: str) -> None:
        self.lines += ["    " * self.depth + line for line in lines]

    def member(self, name: str, kind: Any, *, optional: bool, nameless: bool) -> None:
        v = self.source.fresh()
        if optional:
            self.add(f"{v} = d.get({name!r})", f"if {v} is None: out += b'\\x00'", "else:")
            self.depth += 1
            self.add("n += 1", "out += b'\\x02'")
            self.write(v, kind[1])
            self.depth -= 1
        elif nameless:
            self.add(f"{v} = d.get({name!r})", f"if {v} is None: out += b'\\x00'", "else:")
            self.depth += 1
            self.add("n += 1", f"if not {v}: raise Inexact")
            self.write(v, kind)
            self.depth -= 1
        else:
            self.add(f"{v} = d[{name!r}]")
            self.write(v, kind)

    def write(self, v: str, kind: Any) -> None:
        """Statements that write the value `v`."""
        if isinstance(kind, list):
            self._write_union(v, cast("list[Any]", kind))
            return
        type_schema: Schema = cast("Schema", kind) if isinstance(kind, dict) else {"type": kind}
        match type_schema["type"]:
            case "string":
                b, size = self.source.fresh(), self.source.fresh()
                if type_schema.get(FREE_JSON):
                    self.add(f"{b} = dumps({v})")
                else:
                    self.add(f"if type({v}) is not str: raise Inexact", f"{b} = {v}.encode()")
                self.add(
                    f"{size} = len({b})",
                    f"out += LENGTHS[{size}] if {size} < 2048 else long({size})",
                    f"out += {b}",
                )
            case "boolean":
                self.add(f"if type({v}) is not bool: raise Inexact", f"out.append({v})")
            case "long":
                self.add(
                    f"if type({v}) is not int: raise Inexact",
                    f"if 0 <= {v} < 2048: out += LENGTHS[{v}]",
                    f"elif -(1 << 63) <= {v} < 1 << 63: out += long({v})",
                    "else: raise Inexact",
                )
            case "double":
                self.add(
                    f"if type({v}) is not float or {v} - {v} != 0: raise Inexact",
                    f"out += pack_double({v})",
                )
            case "array":
                item = self.source.fresh()
                self.add(f"if type({v}) is not list: raise Inexact", f"if {v}:")
                self.depth += 1
                self.add(f"out += long(len({v}))", f"for {item} in {v}:")
                self.depth += 1
                self.write(item, type_schema["items"])
                self.depth -= 2
                self.add("out += b'\\x00'")
            case "map":
                key, item = self.source.fresh(), self.source.fresh()
                self.add(f"if type({v}) is not dict: raise Inexact", f"if {v}:")
                self.depth += 1
                self.add(f"out += long(len({v}))", f"for {key}, {item} in {v}.items():")
                self.depth += 1
                self.write(key, "string")
                self.write(item, type_schema["values"])
                self.depth -= 2
                self.add("out += b'\\x00'")
            case "record":
                self.nested.append(type_schema)
                self.add(f"write_{_identifier(type_schema['name'])}({v}, out)")
            case named:
                self.add(f"write_{_identifier(named)}({v}, out)")

    def _write_union(self, v: str, branches: list[Any]) -> None:
        null = branches.index("null")
        self.add(f"if {v} is None: out += {_long(null)!r}", "else:")
        self.depth += 1
        self.add(f"out += {_long(1 - null)!r}")
        self.write(v, branches[1 - null])
        self.depth -= 1

    def read_member(self, name: str, kind: Any, *, optional: bool, nameless: bool) -> None:
        v = self.source.fresh()
        if optional:
            self._branch()
            self.add("if b == 2:")
            self.depth += 1
            self.read(v, kind[1])
            self.add(f"d[{name!r}] = {v}")
            self.depth -= 1
            self.add("elif b: raise ValueError('a union has no such branch')")
        elif nameless:
            self.read(v, kind)
            self.add(f"if {v}: d[{name!r}] = {v}")
        else:
            self.read(f"d[{name!r}]", kind)

    def _branch(self) -> None:
        self.add("b = m[p]", "p += 1")

    def read(self, v: str, kind: Any) -> None:
        """Statements that read into `v`."""
        if isinstance(kind, list):
            self._read_union(v, cast("list[Any]", kind))
            return
        type_schema: Schema = cast("Schema", kind) if isinstance(kind, dict) else {"type": kind}
        match type_schema["type"]:
            case "string":
                self.add(
                    "b = m[p]",
                    "if b & 129: b, p = read_length(m, p)",
                    "else: b >>= 1; p += 1",
                    "e = p + b",
                    f"{v} = loads(m[p:e])" if type_schema.get(FREE_JSON) else f"{v} = m[p:e].decode()",
                    "p = e",
                )
            case "boolean":
                self._branch()
                self.add("if b > 1: raise ValueError('a boolean is 0 or 1')", f"{v} = b == 1")
            case "long":
                self.add(
                    "b = m[p]",
                    f"if b < 128: {v} = (b >> 1) ^ -(b & 1); p += 1",
                    f"else: {v}, p = read_long(m, p)",
                )
            case "double":
                self.add(f"{v} = finite(unpack_double(m, p)[0])", "p += 8")
            case "array":
                items, item = self.source.fresh(), self.source.fresh()
                self.add(f"{items} = []")
                self._blocks()
                self.read(item, type_schema["items"])
                self.add(f"{items}.append({item})")
                self.depth -= 2
                self.add(f"{v} = {items}")
            case "map":
                items, key, item = self.source.fresh(), self.source.fresh(), self.source.fresh()
                self.add(f"{items} = {{}}")
                self._blocks()
                self.read(key, "string")
                self.read(item, type_schema["values"])
                self.add(f"{items}[{key}] = {item}")
                self.depth -= 2
                self.add(f"{v} = {items}")
            case "record":
                self.nested.append(type_schema)
                self.add(f"{v}, p = read_{_identifier(type_schema['name'])}(m, p)")
            case named:
                self.add(f"{v}, p = read_{_identifier(named)}(m, p)")

    def _blocks(self) -> None:
        """The heads of two loops: blocks, and the items of one."""
        count = self.source.fresh()
        self.add("while True:")
        self.depth += 1
        self.add(
            f"{count} = m[p]",
            "p += 1",
            f"if not {count}: break",
            f"if {count} & 129: {count}, p = read_count(m, p - 1)",
            f"else: {count} >>= 1",
            f"for _ in range({count}):",
        )
        self.depth += 1

    def _read_union(self, v: str, branches: list[Any]) -> None:
        null = branches.index("null")
        self._branch()
        self.add(f"if b == {2 * null}: {v} = None", f"elif b == {2 * (1 - null)}:")
        self.depth += 1
        self.read(v, branches[1 - null])
        self.depth -= 1
        self.add("else: raise ValueError('a union has no such branch')")
