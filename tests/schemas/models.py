"""Valid values of any model as hypothesis strategies, from its JSON schema."""

import re
from typing import Any, TypeVar

from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tests.schemas.envelopes import json_objects

M = TypeVar("M", bound=BaseModel)

_LETTERS = st.characters(codec="utf-8", exclude_categories=("Cs",))
_LONG = 2**63


def models(model: type[M]) -> st.SearchStrategy[M]:
    """All optional fields come and go; rules across fields are met by trying again."""
    schema = model.model_json_schema()
    return _of(schema, schema.get("$defs", {})).map(lambda data: _valid(model, data)).filter(_is_model)


def _valid(model: type[M], data: Any) -> Any:
    try:
        return model.model_validate(data)
    except ValidationError:
        return None


def _is_model(value: Any) -> bool:
    return value is not None


def _of(schema: dict[str, Any], defs: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _of(defs[schema["$ref"].rpartition("/")[2]], defs)
    if "anyOf" in schema:
        return st.one_of([_of(branch, defs) for branch in schema["anyOf"]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "array":
        return st.lists(_of(schema["items"], defs), min_size=schema.get("minItems", 0), max_size=2)
    if schema["type"] == "object":
        return _object(schema, defs)
    if schema["type"] == "string":
        return _string(schema)
    return {
        "null": st.none(),
        "boolean": st.booleans(),
        "number": st.floats(allow_nan=False, allow_infinity=False),
        "integer": st.integers(schema.get("minimum", -_LONG), schema.get("maximum", _LONG - 1)),
    }[schema["type"]]


def _object(schema: dict[str, Any], defs: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "properties" not in schema:
        values = schema.get("additionalProperties", True)
        if values is True:
            return json_objects
        return st.dictionaries(st.text(_LETTERS), _of(values, defs), max_size=3)
    fields = {name: _of(field, defs) for name, field in schema["properties"].items()}
    required = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {n: s for n, s in fields.items() if n in required},
        optional={n: s for n, s in fields.items() if n not in required},
    )


def _string(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 1000)
    if "pattern" in schema:
        exact = re.compile(schema["pattern"].replace("$", r"\Z"))
        return st.from_regex(exact, fullmatch=True, alphabet=_LETTERS).filter(lambda s: len(s) <= most)
    return st.text(_LETTERS, min_size=least, max_size=min(most, 30))
