"""Protocol buffer encoding of envoy-data-plane messages, fast enough for every configuration change.

The library's own `bytes(message)` builds a validator per message and a warnings filter per field.
Here an encoder is compiled once per message class from the library's field metadata; its bytes equal
the library's. `build` makes a message without validating it, `any_of` packs one, and `Encoded` is a message
that was encoded before, accepted in place of a message.
"""

import dataclasses
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import compress
from operator import is_not
from typing import TYPE_CHECKING, Any, TypeVar

from xds.types import type_url

if TYPE_CHECKING:
    from betterproto2 import FieldMetadata, Message
    from envoy_data_plane.google.protobuf import Any as PackedAny

M = TypeVar("M")
Append = Callable[[bytes], None]
Write = Callable[[Append, Any], None]
Payload = Callable[[Any], bytes]

_VARINTS = {"enum", "bool", "int32", "int64", "uint32", "uint64"}
_ZIGZAG = {"sint32", "sint64"}
_FIXED = {
    "double": struct.Struct("<d").pack,
    "float": struct.Struct("<f").pack,
    "fixed32": struct.Struct("<I").pack,
    "fixed64": struct.Struct("<Q").pack,
    "sfixed32": struct.Struct("<i").pack,
    "sfixed64": struct.Struct("<q").pack,
}
_WIRE_VARINT, _WIRE_64, _WIRE_LENGTH, _WIRE_32 = 0, 1, 2, 5
_SHORT = tuple(bytes((n,)) for n in range(128))


class Encoded(bytes):
    """An encoded message; accepted as the value of a message field."""


def encode(message: "Message") -> bytes:
    """The wire format of a message; the same bytes as `bytes(message)`, without its validation.

    Raises struct.error, ValueError, TypeError or AttributeError for values their field cannot hold.
    """
    return _payload_of_message(message)


def build(kind: type[M], /, **fields: Any) -> M:
    """A message with these fields, the others at their defaults; values are not validated.

    Raises TypeError for a field the message does not have, and for two members of one oneof.
    """
    shape = _SHAPES.get(kind) or _shape(kind)
    message = object.__new__(kind)
    values = vars(message)
    values.update(shape.scalars)
    for name, make in shape.containers:
        values[name] = make()
    values.update(fields)
    if len(values) != shape.size:
        raise TypeError(f"{kind.__name__} has no field {sorted(set(fields) - set(shape.names))}")
    if shape.groups:
        taken: dict[str, str] = {}
        for name, value in fields.items():
            group = shape.groups.get(name)
            if group is not None and value is not None:
                if group in taken:
                    raise TypeError(f"{kind.__name__}: {taken[group]} and {name} exclude each other")
                taken[group] = name
    return message


def encoded(kind: "type[Message]", /, **fields: Any) -> Encoded:
    """The bytes of `encode(build(kind, **fields))`, at the cost of these fields alone: classes have many.

    Raises as these do; also for two members of one oneof of which one is None.
    """
    steps = _PLANS.get((kind, *fields)) or _plan(kind, fields)
    parts: list[bytes] = []
    append = parts.append
    for name, presence, default, write in steps:
        value = fields[name]
        if value is not None and (presence or value != default):
            write(append, value)
    return Encoded(b"".join(parts))


def extended(kind: "type[Message]", message: Encoded, field: str, values: Sequence[Any]) -> Encoded:
    """The message with more values of a repeated field, after those it has. Raises as `encoded`."""
    later = _later_fields(kind, field)
    at = 0
    while at < len(message):
        tag, start = read_varint(message, at)
        if tag >> 3 in later:
            break
        at = _end(message, start, tag & 7)
    return Encoded(message[:at] + encoded(kind, **{field: values}) + message[at:])


@lru_cache(maxsize=16)
def _later_fields(kind: type[Any], field: str) -> frozenset[int]:
    """The numbers of the fields that are encoded after this one."""
    numbers = {name: metadata.number for name, metadata, _ in _fields(kind)}
    names = list(numbers)
    return frozenset(numbers[name] for name in names[names.index(field) + 1 :])


