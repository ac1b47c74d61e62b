"""A valid example of every model, built from the descriptions of its fields.

A field's own `examples` come first, then its default, then a value of its type. A required field that
cannot be guessed needs `Field(examples=[…])`.
"""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from schemas.message import Message

M = TypeVar("M", bound=BaseModel)

_ID = "01936f8e-6b00-7000-8000-000000000001"
_TIME = "2026-11-21T02:30:00.000000Z"
_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

_BY_FIELD: dict[str, Any] = {
    "organization": "acme",
    "project": "shop",
    "environment": "development",
    "gateway": "local",
    "gateways": ["local"],
    "deployment": _ID,
    "by": _ID,
    "at": _TIME,
    "requested_at": _TIME,
    "decided_at": _TIME,
    "digest": _DIGEST,
    "sha256": _DIGEST,
    "token_digest": _DIGEST,
    "subject": "organizations/acme/apis/orders",
    "command": "io.signalbox.api.command.publish.v1",
    "node": "edge-1",
    "form": "signalbox.io/v1",
}
"""Example values by field name, for all models."""

_NAMES = {
    "organization": "acme",
    "project": "shop",
    "environment": "development",
    "gateway": "local",
    "status": "local",
    "deployment": _ID,
    "command": _ID,
}
"""The `name` of messages by aggregate."""

_PLAIN: tuple[tuple[type, Any], ...] = ((str, "text"), (int, 1), (bool, True), (float, 1.0))


def example(model: type[M]) -> M:
    """The smallest example with at least one field. Raises ValueError naming the field that has no valid
    example."""
    required = {n: _value(model, n, f) for n, f in model.model_fields.items() if f.is_required()}
    if "name" in model.model_fields and issubclass(model, Message):
        required["name"] = _NAMES.get(model.aggregate, required.get("name", "orders"))
    optional = [n for n, f in model.model_fields.items() if not f.is_required() and n != "name"]
    complaint: ValidationError | None = None
    for extra in (None, *optional):
        given = dict(required)
        if extra is not None:
            given[extra] = _value(model, extra, model.model_fields[extra])
        try:
            return model.model_validate(given)
        except ValidationError as error:
            complaint = complaint or error
    raise ValueError(f"{model.__name__} needs examples on its fields: {complaint}") from complaint


def _value(model: type[BaseModel], name: str, field: FieldInfo) -> Any:
    """The first of the field's candidates that is valid."""
    probe = create_model("Probe", value=(field.annotation or Any, field))
    for candidate in _candidates(name, field):
        try:
            probe.model_validate({"value": candidate})
        except ValidationError:
            continue
        return candidate
    raise ValueError(f"{model.__name__}.{name} needs Field(examples=[...])")


def _candidates(name: str, field: FieldInfo) -> Iterator[Any]:
    if name in _BY_FIELD:
        yield _BY_FIELD[name]
    yield from field.examples or ()
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is not PydanticUndefined and default is not None:
        yield default
    yield _of(field.annotation)


def _of(annotation: Any) -> Any:
    """A value of a type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        found = [e for a in arguments[1:] if isinstance(a, FieldInfo) for e in a.examples or ()]
        return found[0] if found else _of(arguments[0])
    if origin is Literal:
        return arguments[0]
    if origin is tuple:
        return [_of(arguments[0])]
    if origin is dict:
        return {}
    if origin in (Union, types.UnionType):
        return _of(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return example(annotation).model_dump(mode="json", exclude_none=True)
    return next((value for kind, value in _PLAIN if annotation is kind), None)
