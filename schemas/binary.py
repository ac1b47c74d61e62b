"""Avro's binary encoding of JSON-ready data, compiled to Python once per schema.

The writing half takes only what the reading half gives back exactly, for the hash chain is computed over
the data: what was left out stays out, 1 does not become 1.0. How data and schema meet:
a field whose type is a union that begins with null may be left out, any other must be there; a command's
`name` with the default "" (its id becomes the name) may be left out; a string marked `"signalbox.json"`
holds any JSON. Half the time of fastavro, which the tests hold it against.
https://avro.apache.org/docs/1.11.1/specification/#binary-encoding
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from schemas.compatibility import FREE_JSON, Schema

Data = dict[str, Any]

_DOUBLE = struct.Struct("<d")


class Inexact(Exception):
    """Data that would not come back the same."""


class Undecodable(Exception):
    """Bytes that were not written with the schema."""


@dataclass(frozen=True, slots=True)
class Codec:
    """The two ways of one schema's data."""

    _write: Callable[[Any, bytearray], None]
    _read: Callable[[bytes, int], tuple[Any, int]]

    def pack(self, data: Data) -> bytes | None:
        """The bytes; None when they could not give back exactly `data`."""
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
            # Reading past the end gives less than was asked for, and is noticed here.
            raise Undecodable("the data has not the length its schema asks for")
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
"""The lengths most texts have."""


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
    """How many items a block has; a negative count is followed by the block's size."""
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
    """Python source being written: two functions per record."""

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
    """Statements of one function. `d` is the record's data, `out` what is written, `m` what is read from
    position `p` on, `n` how many fields are there."""

    source: _Source
    nested: list[Schema]
    lines: list[str] = field(default_factory=list[str])
    depth: int = 1

    def say(self, *lines: str) -> None:
        self.lines += ["    " * self.depth + line for line in lines]

    def member(self, name: str, kind: Any, *, optional: bool, nameless: bool) -> None:
        v = self.source.fresh()
        if optional:
            self.say(f"{v} = d.get({name!r})", f"if {v} is None: out += b'\\x00'", "else:")
            self.depth += 1
            self.say("n += 1", "out += b'\\x02'")
            self.write(v, kind[1])
            self.depth -= 1
        elif nameless:
            self.say(f"{v} = d.get({name!r})", f"if {v} is None: out += b'\\x00'", "else:")
            self.depth += 1
            self.say("n += 1", f"if not {v}: raise Inexact")
            self.write(v, kind)
            self.depth -= 1
        else:
            self.say(f"{v} = d[{name!r}]")
            self.write(v, kind)

    def write(self, v: str, kind: Any) -> None:
        """Statements that write the value `v`."""
        if isinstance(kind, list):
            self._write_union(v, cast("list[Any]", kind))
            return
        said: Schema = cast("Schema", kind) if isinstance(kind, dict) else {"type": kind}
        match said["type"]:
            case "string":
                b, size = self.source.fresh(), self.source.fresh()
                if said.get(FREE_JSON):
                    self.say(f"{b} = dumps({v})")
                else:
                    self.say(f"if type({v}) is not str: raise Inexact", f"{b} = {v}.encode()")
                self.say(
                    f"{size} = len({b})",
                    f"out += LENGTHS[{size}] if {size} < 2048 else long({size})",
                    f"out += {b}",
                )
            case "boolean":
                self.say(f"if type({v}) is not bool: raise Inexact", f"out.append({v})")
            case "long":
                self.say(
                    f"if type({v}) is not int: raise Inexact",
                    f"if 0 <= {v} < 2048: out += LENGTHS[{v}]",
                    f"elif -(1 << 63) <= {v} < 1 << 63: out += long({v})",
                    "else: raise Inexact",
                )
            case "double":
                self.say(
                    f"if type({v}) is not float or {v} - {v} != 0: raise Inexact",
                    f"out += pack_double({v})",
                )
            case "array":
                item = self.source.fresh()
                self.say(f"if type({v}) is not list: raise Inexact", f"if {v}:")
                self.depth += 1
                self.say(f"out += long(len({v}))", f"for {item} in {v}:")
                self.depth += 1
                self.write(item, said["items"])
                self.depth -= 2
                self.say("out += b'\\x00'")
            case "map":
                key, item = self.source.fresh(), self.source.fresh()
                self.say(f"if type({v}) is not dict: raise Inexact", f"if {v}:")
                self.depth += 1
                self.say(f"out += long(len({v}))", f"for {key}, {item} in {v}.items():")
                self.depth += 1
                self.write(key, "string")
                self.write(item, said["values"])
                self.depth -= 2
                self.say("out += b'\\x00'")
            case "record":
                self.nested.append(said)
                self.say(f"write_{_identifier(said['name'])}({v}, out)")
            case named:
                self.say(f"write_{_identifier(named)}({v}, out)")

    def _write_union(self, v: str, branches: list[Any]) -> None:
        null = branches.index("null")
        self.say(f"if {v} is None: out += {_long(null)!r}", "else:")
        self.depth += 1
        self.say(f"out += {_long(1 - null)!r}")
        self.write(v, branches[1 - null])
        self.depth -= 1

    def read_member(self, name: str, kind: Any, *, optional: bool, nameless: bool) -> None:
        v = self.source.fresh()
        if optional:
            self._branch()
            self.say("if b == 2:")
            self.depth += 1
            self.read(v, kind[1])
            self.say(f"d[{name!r}] = {v}")
            self.depth -= 1
            self.say("elif b: raise ValueError('a union has no such branch')")
        elif nameless:
            self.read(v, kind)
            self.say(f"if {v}: d[{name!r}] = {v}")
        else:
            self.read(f"d[{name!r}]", kind)

    def _branch(self) -> None:
        self.say("b = m[p]", "p += 1")

    def read(self, v: str, kind: Any) -> None:
        """Statements that read into `v`."""
        if isinstance(kind, list):
            self._read_union(v, cast("list[Any]", kind))
            return
        said: Schema = cast("Schema", kind) if isinstance(kind, dict) else {"type": kind}
        match said["type"]:
            case "string":
                self.say(
                    "b = m[p]",
                    "if b & 129: b, p = read_length(m, p)",
                    "else: b >>= 1; p += 1",
                    "e = p + b",
                    f"{v} = loads(m[p:e])" if said.get(FREE_JSON) else f"{v} = m[p:e].decode()",
                    "p = e",
                )
            case "boolean":
                self._branch()
                self.say("if b > 1: raise ValueError('a boolean is 0 or 1')", f"{v} = b == 1")
            case "long":
                self.say(
                    "b = m[p]",
                    f"if b < 128: {v} = (b >> 1) ^ -(b & 1); p += 1",
                    f"else: {v}, p = read_long(m, p)",
                )
            case "double":
                self.say(f"{v} = finite(unpack_double(m, p)[0])", "p += 8")
            case "array":
                items, item = self.source.fresh(), self.source.fresh()
                self.say(f"{items} = []")
                self._blocks()
                self.read(item, said["items"])
                self.say(f"{items}.append({item})")
                self.depth -= 2
                self.say(f"{v} = {items}")
            case "map":
                items, key, item = self.source.fresh(), self.source.fresh(), self.source.fresh()
                self.say(f"{items} = {{}}")
                self._blocks()
                self.read(key, "string")
                self.read(item, said["values"])
                self.say(f"{items}[{key}] = {item}")
                self.depth -= 2
                self.say(f"{v} = {items}")
            case "record":
                self.nested.append(said)
                self.say(f"{v}, p = read_{_identifier(said['name'])}(m, p)")
            case named:
                self.say(f"{v}, p = read_{_identifier(named)}(m, p)")

    def _blocks(self) -> None:
        """The heads of two loops: blocks, and the items of one."""
        count = self.source.fresh()
        self.say("while True:")
        self.depth += 1
        self.say(
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
        self.say(f"if b == {2 * null}: {v} = None", f"elif b == {2 * (1 - null)}:")
        self.depth += 1
        self.read(v, branches[1 - null])
        self.depth -= 1
        self.say("else: raise ValueError('a union has no such branch')")