def _end(message: bytes, at: int, wire_type: int) -> int:
    """The end of the field whose value begins at `at`."""
    if wire_type in (_WIRE_64, _WIRE_32):
        return at + (8 if wire_type == _WIRE_64 else 4)
    value, at = read_varint(message, at)
    return at + value if wire_type == _WIRE_LENGTH else at


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """The number at a position, and the position after it. Raises IndexError for a truncated one."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def any_of(message: "Message") -> "PackedAny":
    """The message in an Any. Raises LookupError for a message of a module not in `xds.types.PACKED`."""
    from envoy_data_plane.google.protobuf import Any as packed

    return build(packed, type_url=type_url(type(message)), value=encode(message))


class _Shape:
    """The fields of a message class, for `build`."""

    def __init__(self, kind: type[Any]) -> None:
        self.names: set[str] = set()
        self.groups: dict[str, str] = {}
        self.scalars: dict[str, Any] = {"_unknown_fields": b""}
        self.containers: list[tuple[str, Callable[[], Any]]] = []
        for name, meta, make in _fields(kind):
            self.names.add(name)
            if meta.group:
                self.groups[name] = meta.group
            if isinstance(default := make(), list | dict):
                self.containers.append((name, make))
            else:
                self.scalars[name] = default
        self.size = len(self.names) + 1


def _fields(kind: type[Any]) -> "Iterable[tuple[str, FieldMetadata, Callable[[], Any]]]":
    for field in dataclasses.fields(kind):
        make = field.default_factory
        assert make is not dataclasses.MISSING
        yield field.name, field.metadata["betterproto"], make


Step = tuple[str, bool, Any, Write]
"""A field's name, whether it has presence, its default, and how it is written."""

_SHAPES: dict[type[Any], _Shape] = {}
_STEPS: dict[type[Any], Sequence[Step]] = {}
_ENCODERS: dict[type[Any], Payload] = {}
_PLANS: dict[tuple[object, ...], Sequence[Step]] = {}
"""By message class and names of fields, in the order in which they are given."""


def _shape(kind: type[Any]) -> _Shape:
    shape = _SHAPES[kind] = _Shape(kind)
    return shape


def _payload_of_message(message: object) -> bytes:
    if isinstance(message, Encoded):
        return message
    kind = type(message)
    return (_ENCODERS.get(kind) or _compile(kind))(message)


def _steps(kind: type[Any]) -> Sequence[Step]:
    """In the order of the class."""
    if kind not in _STEPS:
        # Fields with presence have None as default; the others are left out at their default.
        _STEPS[kind] = [
            (name, (default := make()) is None, default, _writer(field))
            for name, field, make in _fields(kind)
        ]
    return _STEPS[kind]


def _plan(kind: type[Any], fields: Iterable[str]) -> Sequence[Step]:
    groups = (_SHAPES.get(kind) or _shape(kind)).groups
    given = tuple(fields)
    steps = [step for step in _steps(kind) if step[0] in given]
    if len(steps) < len(given):
        raise TypeError(f"{kind.__name__} has no field {sorted(set(given) - {step[0] for step in steps})}")
    named = [groups[name] for name in given if name in groups]
    if len(set(named)) < len(named):
        raise TypeError(f"{kind.__name__}: of {', '.join(given)} some exclude each other")
    _PLANS[(kind, *given)] = steps
    return steps


def _compile(kind: type[Any]) -> Payload:
    """An encoder for one message class: per field, when to write it and how."""
    steps = _steps(kind)
    names = [step[0] for step in steps]
    defaults = [step[2] for step in steps]

    def encode_fields(message: object) -> bytes:
        values = message.__dict__
        parts: list[bytes] = []
        append = parts.append
        held = list(map(values.__getitem__, names))
        # Most fields hold the very default object: those are passed over without a loop in Python.
        for (_, presence, default, write), value in compress(
            zip(steps, held, strict=True), map(is_not, held, defaults)
        ):
            if value is None or (not presence and value == default):
                continue
            write(append, value)
        append(values["_unknown_fields"])
        return b"".join(parts)

    _ENCODERS[kind] = encode_fields
    return encode_fields


