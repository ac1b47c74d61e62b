"""Valid values of any model as hypothesis strategies, from its JSON schema."""

import re
from functools import cache
from typing import Any, TypeVar

from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from schemas.message import Command
from tests.schemas.envelopes import json_objects_of

M = TypeVar("M", bound=BaseModel)

ANY = st.characters(codec="utf-8")
VISIBLE = st.characters(
    codec="utf-8",
    exclude_categories=("Cc", "Zl", "Zp"),
    exclude_characters="\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
)
"""The characters of commands, which refuse control characters and line separators."""
_LONG = 2**63


def models(model: type[M]) -> st.SearchStrategy[M]:
    """All optional fields come and go; rules across fields are met by trying again."""
    return _models(model)


@cache
def _models(model: type[Any]) -> st.SearchStrategy[Any]:
    schema = model.model_json_schema()
    values = _Values(schema.get("$defs", {}), VISIBLE if issubclass(model, Command) else ANY)
    return values.of(schema).map(lambda data: _valid(model, data)).filter(_is_model)


def _valid(model: type[M], data: Any) -> Any:
    try:
        return model.model_validate(data)
    except ValidationError:
        return None


def _is_model(value: Any) -> bool:
    return value is not None


class _Values:
    """The values of JSON schemas. Each definition becomes one strategy, however often it is referred to."""

    def __init__(self, definitions: dict[str, Any], characters: st.SearchStrategy[str]) -> None:
        self._definitions = definitions
        self._characters = characters
        self._json_objects = json_objects_of(characters)
        self._made: dict[str, st.SearchStrategy[Any]] = {}

    def of(self, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
        if "$ref" in schema:
            return self._defined(schema["$ref"].rpartition("/")[2])
        if "anyOf" in schema:
            return st.one_of([self.of(branch) for branch in schema["anyOf"]])
        if "const" in schema:
            return st.just(schema["const"])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        if schema["type"] == "array":
            return st.lists(self.of(schema["items"]), min_size=schema.get("minItems", 0), max_size=2)
        if schema["type"] == "object":
            return self._object(schema)
        if schema["type"] == "string":
            return self._string(schema)
        return {
            "null": st.none(),
            "boolean": st.booleans(),
            "number": st.floats(allow_nan=False, allow_infinity=False),
            "integer": st.integers(schema.get("minimum", -_LONG), schema.get("maximum", _LONG - 1)),
        }[schema["type"]]

    def _defined(self, name: str) -> st.SearchStrategy[Any]:
        if name not in self._made:
            self._made[name] = self.of(self._definitions[name])
        return self._made[name]

    def _object(self, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
        if "properties" not in schema:
            values = schema.get("additionalProperties", True)
            if values is True:
                return self._json_objects
            return st.dictionaries(st.text(self._characters), self.of(values), max_size=3)
        fields = {name: self.of(field) for name, field in schema["properties"].items()}
        required = set(schema.get("required", ()))
        return st.fixed_dictionaries(
            {n: s for n, s in fields.items() if n in required},
            optional={n: s for n, s in fields.items() if n not in required},
        )

    def _string(self, schema: dict[str, Any]) -> st.SearchStrategy[str]:
        least, most = schema.get("minLength", 0), schema.get("maxLength", 1000)
        if "pattern" in schema:
            exact = re.compile(schema["pattern"].replace("$", r"\Z"))
            matching = st.from_regex(exact, fullmatch=True, alphabet=self._characters)
            return matching.filter(lambda text: least <= len(text) <= most)
        return st.text(self._characters, min_size=least, max_size=min(most, 30))
