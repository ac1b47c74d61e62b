"""The Avro type of a model's field, and the conversion of its JSON-ready data in both directions."""

import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import orjson
from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from schemas.codecs.compatibility import FREE_JSON, Schema
from schemas.message import Message

NAMESPACE = "io.signalbox"


class Inexpressible(TypeError):
    """The type of a model's field has no Avro form."""


@dataclass(frozen=True, slots=True)
class AvroType:
    """One type: its Avro schema (a record already in the given set is only named), and the conversion of its
    values from JSON-ready data to fastavro's data (`pack`) and back (`unpack`)."""

    schema: Callable[[set[str]], Any]
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]


def same(value: Any) -> Any:
    return value


def _to_text(value: Any) -> str:
    return orjson.dumps(value).decode()


_FREE = AvroType(lambda _: {"type": "string", FREE_JSON: True}, _to_text, orjson.loads)


def _scalar(name: str) -> AvroType:
    return AvroType(lambda _: name, same, same)


_SCALARS = {bool: _scalar("boolean"), int: _scalar("long"), float: _scalar("double"), str: _scalar("string")}


def avro_type_of(annotation: Any) -> AvroType:
    """Raises Inexpressible."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return avro_type_of(arguments[0])
    if annotation is Any:
        return _FREE
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return record(annotation)
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if origin is Literal and all(isinstance(a, str) for a in arguments):
        return _SCALARS[str]
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _array(avro_type_of(arguments[0]))
    if origin is dict and avro_type_of(arguments[0]) is _SCALARS[str]:
        return _FREE if arguments[1] is Any else _map(avro_type_of(arguments[1]))
    if origin in (Union, types.UnionType) and len(arguments) == 2 and types.NoneType in arguments:
        return _optional(avro_type_of(next(a for a in arguments if a is not types.NoneType)))
    raise Inexpressible(f"{annotation} has no Avro form")


def _array(item: AvroType) -> AvroType:
    return AvroType(
        lambda named: {"type": "array", "items": item.schema(named)},
        lambda values: [item.pack(v) for v in values],
        lambda values: [item.unpack(v) for v in values],
    )


def _map(item: AvroType) -> AvroType:
    return AvroType(
        lambda named: {"type": "map", "values": item.schema(named)},
        lambda values: {k: item.pack(v) for k, v in values.items()},
        lambda values: {k: item.unpack(v) for k, v in values.items()},
    )


def _optional(inner: AvroType) -> AvroType:
    return AvroType(
        lambda named: ["null", inner.schema(named)],
        lambda value: None if value is None else inner.pack(value),
        lambda value: None if value is None else inner.unpack(value),
    )


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    form: AvroType
    default: Any
    """Packed; `PydanticUndefined` when the field is required."""

    def schema(self, named: set[str]) -> Schema:
        kind = self.form.schema(named)
        if self.default is PydanticUndefined:
            return {"name": self.name, "type": kind}
        if isinstance(kind, list) and self.default is not None:
            kind = cast("list[Any]", kind)[::-1]  # a default belongs to the first branch
        return {"name": self.name, "type": kind, "default": self.default}


@cache
def record(model: type[BaseModel]) -> AvroType:
    """The Avro type of a model. Raises Inexpressible, whose text names the field."""
    name = full_name(model)
    members: list[_Field] = []
    for field_name, info in model.model_fields.items():
        try:
            form = avro_type_of(info.annotation)
        except Inexpressible as error:
            raise Inexpressible(f"{model.__name__}.{field_name}: {error}") from error
        default = info.get_default(call_default_factory=True, validated_data={})
        if default is not PydanticUndefined:
            default = form.pack(to_jsonable_python(default))
        members.append(_Field(field_name, form, default))

    def schema(named: set[str]) -> Any:
        if name in named:
            return name
        named.add(name)
        record: Schema = {"type": "record", "name": name, "fields": [m.schema(named) for m in members]}
        return {**record, "signalbox.type": model.type()} if issubclass(model, Message) else record

    def pack(value: dict[str, Any]) -> dict[str, Any]:
        return {m.name: m.form.pack(value[m.name]) for m in members if m.name in value}

    def unpack(value: dict[str, Any]) -> dict[str, Any]:
        # A default may break the field's own rule (an empty name means "left out"), so the model sets it.
        return {m.name: m.form.unpack(value[m.name]) for m in members if value[m.name] != m.default}

    return AvroType(schema, pack, unpack)


def full_name(model: type[BaseModel]) -> str:
    """The Avro name of a model: of a message by aggregate and verb, of a value by its class."""
    if issubclass(model, Message):
        words = f"{model.aggregate}_{model.verb}".replace("-", "_").split("_")
        return f"{NAMESPACE}.{''.join(word.capitalize() for word in words)}"
    return f"{NAMESPACE}.value.{model.__name__}"