def _writer(field: "FieldMetadata") -> Write:
    kind = field.proto_type
    if kind == "map":
        assert field.map_meta is not None
        return _map_writer(field.number, *field.map_meta)
    payload = _payload(field)
    if field.repeated:
        if kind in _VARINTS or kind in _ZIGZAG or kind in _FIXED:
            return _packed_writer(field.number, payload)
        return _repeated_writer(_tag(field.number, kind), payload)
    return _single_writer(_tag(field.number, kind), kind, payload)


def _single_writer(tag: bytes, kind: str, payload: Payload) -> Write:
    if not _is_delimited(kind):

        def write_number(append: Append, value: Any) -> None:
            append(tag + payload(value))

        return write_number

    def write(append: Append, value: Any) -> None:
        data = payload(value)
        size = len(data)
        append(tag + (_SHORT[size] if size < 128 else _varint(size)))
        append(data)

    return write


def _repeated_writer(tag: bytes, payload: Payload) -> Write:
    def write(append: Append, values: Iterable[Any]) -> None:
        for value in values:
            data = payload(value)
            size = len(data)
            append(tag + (_SHORT[size] if size < 128 else _varint(size)))
            append(data)

    return write


def _packed_writer(number: int, payload: Payload) -> Write:
    tag = _varint(number << 3 | _WIRE_LENGTH)

    def write(append: Append, values: Iterable[Any]) -> None:
        data = b"".join(map(payload, values))
        append(tag + _varint(len(data)))
        append(data)

    return write


def _map_writer(number: int, key: "FieldMetadata", value: "FieldMetadata") -> Write:
    tag = _varint(number << 3 | _WIRE_LENGTH)
    write_key = _single_writer(_tag(1, key.proto_type), key.proto_type, _payload(key))
    write_value = _single_writer(_tag(2, value.proto_type), value.proto_type, _payload(value))

    def write(append: Append, values: dict[Any, Any]) -> None:
        for k, v in values.items():
            entry: list[bytes] = []
            write_key(entry.append, k)
            write_value(entry.append, v)
            data = b"".join(entry)
            append(tag + _varint(len(data)))
            append(data)

    return write


def _payload(field: "FieldMetadata") -> Payload:
    """The function that encodes one value of a field, without tag and length."""
    kind = field.proto_type
    if kind in _FIXED:
        return _FIXED[kind]
    if kind in _VARINTS:
        return _varint
    if kind in _ZIGZAG:
        return _zigzag
    if kind == "string":
        return str.encode
    if kind == "bytes":
        return bytes
    if kind != "message":
        raise TypeError(f"fields of type {kind} cannot be encoded")
    if field.unwrap is None:
        return _payload_of_message
    wrapper: Any = field.unwrap()

    # Durations and wrapped numbers are few and small: each value is converted once.
    @lru_cache(maxsize=1024)
    def wrapped(value: Any) -> bytes:
        return encode(wrapper.from_wrapped(value))

    return wrapped


def _is_delimited(kind: str) -> bool:
    return kind in ("string", "bytes", "message", "map")


def _tag(number: int, kind: str) -> bytes:
    if _is_delimited(kind):
        wire = _WIRE_LENGTH
    elif kind in _FIXED:
        wire = _WIRE_64 if kind in ("double", "fixed64", "sfixed64") else _WIRE_32
    else:
        wire = _WIRE_VARINT
    return _varint(number << 3 | wire)


def _zigzag(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else (value << 1) ^ ~0)


def _varint(value: int) -> bytes:
    if 0 <= value < 128:
        return _SHORT[value]
    if value < 0:
        if value < -(1 << 63):
            raise ValueError(f"{value} does not fit 64 bits")
        value += 1 << 64
    out = bytearray()
    while value > 127:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)
    return bytes(out)
